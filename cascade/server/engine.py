"""The decision engine: takes valid requests through a node's ladder and logs what happened."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue

from cascade.ask import Ask, Decided
from cascade.bundle import Bundle
from cascade.config import Config
from cascade.contract import Contract, JsonValue
from cascade.errors import CascadeError, InvalidInput, UnknownDecision, UnknownNode
from cascade.flags import open_flags
from cascade.redaction import Redactor
from cascade.server.decision_ids import find_decision
from cascade.server.exchangeability import LiveWatch
from cascade.server.gate import ANYONE, Caller
from cascade.server.node import Encoders, Node, build_nodes
from cascade.server.quotas import Quotas
from cascade.server.request_ids import Claim, Follower, RequestIds, repeated
from cascade.server.rollouts import Rollouts
from cascade.server.status import known
from cascade.server.together import Together
from cascade.traffic import Outcome, TrafficStore
from cascade.waiting import waiting

_log = logging.getLogger(__name__)

_TURN_SECONDS = 0.2


class Engine:
    """Answers questions for all configured nodes.

    Parameters
    ----------
    config : Config
    store : TrafficStore
    refresh_seconds : float
        How often bundles are looked at; 0 for never by itself.
    encoders : Encoders, optional
        Encoders that are open already; see `cascade.server.preload`.
    quotas : Quotas, optional
        What tenants may spend.
    redactor : Redactor, optional
        The store's: what rungs read is logged a moment later, and need not be looked through again.
    """

    def __init__(
        self,
        config: Config,
        store: TrafficStore,
        refresh_seconds: float = 1.0,
        encoders: Encoders | None = None,
        quotas: Quotas | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        watched = refresh_seconds > 0
        self.flags = open_flags(
            config.flags_path, list(config.nodes), config.flags_provider, 0.5 if watched else 0.0
        )
        self.nodes: dict[str, Node] = build_nodes(
            config, self.flags, encoders or Encoders(config), quotas, redactor
        )
        self._store = store
        self._ids = RequestIds(store)
        self._stop = threading.Event()
        self._many = threading.Lock()
        self.rollouts = Rollouts(config, store, self.nodes)
        self.refresh()
        self.live_watch = LiveWatch(store, self._loaded, self.rollouts.known, self.rollouts.store.append)
        if watched:
            self.rollouts.start()
            self.live_watch.start()

    def _loaded(self) -> list[tuple[Bundle, float, float]]:
        """Give the bundles in memory with their nodes' settings of the test of live traffic."""
        return [
            (bundle, node.config.exchangeability.level, node.config.exchangeability.every_seconds)
            for node in self.nodes.values()
            for bundle in node.serving.shelf.bundles()
        ]

    def refresh(self) -> None:
        """Serve what the nodes' pointers, flags and rollouts say now; returns once it is in memory."""
        self.rollouts.refresh()

    def served(self) -> dict[tuple[str, str], bool]:
        """Give node and version of each bundle that serves, and, not serving, of those that should."""
        found = [(name, node.bundle, node.missing) for name, node in self.nodes.items()]
        return {
            (name, bundle.version if bundle else missing): bundle is not None
            for name, bundle, missing in found
            if bundle or missing
        }

    def ready(self) -> bool:
        """Say whether requests are taken."""
        return not self._stop.is_set()

    def close(self) -> None:
        """Stop taking requests and let go of the teachers' connections. The store stays open."""
        self._stop.set()
        self.rollouts.close()
        self.flags.close()
        self.live_watch.close()
        for node in self.nodes.values():
            node.teacher.close()

    def contract(self, node: str) -> Contract:
        """Give a node's contract.

        Raises
        ------
        UnknownNode
        """
        return self._node(node).contract

    def _node(self, name: str) -> Node:
        node = self.nodes.get(name)
        if node is None:
            raise UnknownNode(name, list(self.nodes))
        return node

    def decide(self, ask: Ask) -> Decided:
        """Decide one question.

        Raises
        ------
        CascadeError
            The question has no answer; the class says why.
        """
        result = self.decide_many([ask])[0]
        if isinstance(result, CascadeError):
            raise result
        return result

    def decide_many(self, asks: Sequence[Ask]) -> list[Decided | CascadeError]:
        """Decide questions together; each succeeds or fails on its own."""
        results: dict[int, Decided | CascadeError] = {}
        left: SimpleQueue[Callable[[], None]] = SimpleQueue()
        with self._turn(asks) as slow:
            self.decide_each(asks, results.__setitem__, left.put, slow)
        while len(results) < len(asks):
            with waiting():
                work = left.get()
            work()
        return [results[i] for i in range(len(asks))]

    @contextmanager
    def _turn(self, asks: Sequence[Ask]) -> Iterator[Callable[[], object]]:
        """Take turns with others who bring many questions, until the first slow step. Gives what ends it.

        Side by side they would only take the interpreter and the caches from each other. Nobody waits long:
        what may hang takes no turn, and one that lasts is not waited for.
        """
        mine = len(asks) > 1 and not any(self.alone(node) for node in {ask.node for ask in asks})
        if mine and not self._many.acquire(blocking=False):
            with waiting():
                mine = self._many.acquire(timeout=_TURN_SECONDS)

        def end() -> None:
            nonlocal mine
            if mine:
                mine = False
                self._many.release()

        try:
            yield end
        finally:
            end()

    def alone(self, node: str) -> bool:
        """Whether a node's questions are better not decided together with those of other callers.

        So it is where a step may hang: flags of a vendor, validators of the node's own, another's chat model.
        And where the first step takes long: a ladder that begins with a slow rung.
        """
        found = self.nodes.get(node)
        return found is not None and (self.flags.of_vendor or found.alone)

    def decide_each(
        self,
        asks: Sequence[Ask],
        tell: Callable[[int, Decided | CascadeError], object],
        later: Callable[[Callable[[], None]], object],
        slow: Callable[[], object] = lambda: None,
    ) -> None:
        """Decide questions together, and tell of each as soon as it is decided. Raises nothing.

        Parameters
        ----------
        asks : sequence of Ask
        tell : callable
            Told each question's place in `asks` and its result.
        later : callable
            Given, in whatever thread, what is left to do once a question's teacher has answered, or another
            caller is done who was having the same one decided; that tells at its end.
        slow : callable
            Called before the first step that takes long.
        """
        fresh: dict[str, dict[int, Claim | None]] = {}
        followed: list[tuple[int, Claim]] = []
        for i, ask in enumerate(asks):
            if ask.node not in self.nodes:
                tell(i, UnknownNode(ask.node, list(self.nodes)))
                continue
            mine = None
            if ask.request_id:
                answered, mine, other = self._ids.claim(ask)
                if answered is not None:
                    tell(i, repeated(ask, answered))
                    continue
                if other is not None:
                    followed.append((i, other))
                    continue
            fresh.setdefault(ask.node, {})[i] = mine
        for name, claims in fresh.items():
            self._decide_node(self.nodes[name], asks, claims, tell, later, slow)
        for i, other in followed:
            # In no thread until then: if those who follow held them all, none would be left for the work that
            # they wait for.
            follower = self._follower(asks[i], partial(tell, i), later)
            if (on_wait := asks[i].on_wait) is not None:
                on_wait()
            self._ids.follow(other, follower)

    def _follower(
        self,
        ask: Ask,
        tell: Callable[[Decided | CascadeError], object],
        later: Callable[[Callable[[], None]], object],
    ) -> Follower:
        """Make one who waits for what another caller is told, and decides where that one cannot."""

        def told(result: Decided | CascadeError) -> None:
            def pass_on() -> None:
                tell(repeated(ask, result))

            later(pass_on)

        def lead(claim: Claim) -> None:
            node = self.nodes[ask.node]
            claims: dict[int, Claim | None] = {0: claim}
            later(lambda: self._decide_node(node, [ask], claims, lambda _, result: tell(result), later))

        return Follower(ask, told, lead)

    def _decide_node(
        self,
        node: Node,
        asks: Sequence[Ask],
        claims: dict[int, Claim | None],
        tell: Callable[[int, Decided | CascadeError], object],
        later: Callable[[Callable[[], None]], object],
        slow: Callable[[], object] = lambda: None,
    ) -> None:
        """Decide the questions at those places, all of one node, for which nobody has the answer."""
        places = list(claims)

        def release(at: int, result: Decided | CascadeError) -> None:
            i = places[at]
            mine = claims.pop(i, None)
            if mine is not None:
                self._ids.release(mine, result)
            tell(i, result)

        # Commonest: all are of one node, and none has a request id.
        done = tell if len(places) == len(asks) and not any(claims.values()) else release
        try:
            work = Together(node, [asks[i] for i in places], self._store, self.rollouts.afterwards, done)
        except Exception as error:
            for at in range(len(places)):
                done(at, known(error))
            return
        work.run(later, slow)

    def report(
        self,
        decision_id: str,
        output: JsonValue | None,
        right: bool | None,
        at: float | None,
        caller: Caller = ANYONE,
    ) -> str:
        """Record what turned out to be right. Returns once it is on disk.

        Raises
        ------
        UnknownDecision, InvalidInput, StoreError
        """
        decision = find_decision(self._store, decision_id)
        if decision is None or not caller.owns(decision.node, decision.context):
            raise UnknownDecision(f"no decision has the id {decision_id!r}")
        if output is not None and decision.node in self.nodes:
            broken = self.nodes[decision.node].contract.check(output)
            if broken is not None:
                raise InvalidInput("label" if isinstance(output, str) else "output", broken)
        outcome_id = f"o-{secrets.token_hex(12)}"
        when = at if at is not None else time.time()
        tenant = decision.context.get("tenant")
        future = self._store.report(
            Outcome(outcome_id, decision_id, when, output, right, decision.node, tenant)
        )
        with waiting():
            recorded = future.result()
        self.rollouts.afterwards.report(decision, output, right, when)
        return recorded
