"""The one seam of the traffic log: what any store of it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Protocol

from cascade.traffic.database import Database
from cascade.traffic.records import Call, Decision, ImportCount, Labelled, Outcome, StoreStats, TrainingRecord
from cascade.traffic.rows import Rows


class TrafficStore(Protocol):
    """The durable log of decisions, outcomes and imported records. Any thread may call any method."""

    @property
    def database(self) -> Database:
        """The database below, for those who keep tables of their own in it."""

    @property
    def rows(self) -> Rows:
        """How what was said is kept in a column: sealed, where the store encrypts."""

    def record(self, *decisions: Decision) -> None:
        """Log decisions some time soon.

        Neither blocks nor raises: what finds the queue full, or a disk that fails, is lost and counted.
        """

    def record_call(self, call: Call) -> None:
        """Log a raw call some time soon, like `record`. A `call_id` that is there already changes nothing."""

    def report(self, outcome: Outcome) -> Future[str]:
        """Log an outcome durably.

        Returns
        -------
        Future of str
            The outcome's id, once it is committed to disk. It fails with `UnknownDecision` when no such
            decision was recorded before, and with `StoreError` when the disk or a full queue lets it not be
            written.
            Reporting an `outcome_id` again changes nothing and succeeds.
        """

    def find(self, node: str, request_id: str) -> Decision | None:
        """The first decision of a node with that request id, be it on disk or still waiting.

        One without an error goes before one with: who asks again after a failure has an answer of that time.

        Raises
        ------
        StoreError
            When the database cannot be read. Who serves a request goes on without idempotency then.
        """

    def get(self, decision_id: str) -> Decision | None:
        """The decision with that id, be it on disk or still waiting. Raises StoreError like `find`."""

    def import_labelled(self, records: Iterable[Labelled], replace: bool = False) -> ImportCount:
        """Add imported records, all or none.

        A record whose `(node, id)` is there already is left as it was; with `replace`, one that is there with
        another output is replaced.

        Raises
        ------
        StoreError
            When they could not be written; none was then.
        """

    def labelled(self, node: str) -> Iterator[Labelled]:
        """Go through a node's imported records in the order of their import, without holding them all.

        Raises
        ------
        StoreError
            When the database cannot be read.
        """

    def training_records(self, node: str) -> list[TrainingRecord]:
        """All inputs of a node whose right output is known, from what is on disk, by time and id.

        Imported records; decisions the teacher answered, be it in an audit; decisions with an outcome, which
        wins over the teacher. A locally settled decision without either is no truth and is left out, and so
        is a decision reported wrong, unless an audit's answer is another one. Of several outcomes, the last
        committed counts. Imported records without a time come first.

        Raises
        ------
        StoreError
            When the database cannot be read.
        """

    def decisions(
        self, node: str, since: float | None = None, until: float | None = None
    ) -> Iterator[Decision]:
        """Go through a node's decisions on disk, oldest first, without holding them all in memory.

        Parameters
        ----------
        node : str
        since, until : float, optional
            Unix seconds; the window holds `since` and does not hold `until`.

        Raises
        ------
        StoreError
            When the database cannot be read.
        """

    def sampled_decisions(
        self, node: str, bundle_version: str, since: float, until: float, most: int, share: float = 1.0
    ) -> list[Decision]:
        """Some decisions of a bundle on disk, oldest first; of more than `most`, the same for whoever asks.

        They are drawn by the random bits at the end of their ids, which know nothing of the request.

        Parameters
        ----------
        since, until : float
            Unix seconds; the window holds `since` and does not hold `until`.
        most : int
        share : float
            In (0, 1]: of its time, how much may be spent on looking. With less than 1 the window is looked at
            in short pieces, and it rests between them: of a busy minute each row is looked at, and whoever
            answers requests on the same core would wait for that.

        Raises
        ------
        StoreError
            When the database cannot be read.
        """

    def last_decision_time(self, node: str, before: float) -> float | None:
        """When the last of a node's decisions on disk before a time was, in Unix seconds; None for none."""

    def calls(self, since: float | None = None, until: float | None = None) -> Iterator[Call]:
        """Go through the raw calls on disk like `decisions`."""

    def counts(self, node: str) -> dict[str, int]:
        """How much of a node is on disk: `decisions`, `by_teacher`, `errors`, `outcomes`, `imported`."""

    def last_times(self, node: str) -> dict[str, float | None]:
        """When the last `decision`, `outcome` and `import` of a node was, in Unix seconds; None for never."""

    def teacher_means(self, node: str) -> tuple[float, float] | None:
        """What the teacher's answers cost on average, in dollars and milliseconds; None without any."""

    def stats(self) -> StoreStats:
        """What became of the records given to this store object since it was opened."""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was given before is written or has failed; False after `timeout` seconds."""

    def close(self) -> None:
        """Write what waits, then let go of the database. What comes later is dropped and counted."""
