"""The one seam of the shared state of rollouts: what any store of it does."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Protocol

from cascade.rollout.records import Audit, AuditResult, Evidence, Report, SavedGuard, ShadowRun
from cascade.rollout.state import Event


class RolloutStore(Protocol):
    """Events, audits, shadow runs and evidence, shared by all workers and replicas.

    Any thread may call any method. All raise StoreError where the database cannot be read or written; nothing
    of the call was written then.
    """

    @property
    def generation(self) -> int:
        """Rises when another database takes the place of the one before: all places are other ones then."""

    def append(self, event: Event) -> bool:
        """Write an event at its place, durably.

        Returns
        -------
        bool
            False where the place is taken or does not follow the last event: someone else decided first.
        """

    def events(self, node: str, after: int = 0) -> list[Event]:
        """Give the events of a node that come after a place, in order."""

    def heads(self) -> dict[str, int]:
        """Give the last place of every node that has events."""

    def add_shadows(self, runs: Sequence[ShadowRun]) -> None:
        """Write what candidates answered beside, and the evidence that follows where the teacher answered.

        That is: answered the caller, or an audit that has ended already.
        """

    def add_audits(self, audits: Sequence[Audit], owner: str, lease_until: float) -> None:
        """Write audits that wait for the teacher; one that is there already changes nothing."""

    def claim_audits(
        self, nodes: Sequence[str], owner: str, now: float, lease_until: float, limit: int
    ) -> list[Audit]:
        """Take over audits that wait and whose lease ended: those of a process that is no more."""

    def renew_audits(self, owner: str, lease_until: float) -> None:
        """Prolong the leases of all audits of an owner that wait."""

    def finish_audits(self, results: Sequence[AuditResult]) -> None:
        """Write results, and the evidence that follows from them, in one transaction.

        Where the last report on the decision calls the answer wrong, it is wrong, though the teacher agrees;
        no report makes an answer right or gives a verdict that is missing. What a candidate answered beside
        the audited decision becomes evidence on the candidate as well.
        """

    def evidence(self, node: str, bundle: str, after: int, limit: int = 5000) -> list[Evidence]:
        """Give evidence on a bundle by its `seq`, the same order for everyone."""

    def audits_waiting(self, node: str) -> int:
        """Count the audits of a node that wait."""

    def audit_spending(self, node: str, since: float, until: float = inf) -> tuple[float, int]:
        """Give what audits of a node that finished from then on cost in dollars, and how many there were."""

    def add_reports(self, reports: Sequence[Report]) -> None:
        """Write what callers said about settled answers."""

    def reports(self, node: str, bundle: str, after: int, limit: int = 5000) -> list[tuple[int, int, bool]]:
        """Give reports on what a bundle settled: their place, the decision's, and whether it was right."""

    def settled(self, node: str, bundle: str, after: int, limit: int = 5000) -> list[int]:
        """Give the places of the decisions that a bundle settled, in order."""

    def settled_since(self, node: str, since: float, until: float) -> int:
        """Count what bundles of a node settled from a moment on, before another."""

    def marks(self) -> tuple[int, int]:
        """Give the last places among all evidence and all decisions."""

    def guard(self, node: str, bundle: str) -> SavedGuard | None:
        """Give the last state that a guard left."""

    def save_guard(self, saved: SavedGuard) -> None:
        """Leave a guard's state, unless a later one is there."""
