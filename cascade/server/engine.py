"""The decision engine: takes valid requests through a node's ladder and logs what happened."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from cascade.ask import Ask, Decided
from cascade.bundle import Bundle
from cascade.config import Config
from cascade.contract import Contract, JsonValue
from cascade.errors import CascadeError, InvalidInput, RungError, UnknownDecision, UnknownNode
from cascade.flags import open_flags
from cascade.rollout.serving import Served
from cascade.rungs.protocol import Answer
from cascade.server.decision_ids import find_decision, new_decision_id
from cascade.server.decision_log import to_log
from cascade.server.exchangeability import LiveWatch
from cascade.server.gate import ANYONE, Caller
from cascade.server.gone import CallerGone
from cascade.server.local import Walk, walk_local
from cascade.server.node import Encoders, Node, build_nodes
from cascade.server.quotas import Quotas
from cascade.server.request_ids import RequestIds
from cascade.server.rollouts import Rollouts
from cascade.server.teacher import ask_teacher, teacher_answer
from cascade.traffic import Outcome, TrafficStore
from cascade.waiting import waiting

_log = logging.getLogger(__name__)


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
    """

    def __init__(
        self,
        config: Config,
        store: TrafficStore,
        refresh_seconds: float = 1.0,
        encoders: Encoders | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        watched = refresh_seconds > 0
        self.flags = open_flags(
            config.flags_path, list(config.nodes), config.flags_provider, 0.5 if watched else 0.0
        )
        self.nodes: dict[str, Node] = build_nodes(config, self.flags, encoders or Encoders(config), quotas)
        self._store = store
        self._ids = RequestIds(store)
        self._stop = threading.Event()
        self.rollouts = Rollouts(config, store, self.nodes)
        self.refresh()
        self.live_watch = LiveWatch(store, self._loaded)
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
        results: list[Decided | CascadeError | None] = [None] * len(asks)
        fresh: dict[str, list[int]] = {}
        claimed: dict[int, Future[Decided]] = {}
        followed: list[tuple[int, Future[Decided]]] = []
        for i, ask in enumerate(asks):
            if ask.node not in self.nodes:
                results[i] = UnknownNode(ask.node, list(self.nodes))
                continue
            if ask.request_id:
                known, mine, other = self._ids.claim(ask)
                if known is not None:
                    results[i] = known
                    continue
                if other is not None:
                    followed.append((i, other))
                    continue
                if mine is not None:
                    claimed[i] = mine
            fresh.setdefault(ask.node, []).append(i)
        for name, at in fresh.items():
            for i, result in zip(
                at, self._decide_fresh(self.nodes[name], [asks[i] for i in at]), strict=True
            ):
                results[i] = result
                if i in claimed:
                    self._ids.release(asks[i], claimed[i], result)
        for i, future in followed:
            try:
                with waiting():
                    results[i] = future.result()
            except CallerGone:  # it was another caller who left, not this one
                results[i] = self.decide_many([asks[i]])[0]
            except CascadeError as error:
                results[i] = error
        return [r if r is not None else RungError("no answer") for r in results]

    def _decide_fresh(self, node: Node, asks: list[Ask]) -> list[Decided | CascadeError]:
        began = time.time()
        ids = [new_decision_id() for _ in asks]
        served = [
            node.serving.of(ask.context, ask.context.get("session") or ask.request_id or id_)
            for ask, id_ in zip(asks, ids, strict=True)
        ]
        walks = _walk(node, asks, served)
        for each, walk in zip(served, walks, strict=True):
            self.rollouts.afterwards.walked(node.name, each, walk.attempts, bool(walk.rung))
        up = [i for i, walk in enumerate(walks) if not walk.rung]
        futures = {i: ask_teacher(node, asks[i], walks[i]) for i in up}
        results: list[Decided | CascadeError] = []
        for i, (ask, walk) in enumerate(zip(asks, walks, strict=True)):
            error, answer = teacher_answer(node, ask, walk, futures[i]) if i in futures else (None, Answer())
            decided = Decided(
                decision_id=ids[i],
                output=None if error else walk.output,
                rung="" if error else walk.rung,
                confidence=walk.confidence,
                bundle_version="" if (bundle := served[i].bundle) is None else bundle.version,
                mode=served[i].mode,
                attempts=tuple(walk.attempts),
                usd=walk.usd + answer.usd,
                input_tokens=walk.input_tokens + answer.input_tokens,
                output_tokens=walk.output_tokens + answer.output_tokens,
                request_id=ask.request_id,
            )
            if node.quotas is not None and decided.usd:
                node.quotas.spend(ask.context.get("tenant", ""), decided.usd)
            self._store.record(to_log(ask, decided, node, began, error))
            if error is None:
                self.rollouts.afterwards.take(ask, decided, served[i], i in futures)
            results.append(error or decided)
        return results

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


def _walk(node: Node, asks: Sequence[Ask], served: Sequence[Served]) -> list[Walk]:
    """Take each request up the local rungs of the bundle that serves it; those of one bundle together."""
    first = served[0].bundle
    if all(each.bundle is first for each in served):
        if first is None:
            return [Walk() for _ in asks]
        return walk_local(asks, first, node.contract, node.validators, node.latency, node.redactor)
    walks = [Walk() for _ in asks]
    for bundle in {id(each.bundle): each.bundle for each in served}.values():
        if bundle is None:
            continue
        at = [i for i, each in enumerate(served) if each.bundle is bundle]
        part = [asks[i] for i in at]
        some = walk_local(part, bundle, node.contract, node.validators, node.latency, node.redactor)
        for i, walk in zip(at, some, strict=True):
            walks[i] = walk
    return walks
