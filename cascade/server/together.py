"""Questions of one node that are decided together: up the local rungs side by side, then each its own way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from cascade.ask import Ask, Decided
from cascade.errors import CascadeError
from cascade.rollout.afterwards import Afterwards
from cascade.rungs.protocol import Answer
from cascade.server.decision_ids import new_decision_id
from cascade.server.decision_log import to_log
from cascade.server.local import Walk, walk_local
from cascade.server.node import Node
from cascade.server.status import known
from cascade.server.teacher import Started, ask_teacher, teacher_answer, when_answered
from cascade.traffic import TrafficStore


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
        self._ids = [new_decision_id() for _ in asks]
        self._served = [
            node.serving.of(ask.context, ask.context.get("session") or ask.request_id or id_)
            for ask, id_ in zip(asks, self._ids, strict=True)
        ]

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
            up = [i for i, walk in enumerate(walks) if not walk.rung]
            # Counted before the teacher is waited for, see `Afterwards.walked`; asked before any is.
            for i in up:
                self._afterwards.walked(self._node.name, self._served[i], walks[i].attempts, False)
            asked = []
            for i in up:
                try:
                    asked.append((i, ask_teacher(self._node, self._asks[i], walks[i])))
                except Exception as error:  # of this one, and those who are decided with it are not to blame
                    self._fail(error, [i])
            for i, started in asked:
                when_answered(started, partial(later, partial(self._by_teacher, i, walks[i], started)))
                self._open.discard(i)
        except Exception as error:
            self._fail(error, sorted(self._open))

    def _walk(self, slow: Callable[[], object]) -> list[Walk]:
        """Take each request up the local rungs of the bundle that serves it; those of one bundle together."""
        node, asks = self._node, self._asks
        walks = [Walk() for _ in asks]
        places: dict[int, list[int]] = {}
        for i, each in enumerate(self._served):
            places.setdefault(id(each.bundle), []).append(i)
        for at in places.values():
            bundle = self._served[at[0]].bundle
            if bundle is None:
                continue

            def settled(k: int, walk: Walk, at: list[int] = at) -> None:
                i = at[k]
                try:
                    self._afterwards.walked(node.name, self._served[i], walk.attempts, True)
                    self._finish(i, walk, None, Answer(), by_teacher=False)
                except Exception as error:  # likewise of this one
                    self._fail(error, [i])

            some = walk_local(
                [asks[i] for i in at], bundle, node.contract, node.validators, node.latency, node.redactor,
                settled, slow,
            )  # fmt: skip
            for i, walk in zip(at, some, strict=True):
                walks[i] = walk
        return walks

    def _by_teacher(self, i: int, walk: Walk, started: Started) -> None:
        try:
            error, answer = teacher_answer(self._node, self._asks[i], walk, started)
            self._finish(i, walk, error, answer, by_teacher=True)
        except Exception as unforeseen:
            self._tell(i, known(unforeseen))

    def _finish(
        self, i: int, walk: Walk, error: CascadeError | None, answer: Answer, by_teacher: bool
    ) -> None:
        node, ask, served = self._node, self._asks[i], self._served[i]
        decided = Decided(
            decision_id=self._ids[i],
            output=None if error else walk.output,
            rung="" if error else walk.rung,
            confidence=walk.confidence,
            bundle_version="" if served.bundle is None else served.bundle.version,
            mode=served.mode,
            attempts=tuple(walk.attempts),
            usd=walk.usd + answer.usd,
            input_tokens=walk.input_tokens + answer.input_tokens,
            output_tokens=walk.output_tokens + answer.output_tokens,
            request_id=ask.request_id,
        )
        if node.quotas is not None and decided.usd:
            node.quotas.spend(ask.context.get("tenant", ""), decided.usd)
        self._store.record(to_log(ask, decided, node, self._began, error))
        if error is None:
            self._afterwards.take(ask, decided, served, by_teacher)
        self._open.discard(i)
        self._tell(i, error or decided)

    def _fail(self, error: Exception, places: Sequence[int]) -> None:
        """Tell some that something went wrong that nobody foresaw, unless they were told an answer."""
        failure = known(error)
        for i in places:
            if i in self._open:
                self._open.discard(i)
                self._tell(i, failure)
