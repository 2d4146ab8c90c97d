"""Lets the guard judge each bundle on the shared evidence, and writes what it decides."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cascade.bundle import Bundle
from cascade.config.rollout import AuditConfig, RolloutConfig
from cascade.config.schema import BarConfig
from cascade.errors import StoreError
from cascade.policy import steps
from cascade.policy.audit_rate import AuditSettings, audit_rate
from cascade.policy.guard import (
    Action,
    AuditRecord,
    GuardSettings,
    GuardState,
    Raised,
    Verdict,
    decide,
    new_guard,
    observe,
)
from cascade.policy.guarded_slices import GuardedSlices
from cascade.rollout.follow import Follower
from cascade.rollout.pace import DaySpending, SettledRate
from cascade.rollout.records import SavedGuard
from cascade.rollout.reported import Reported
from cascade.rollout.state import GUARD, Event, Life, NodeRollout
from cascade.rollout.store import RolloutStore

_log = logging.getLogger(__name__)

_AT_ONCE = 2_000
"""Evidence that one look takes in: a rollback elsewhere must not wait for it."""
_SAVE_EVERY = 200
_DAY = 86_400


def guard_settings(bar: BarConfig, shares: tuple[int, ...], slices: GuardedSlices) -> GuardSettings:
    """Give what the guard of a bundle tests.

    The margin at a step is the wider, the smaller the share that the step lets see the candidate.
    """
    margins = tuple(1.0 if share <= 1 else 0.5 if share <= 5 else 0.25 for share in shares[:-1])
    return GuardSettings(
        bar.agreement, 1 - bar.confidence, slices.names, margins=margins or (0.25,), slice_bars=slices.bars
    )


def audit_settings(config: AuditConfig) -> AuditSettings:
    """Give how much is audited, as the policy takes it."""
    return AuditSettings(config.ceiling, min(config.floor, config.ceiling), config.half, config.daily_usd)


@dataclass
class _Watched:
    """A bundle that the guard watches, and what it has taken in."""

    life: Life
    settings: GuardSettings
    state: GuardState
    read: int
    saved: int
    rate: float
    reported: Reported
    verdict: Verdict | None = None
    why_rate: str = ""


@dataclass
class Judge:
    """Judges the bundles of all nodes.

    Parameters
    ----------
    store : RolloutStore
    follower : Follower
    bars : mapping of str to BarConfig
        Of each node.
    config : RolloutConfig
    clock : callable
        Unix seconds.
    """

    store: RolloutStore
    follower: Follower
    bars: Mapping[str, BarConfig]
    config: RolloutConfig
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._generation = self.store.generation
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._settled_rate = SettledRate(self.store)
        self._spending = DaySpending(self.store)

    def rate(self, node: str, bundle: str) -> float:
        """Give the share of what a bundle settles that is audited now."""
        watched = self._watched.get((node, bundle))
        return self.config.audit.ceiling if watched is None else watched.rate

    def verdict(self, node: str, bundle: str) -> Verdict | None:
        """Give what the guard said last about a bundle."""
        watched = self._watched.get((node, bundle))
        return None if watched is None else watched.verdict

    def guard(self, node: str, bundle: str) -> GuardState | None:
        """Give what the guard knows about a bundle."""
        watched = self._watched.get((node, bundle))
        return None if watched is None else watched.state

    def look(
        self, node: str, bundles: Mapping[str, Bundle], alarms: Mapping[str, list[Raised]]
    ) -> list[Event]:
        """Judge a node's bundles on what is known by now, and write what follows.

        Parameters
        ----------
        node : str
        bundles : mapping of str to Bundle
            What can be served now.
        alarms : mapping of str to list of Raised
            Alarms that are raised about a bundle.

        Returns
        -------
        list of Event
            What was written by this call; empty where somebody else was faster.

        Raises
        ------
        StoreError
            The store failed; nothing is decided.
        """
        if self._generation != self.store.generation:  # places in the database before say nothing of this one
            self._begin_anew()
        written: list[Event] = []
        for version in sorted(bundles):
            state = self.follower.state(node)
            if version in state.barred:
                continue
            watched = self._take_in(node, version, bundles[version], state)
            step = state.step_of(version)
            verdict = decide(
                watched.settings, watched.state, step, watched.reported.blocks(_AT_ONCE),
                alarms.get(version, ()),
            )  # fmt: skip
            watched.verdict = verdict
            self._set_rate(node, watched, step)
            event = self._event(state, version, step, verdict)
            if event is not None and self.follower.write(event):
                written.append(event)
        for key in [k for k in self._watched if k[0] == node and k[1] not in bundles]:
            del self._watched[key]
        return written

    def _take_in(self, node: str, version: str, bundle: Bundle, state: NodeRollout) -> _Watched:
        life = state.life_of(version)
        watched = self._watched.get((node, version))
        if watched is None or watched.life != life:
            shares = state.rollout.shares if state.rollout is not None else steps.SHARES
            settings = guard_settings(self.bars[node], shares, bundle.guarded_slices)
            watched = self._restore(node, version, life, settings)
            self._watched[node, version] = watched
        evidence = self.store.evidence(node, version, watched.read, _AT_ONCE)
        for each in evidence:
            watched.read = each.seq
            if each.life not in (None, life.seq):  # it was settled before the last start, and audited after
                continue
            record = AuditRecord(
                each.seq, each.right, each.propensity, None, each.slices, each.step,
                verdict=each.source != "no-verdict",
            )  # fmt: skip
            watched.state = observe(watched.settings, watched.state, record)
        if watched.read - watched.saved >= _SAVE_EVERY:
            self._save(node, version, watched)
        return watched

    def _restore(self, node: str, version: str, life: Life, settings: GuardSettings) -> _Watched:
        after = life.evidence
        reported = Reported(self.store, node, version, life.decisions)
        # Requests ask for the rate while the guard still reads: nothing is known, and all would be too much.
        rate = self.config.audit.ceiling
        saved = self.store.guard(node, version)
        if saved is not None and saved.state.get("life") == life.seq:
            try:
                state = GuardState.from_json(settings, saved.state)
                return _Watched(life, settings, state, saved.seq, saved.seq, rate, reported)
            except (ValueError, KeyError, TypeError) as error:
                _log.info("node %s: the guard of %s replays its evidence: %s", node, version, error)
        return _Watched(life, settings, new_guard(settings), after, after, rate, reported)

    def _save(self, node: str, version: str, watched: _Watched) -> None:
        data = watched.state.to_json(watched.settings) | {"life": watched.life.seq}
        try:
            self.store.save_guard(SavedGuard(node, version, watched.read, data))
        except StoreError as error:  # only spares a replay
            _log.warning("node %s: the guard's state is not saved: %s", node, error)
        watched.saved = watched.read

    def _set_rate(self, node: str, watched: _Watched, step: int) -> None:
        audit, now = self.config.audit, self.clock()
        spent, count = self._spending.today(node, now)
        promotion = watched.state.promotion
        found = audit_rate(
            audit_settings(audit),
            promotion.audits if watched.state.step == step else 0,
            watched.state.evidence >= watched.settings.suspicious,
            spent,
            spent / count if count else 0.0,
            self._until_midnight(node, now),
        )
        watched.rate, watched.why_rate = found.rate, found.reason

    def _until_midnight(self, node: str, now: float) -> float:
        """Expect as much to be settled in the rest of the day as was in the last minutes."""
        return self._settled_rate.per_second(node, now) * (_DAY - now % _DAY)

    def _event(self, state: NodeRollout, version: str, step: int, verdict: Verdict) -> Event | None:
        data = {"step": step, "trigger": verdict.trigger, "evidence": round(verdict.evidence, 3)}
        rollout = state.rollout
        if verdict.action is Action.ROLL_BACK:
            return _event(state, "rollback", verdict.reason, version, data, self.clock())
        if rollout is None or version != state.candidate:
            return None
        if verdict.action is Action.PROMOTE and rollout.status is steps.Status.RUNNING:
            return _event(state, "promote", verdict.reason, version, data, self.clock())
        if verdict.action is Action.HOLD and rollout.status is steps.Status.AWAITING:
            return _event(state, "doubt", verdict.reason, version, data, self.clock())
        return None


def _event(
    state: NodeRollout, what: object, why: str, bundle: str, data: Mapping[str, object], now: float
) -> Event:
    return Event(state.node, state.seq + 1, now, GUARD, what, why, bundle, data)  # type: ignore[arg-type]
