"""Questions of one node that are decided together: up the local rungs side by side, then each its own way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from cascade.ask import Ask, Decided
from cascade.bundle import Bundle
from cascade.errors import CascadeError
from cascade.rollout.afterwards import Afterwards
from cascade.rollout.alarm_counts import Escalation
from cascade.rungs.protocol import Answer
from cascade.server.decision_ids import new_decision_ids
from cascade.server.decision_log import to_log
from cascade.server.local import Walk, walk_local
from cascade.server.node import Node
from cascade.server.status import known
from cascade.server.teacher import Started, ask_teacher, no_longer_awaited, teacher_answer, when_answered
from cascade.traffic import Decision, TrafficStore

_log = logging.getLogger(__name__)

_NOT_ASKED = Answer()


class Together:
    """Decides questions, logs what happened, and hands each on once it is decided.

    Parameters
    ----------
    node : Node
    asks : sequence of Ask
        Of that node.
    store : TrafficStore
    afterwards : Afterwards
    tell : callable
        Told each question's place in `asks` and its result, once.
    """

    def __init__(
        self,
        node: Node,
        asks: Sequence[Ask],
        store: TrafficStore,
        afterwards: Afterwards,
        tell: Callable[[int, Decided | CascadeError], object],
    ) -> None:
        self._node, self._asks, self._store = node, asks, store
        self._afterwards = afterwards
        self._tell = tell
        self._open = set(range(len(asks)))
        self._began = time.time()
        self._ids = new_decision_ids(len(asks))
        self._served = node.serving.of_each([ask.context for ask in asks], self._key)

    def _key(self, i: int) -> str:
        """Give what decides a question's place among those that a rollout serves."""
        ask = self._asks[i]
        return ask.context.get("session") or ask.request_id or self._ids[i]

    def run(self, later: Callable[[Callable[[], None]], object], slow: Callable[[], object]) -> None:
        """Decide them all. What comes after the teacher's answer is given to `later`. Raises nothing.

        Parameters
        ----------
        later : callable
            Given, once the teacher has answered, what is to be called then; that tells.
        slow : callable
            Called before the first rung that takes long.
        """
        try:
            walks = self._walk(slow)
            up = sorted(i for i, walk in walks.items() if not walk.rung)
            for i in [i for i in up if walks[i].left]:  # neither settled nor escalated: nothing to count
                up.remove(i)
                self._finish([i], [walks[i]], no_longer_awaited(self._asks[i], walks[i]))
            # Counted before the teacher is waited for, see `Afterwards.walked`; asked before any is.
            begun = {i: self._escalate(i, walks[i]) for i in up}
            asked = []
            for i in up:
                try:
                    asked.append((i, ask_teacher(self._node, self._asks[i], walks[i])))
                except Exception as error:  # of this one, and those who are decided with it are not to blame
                    self._fail(error, [i])
            for i, started in asked:
                answered = partial(self._by_teacher, i, walks[i], started, begun[i])
                when_answered(started, partial(later, answered))
                self._open.discard(i)
        except Exception as error:
            self._fail(error, sorted(self._open))

    def _walk(self, slow: Callable[[], object]) -> dict[int, Walk]:
        """Take each request up the local rungs of the bundle that serves it; those of one bundle together."""
        node, asks = self._node, self._asks
        walks: dict[int, Walk] = {}
        places: dict[int, list[int]] = {}
        for i, each in enumerate(self._served):
            places.setdefault(id(each.bundle), []).append(i)
        for at in places.values():
            bundle = self._served[at[0]].bundle
            if bundle is None:
                walks.update({i: Walk() for i in at})
                continue

            def settled(
                among: Sequence[int], some: Sequence[Walk], at: list[int] = at, bundle: Bundle = bundle
            ) -> None:
                self._afterwards.walked(
                    node.name, bundle, [walk.attempts for walk in some], [asks[at[k]].text for k in among],
                    True, [walk.in_time for walk in some],
                )  # fmt: skip
                self._finish([at[k] for k in among], some)

            some = walk_local(
                [asks[i] for i in at], bundle, node.contract, node.validators, node.latency, node.redactor,
                settled, slow,
            )  # fmt: skip
            walks.update(zip(at, some, strict=True))
        return walks

    def _escalate(self, i: int, walk: Walk) -> Sequence[Escalation]:
        """Count a request that goes up to the teacher; give what is to be told what became of it."""
        bundle, text = self._served[i].bundle, self._asks[i].text
        if bundle is None:
            return ()
        node = self._node.name
        return self._afterwards.walked(node, bundle, [walk.attempts], [text], False, [walk.in_time])

    def _by_teacher(self, i: int, walk: Walk, started: Started, begun: Sequence[Escalation]) -> None:
        try:
            error, answer = teacher_answer(self._node, self._asks[i], walk, started)
            for escalation in begun:
                escalation.ended(error is None)
            self._finish([i], [walk], error, answer)
        except Exception as unforeseen:
            self._answer(i, known(unforeseen))

    def _finish(
        self,
        places: Sequence[int],
        walks: Sequence[Walk],
        error: CascadeError | None = None,
        by_teacher: Answer | None = None,
    ) -> None:
        """Log decisions, look after them, and tell of them.

        Parameters
        ----------
        places : sequence of int
            Theirs, and in the same order:
        walks : sequence of Walk
            How they went up the local rungs.
        error : CascadeError, optional
            Why there is no answer.
        by_teacher : Answer, optional
            The teacher's, where it was asked.
        """
        node, asks, ids, served = self._node, self._asks, self._ids, self._served
        began, now, teacher = self._began, time.time(), node.teacher.name
        paid = by_teacher or _NOT_ASKED
        finished: dict[int, Decided] = {}
        logged: list[Decision] = []
        for i, walk in zip(places, walks, strict=True):
            ask, by = asks[i], served[i]
            try:
                decided = Decided(
                    ids[i],
                    None if error else walk.output,
                    "" if error else walk.rung,
                    walk.confidence,
                    "" if by.bundle is None else by.bundle.version,
                    by.mode,
                    tuple(walk.attempts),
                    walk.usd + paid.usd,
                    walk.input_tokens + paid.input_tokens,
                    walk.output_tokens + paid.output_tokens,
                    ask.request_id,
                )
                logged.append(to_log(ask, decided, teacher, began, now, error))
                finished[i] = decided
            except Exception as unforeseen:  # of this one, and those who are decided with it are not to blame
                self._answer(i, known(unforeseen))
        self._store.record(*logged)
        rates: dict[int, float] = {}
        for i, decided in finished.items():
            ask, by, result = asks[i], served[i], error or decided
            try:
                if decided.usd and node.quotas is not None:
                    node.quotas.spend(ask.context.get("tenant", ""), decided.usd)
                if error is None:
                    rate = rates.get(id(by))
                    if rate is None:
                        rate = rates[id(by)] = self._afterwards.rate(node.name, by)
                    self._afterwards.take(ask, decided, by, by_teacher is not None, rate)
            except Exception as unforeseen:  # likewise
                result = known(unforeseen)
            self._answer(i, result)

    def _fail(self, error: Exception, places: Sequence[int]) -> None:
        """Tell some that something went wrong that nobody foresaw, unless they were told an answer."""
        failure = known(error)
        for i in places:
            if i in self._open:
                self._answer(i, failure)

    def _answer(self, i: int, result: Decided | CascadeError) -> None:
        self._open.discard(i)
        try:
            self._tell(i, result)
        except Exception:  # of this caller's, and the others wait
            _log.exception("node %s: an answer could not be handed on", self._node.name)
