"""What happens to a decision after its caller was answered: shadow, audit, counts for the alarms."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cascade.ask import Ask, Attempt, Decided
from cascade.bundle import Bundle
from cascade.rollout.alarm_book import AlarmBook
from cascade.rollout.alarm_counts import Escalation
from cascade.rollout.audit import Auditor, coin
from cascade.rollout.judge import Judge
from cascade.rollout.records import Audit, Report
from cascade.rollout.serving import Served
from cascade.rollout.shadow import Beside, ShadowRunner
from cascade.traffic import Decision


class Afterwards:
    """Hands decisions on. Nothing here waits or raises on a request's account.

    Parameters
    ----------
    judge : Judge
        Knows the audit rates.
    auditor : Auditor
    shadows : ShadowRunner
    alarms : AlarmBook
    place_of : callable
        Gives the rollout's step of a node's bundle, and which life it is in.
    """

    def __init__(
        self,
        judge: Judge,
        auditor: Auditor,
        shadows: ShadowRunner,
        alarms: AlarmBook,
        place_of: Callable[[str, str], tuple[int, int]],
    ) -> None:
        self._judge = judge
        self._auditor = auditor
        self._shadows = shadows
        self._alarms = alarms
        self._place_of = place_of

    def walked(
        self,
        node: str,
        bundle: Bundle,
        requests: Sequence[Sequence[Attempt]],
        texts: Sequence[str],
        settled: bool,
        in_time: Sequence[bool],
    ) -> list[Escalation]:
        """Count what requests met on a bundle's local rungs: the attempts of each; see `AlarmBook.count`.

        To be called before the teacher is waited for: counted after its answer, those that escalate would
        all come late, and the last ones of a burst would look like a storm. What is given back is to be told
        of its answer.
        """
        return self._alarms.count(node, bundle, requests, texts, settled, in_time)

    def rate(self, node: str, served: Served) -> float:
        """Give the share of a node's decisions that are audited, or compared, now; 0 where nothing can be."""
        bundle, beside = served.bundle, served.shadow
        if bundle is None:  # where the teacher answers everybody, a comparison costs nothing
            return 0.0 if beside is None else 1.0
        rate = self._judge.rate(node, bundle.version)
        return rate if beside is None else max(rate, self._judge.rate(node, beside.version))

    def take(self, ask: Ask, decided: Decided, served: Served, by_teacher: bool, rate: float) -> None:
        """Take a decision that has an answer.

        Parameters
        ----------
        by_teacher : bool
            Whether the teacher gave it.
        rate : float
            What `rate` says.
        """
        bundle, beside, node = served.bundle, served.shadow, ask.node
        drawn = rate > 0 and coin(decided.decision_id) < rate
        if bundle is not None and drawn and not by_teacher:
            step, life = self._place_of(node, bundle.version)
            self._auditor.offer(
                Audit(
                    decided.decision_id, node, bundle.version, step, time.time(), rate, decided.rung,
                    bundle.guarded_slices.of(decided.output, ask.context), ask.audit_teacher is not None,
                    life,
                ),
                ask, decided.output,
            )  # fmt: skip
        if beside is not None:
            step, life = self._place_of(node, beside.version)
            self._shadows.offer(
                Beside(
                    decided.decision_id, ask, beside, step, by_teacher, decided.output,
                    rate if drawn else 0.0, life,
                )
            )  # fmt: skip

    def report(self, decision: Decision, output: object, right: bool | None, at: float) -> None:
        """Take what a caller said about a decision; only what a bundle settled is of interest here."""
        if decision.by_teacher or decision.error is not None or not decision.bundle_version:
            return
        said = right if output is None else output == decision.output
        if said is not None:
            self._auditor.report(
                Report(decision.decision_id, decision.node, decision.bundle_version, at, bool(said))
            )
