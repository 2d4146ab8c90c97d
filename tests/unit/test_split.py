"""Calibration is the newest traffic where records carry times."""

import numpy as np

from cascade.traffic import TrainingRecord
from training.curate import curate
from training.split import split


def records(n: int, timed: bool, sessions: int = 0) -> list[TrainingRecord]:
    rng = np.random.default_rng(0)
    times = rng.permutation(n)
    return [
        TrainingRecord(
            str(i), " ".join(f"w{k}" for k in rng.integers(0, 10_000, 8)), None, "ab"[i % 2], "import",
            f"s{i % sessions}" if sessions else None, float(times[i]) if timed else None,
        )
        for i in range(n)
    ]  # fmt: skip


def test_the_newest_records_are_held_out() -> None:
    curated = curate(records(400, timed=True), None)
    found = split(curated, 0.25)
    times = np.array([record.time for record in curated.records])
    assert found.how == "time"
    assert times[found.calibration].min() > times[found.train].max()
    assert len(found.calibration) == 100
    assert found.boundary_time == times[found.calibration].min()


def test_a_session_stays_on_one_side() -> None:
    curated = curate(records(400, timed=True, sessions=40), None)
    found = split(curated, 0.25)
    sessions = np.array([record.session for record in curated.records])
    assert not set(sessions[found.train]) & set(sessions[found.calibration])


def test_without_times_labels_keep_their_shares() -> None:
    curated = curate(records(400, timed=False), None)
    found = split(curated, 0.25)
    assert found.how == "stratified"
    assert abs(curated.y[found.calibration].mean() - 0.5) < 0.03
