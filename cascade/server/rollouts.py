"""Puts the parts of rollouts together for the nodes of one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cascade.ask import Ask
from cascade.bundle import Bundle
from cascade.config import Config
from cascade.pointer import point_to
from cascade.policy.guard_settings import ALL
from cascade.rollout.afterwards import Afterwards
from cascade.rollout.alarm_board import AlarmBoard
from cascade.rollout.alarm_book import AlarmBook
from cascade.rollout.audit import Audited, Auditor
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.follow import Follower
from cascade.rollout.judge import Judge
from cascade.rollout.shadow import ShadowRunner
from cascade.rollout.state import NodeRollout
from cascade.rollout.watch import Watch
from cascade.server.latency import records
from cascade.server.local import Walk, walk_local
from cascade.server.node import Node, adopt, pointer_of, refresh
from cascade.traffic import TrafficStore


class Rollouts:
    """Shadow, audits, guard and the shared state, for all nodes.

    Parameters
    ----------
    config : Config
    traffic : TrafficStore
        The shared state lies in the same database.
    nodes : mapping of str to Node
    """

    def __init__(self, config: Config, traffic: TrafficStore, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes
        self._models = config.models_path
        # Beside the requests' own: a candidate's speed must not make a live rung look too slow.
        self._latency = {name: records(node.config.ladder) for name, node in nodes.items()}
        settings = config.rollout
        self.store = DatabaseRolloutStore(traffic)
        self.follower = Follower(self.store, list(nodes))
        self.alarms = AlarmBook(settings.alarms)
        bars = {name: node.config.bar for name, node in nodes.items()}
        self.judge = Judge(self.store, self.follower, bars, settings)
        self.auditor = Auditor(
            self.store,
            traffic,
            {name: Audited(node.teacher, node.contract.check) for name, node in nodes.items()},
            settings.audit.max_waiting,
            settings.audit.max_in_flight,
            settings.audit.daily_usd,
        )
        self.shadows = ShadowRunner(self._walk, self.store, settings.max_shadows_waiting)
        self.afterwards = Afterwards(self.judge, self.auditor, self.shadows, self.alarms, self._place_of)
        self.watch = Watch(
            self.follower,
            self.judge,
            self.alarms,
            AlarmBoard(traffic, self.auditor.owner),
            {name: node.serving for name, node in nodes.items()},
            self._adopt,
            self._load,
            lambda node, bundle: point_to(self._models, node, bundle),
            self._overdue,
            settings.poll_seconds,
        )

    def start(self) -> None:
        """Keep everything going in the background."""
        self.watch.start()
        self.auditor.start()
        self.shadows.start()

    def refresh(self) -> None:
        """Serve what pointers, flags and the shared state say now; takes as long as loading takes."""
        self.watch.follow()
        self.watch.load()

    def known(self, node: str) -> NodeRollout | None:
        """Give where a node's rollout stands, as far as it was read; None before the shared state was."""
        return self.follower.state(node) if self.follower.known else None

    def turn(self) -> None:
        """Do now, once, all that the background does: for those who want no background."""
        self.shadows.run_waiting()
        self.auditor.round()
        self.watch.follow()
        self.watch.judge()
        self.watch.load()

    def judgement(self, node: str, bundle: str) -> dict[str, Any] | None:
        """Give what the guard says about a bundle as JSON values; None where it has not judged it yet."""
        verdict, guard = self.judge.verdict(node, bundle), self.judge.guard(node, bundle)
        if verdict is None or guard is None:
            return None
        everything = guard.parts[ALL]
        return {
            "bundle": bundle,
            "action": str(verdict.action),
            "reason": verdict.reason,
            "audits": everything.audits,
            "disagreements": everything.disagreements,
            "agreement": everything.agreement,
            "evidence": verdict.evidence,
            "needed": verdict.needed,
            "audit_rate": self.judge.rate(node, bundle),
        }

    def close(self) -> None:
        """End everything that runs in the background."""
        self.watch.close()
        self.shadows.close()
        self.auditor.close()

    def _adopt(self, node: str) -> None:
        if self.follower.known:
            adopt(self.nodes[node], self._models, self.follower.state(node))

    def _overdue(self, node: str) -> str:
        pointer, problem = pointer_of(self.nodes[node], self._models)
        return "" if problem else self.follower.state(node).overdue(pointer)

    def _load(self, node: str, again: bool) -> None:
        if self.follower.known:
            refresh(self.nodes[node], self._models, self.follower.state(node), again)

    def _place_of(self, node: str, bundle: str) -> tuple[int, int]:
        state = self.follower.state(node)
        return state.step_of(bundle), state.life_of(bundle).seq

    def _walk(self, node: str, asks: Sequence[Ask], bundle: Bundle) -> list[Walk]:
        found = self.nodes[node]
        # What deadline there was has passed: the caller was answered.
        undated = [Ask(a.node, a.text, a.messages, a.context, "", a.choices) for a in asks]
        return walk_local(
            undated, bundle, found.contract, found.validators, self._latency[node], found.redactor
        )
