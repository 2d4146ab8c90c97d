"""Counts what live requests met on each bundle, for the alarms that ask no teacher."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cascade.ask import Attempt
from cascade.bundle import Bundle
from cascade.config.rollout import AlarmsConfig
from cascade.manifest import settled_share
from cascade.policy.alarms import AlarmSettings, Place, errors, latency, raised, storm
from cascade.policy.drift import Drift
from cascade.policy.guard import Raised
from cascade.policy.lasting import Lasting
from cascade.rollout.alarm_counts import INPUTS, SCORES, Counts, Escalation, Storm
from cascade.rollout.lately import Lately

_VALUES = {
    SCORES: "got a confidence of the first rung",
    INPUTS: "got a P(right) of the difficulty model",
}
"""What is watched for drift: what the first local rung that ran was sure of, and what was expected of it."""


@dataclass
class _Alarms:
    states: dict[str, Lasting]
    drifts: dict[str, Drift]
    seq: int = 0
    counts: Counts = field(default_factory=Counts)
    storm: Storm = field(default_factory=Storm)
    lately: Lately = field(default_factory=Lately)


class AlarmBook:
    """The alarms of all bundles in this process.

    Parameters
    ----------
    config : AlarmsConfig
    clock : callable
        Seconds that never jump.
    """

    def __init__(self, config: AlarmsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._alarms: dict[tuple[str, str], _Alarms] = {}
        self._lock = threading.Lock()

    def count(
        self,
        node: str,
        bundle: Bundle,
        requests: Sequence[Sequence[Attempt]],
        texts: Sequence[str],
        settled: bool,
        in_time: Sequence[bool] | None = None,
    ) -> list[Escalation]:
        """Count live requests: what each one's local rungs' attempts came to, and whether one settled it.

        Those of which `in_time` is false, because their callers left too little time for all rungs to begin
        with, say nothing of how many the bundle settles, whatever became of them: an overloaded worker meets
        many. By default all were in time. A text that was counted within the last minute is not counted
        again: who is refused asks again.

        Returns
        -------
        list of Escalation
            Of those that none settled and that count: to be told what became of them.
        """
        begun: list[Escalation] = []
        if bundle.policy.too_dear or bundle.fences.reason:  # it leaves all to the teacher on purpose
            return begun
        limit = self._config.latency_ms
        with self._lock:
            alarms = self._alarms.get((node, bundle.version))
            if alarms is None:
                alarms = self._alarms[node, bundle.version] = _new(self._config, bundle)
            counts, lately = alarms.counts, alarms.lately
            scores, inputs = counts.values[SCORES], counts.values[INPUTS]
            for attempts, text, whole in zip(requests, texts, in_time or [True] * len(requests), strict=True):
                name = hash(text)
                if whole and lately.met(name):
                    continue
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
                    counts.failed += failed
                    if settled:
                        counts.local += 1
                    else:
                        counts.waiting += 1
                        begun.append(Escalation(counts, name, lately, self._lock))
                if settled:
                    counts.settled += 1
                    if limit is not None and spent > limit:
                        counts.slow += 1
                if score is not None:
                    scores.append(score)
                if before is not None:
                    inputs.append(before)
        return begun

    def look(self, node: str, places: Mapping[str, Place] | None = None) -> dict[str, list[Raised]]:
        """Close the batch of a node's counts; give the alarms that are raised, by bundle.

        Parameters
        ----------
        node : str
        places : mapping of str to Place
            What its bundles are to it now; one that is not named has nothing to take its place.
        """
        found: dict[str, list[Raised]] = {}
        now = self._clock()
        with self._lock:
            batches = []
            for (name, version), alarms in self._alarms.items():
                if name == node:
                    batches.append((version, alarms, alarms.counts, alarms.storm.close(alarms.counts, now)))
                    alarms.counts = Counts()
                    alarms.lately.age(now)
        for version, alarms, counts, escalated in batches:
            alarms.seq += 1
            place = (places or {}).get(version, Place.ALONE)
            hits = {
                "storm": escalated, "errors": (counts.n, counts.failed),
                "latency": (counts.settled, counts.slow),
            }  # fmt: skip
            up = []
            for name, state in alarms.states.items():
                n, hit = hits[name]
                if n:
                    state = alarms.states[name] = state.take(alarms.seq, n, (hit,), now)
                one = raised(state.settings, state.first, place, state.lasts)
                if one is not None:
                    up.append(one)
            for name, values in counts.values.items():
                alarms.drifts[name] = drift = alarms.drifts[name].take(values)
                if drift.raised is not None:
                    up.append(drift.raised)
            counts.values.clear()  # they may wait for the teacher, and for nothing of this
            if up:
                found[version] = up
        return found

    def forget(self, node: str, version: str) -> None:
        """Begin anew with a bundle: it was started again."""
        with self._lock:
            self._alarms.pop((node, version), None)


def _new(config: AlarmsConfig, bundle: Bundle) -> _Alarms:
    promised = settled_share(bundle.manifest)
    settings: dict[str, AlarmSettings] = {
        "storm": storm(1 - promised, config.storm),
        "errors": errors(config.errors),
    }
    if config.latency_ms is not None:
        settings["latency"] = latency(config.latency_ms, config.latency_share)
    states = {name: Lasting.of(each) for name, each in settings.items()}
    drifts = {name: Drift(name, what) for name, what in _VALUES.items()}
    return _Alarms(states, drifts)
