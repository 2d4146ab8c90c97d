"""Counts what live requests met on each bundle, for the alarms that need no teacher."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from cascade.ask import Attempt
from cascade.bundle import Bundle
from cascade.config.rollout import AlarmsConfig
from cascade.manifest import settled_share
from cascade.policy.alarms import (
    AlarmSettings,
    AlarmState,
    count,
    errors,
    latency,
    new_alarm,
    raised,
    storm,
)
from cascade.policy.drift import Drift
from cascade.policy.guard import Raised

SCORES, INPUTS = "scores", "inputs"
_VALUES = {
    SCORES: "got a confidence of the first rung",
    INPUTS: "got a P(right) of the difficulty model",
}
"""What is watched for drift: what the first local rung that ran was sure of, and what was expected of it."""


@dataclass(slots=True)
class _Counts:
    n: int = 0
    escalated: int = 0
    failed: int = 0
    settled: int = 0
    slow: int = 0
    values: dict[str, list[float]] = field(default_factory=lambda: {SCORES: [], INPUTS: []})


@dataclass
class _Alarms:
    settings: dict[str, AlarmSettings]
    states: dict[str, AlarmState]
    drifts: dict[str, Drift]
    seq: int = 0
    counts: _Counts = field(default_factory=_Counts)


class AlarmBook:
    """The alarms of all bundles in this process.

    Parameters
    ----------
    config : AlarmsConfig
    """

    def __init__(self, config: AlarmsConfig) -> None:
        self._config = config
        self._alarms: dict[tuple[str, str], _Alarms] = {}
        self._lock = threading.Lock()

    def count(
        self,
        node: str,
        bundle: Bundle,
        requests: Sequence[Sequence[Attempt]],
        settled: bool,
        in_time: Sequence[bool] | None = None,
    ) -> None:
        """Count live requests: what each one's local rungs' attempts came to, and whether one settled it.

        Those of which `in_time` is false, because their callers left too little time for all rungs to begin
        with, say nothing of how many the bundle settles, whatever became of them: an overloaded worker meets
        many. By default all were in time.
        """
        if bundle.policy.too_dear or bundle.fences.reason:  # it leaves all to the teacher on purpose
            return
        limit = self._config.latency_ms
        with self._lock:
            alarms = self._alarms.get((node, bundle.version))
            if alarms is None:
                alarms = self._alarms[node, bundle.version] = _new(self._config, bundle)
            counts = alarms.counts
            if settled:
                counts.settled += len(requests)
            scores, inputs = counts.values[SCORES], counts.values[INPUTS]
            for attempts, whole in zip(requests, in_time or [True] * len(requests), strict=True):
                spent, failed = 0.0, False
                score = before = None
                for attempt in attempts:
                    spent += attempt.latency_ms
                    if attempt.reason and attempt.reason.startswith("error"):
                        failed = True
                    if score is None:
                        score = attempt.confidence_after
                    if before is None:
                        before = attempt.p_right_before
                if whole:
                    counts.n += 1
                    counts.escalated += not settled
                    counts.failed += failed
                if limit is not None and settled and spent > limit:
                    counts.slow += 1
                if score is not None:
                    scores.append(score)
                if before is not None:
                    inputs.append(before)

    def look(self, node: str) -> dict[str, list[Raised]]:
        """Close the batch of a node's counts; give the alarms that are raised, by bundle."""
        found: dict[str, list[Raised]] = {}
        with self._lock:
            batches = []
            for (name, version), alarms in self._alarms.items():
                if name == node:
                    batches.append((version, alarms, alarms.counts))
                    alarms.counts = _Counts()
        for version, alarms, counts in batches:
            alarms.seq += 1
            hits = {
                "storm": (counts.n, counts.escalated), "errors": (counts.n, counts.failed),
                "latency": (counts.settled, counts.slow),
            }  # fmt: skip
            up = []
            for name, settings in alarms.settings.items():
                n, hit = hits[name]
                if n:
                    alarms.states[name] = count(settings, alarms.states[name], alarms.seq, n, (hit,))
                one = raised(settings, alarms.states[name])
                if one is not None:
                    up.append(one)
            for name, values in counts.values.items():
                alarms.drifts[name] = drift = alarms.drifts[name].take(values)
                if drift.raised is not None:
                    up.append(drift.raised)
            if up:
                found[version] = up
        return found

    def forget(self, node: str, version: str) -> None:
        """Begin anew with a bundle: it was started again."""
        with self._lock:
            self._alarms.pop((node, version), None)


def _new(config: AlarmsConfig, bundle: Bundle) -> _Alarms:
    promised = settled_share(bundle.manifest)
    settings = {"storm": storm(1 - promised, config.storm), "errors": errors(config.errors)}
    if config.latency_ms is not None:
        settings["latency"] = latency(config.latency_ms, config.latency_share)
    states = {name: new_alarm(each) for name, each in settings.items()}
    drifts = {name: Drift(name, what) for name, what in _VALUES.items()}
    return _Alarms(settings, states, drifts)
