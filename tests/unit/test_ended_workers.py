"""A page of metrics says the same, and is read as quickly, however many workers have ended before."""

import errno
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cascade.observe.ended_workers import fold, held_still

COUNT = """
from cascade.observe.metrics import Metrics
from tests.traffic_records import decision
metrics = Metrics()
attempts = [{"rung": "linear", "reason": "", "latency_ms": 2.0}]
metrics.saw(*(decision(f"d{i}", attempts=attempts, latency_ms=3.0, node=f"n{i % 7}") for i in range(20)))
"""
WAIT = "import sys; print(flush=True); sys.stdin.read()"
PAGE = "from cascade.observe.metrics import Metrics; print(Metrics().page().decode())"
STARTS = 'cascade_worker_starts_total{after="start",worker="0"}'
OF_NODE = 'cascade_decisions_total{mode="full",node="n0",rung="linear"}'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    def run(code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    return run


def counted(page: str) -> dict[str, float]:
    """What a page says of all processes; gauges are of the living."""
    pairs = [line.rpartition(" ")[::2] for line in page.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in pairs if "pid=" not in name}


def test_what_the_dead_counted_becomes_one_file_of_each_kind_and_nothing_is_lost(
    run: Callable[[str], str], tmp_path: Path
) -> None:
    for decisions in (6, 12):  # of 20 over seven nodes, each of two processes has three of the first
        run(COUNT)
        run(COUNT)
        before = counted(run(PAGE))
        fold(tmp_path)
        files = [path.name for kind in ("counter", "histogram") for path in tmp_path.glob(f"{kind}_*")]
        assert files == ["counter_ended.db", "histogram_ended.db"]
        after = counted(run(PAGE))
        after[STARTS] -= 1  # of the process that makes this page, which is one more
        assert after == before
        assert before[OF_NODE] == decisions
        assert before['cascade_decision_duration_seconds_count{node="n0",rung="linear"}'] == decisions


def test_who_lives_counts_on_in_his_own(run: Callable[[str], str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COUNT + WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as living:
        assert living.stdout is not None
        living.stdout.readline()
        fold(tmp_path)
        assert (tmp_path / f"counter_{living.pid}.db").exists()
        assert not (tmp_path / "counter_ended.db").exists()
        assert counted(run(PAGE))[OF_NODE] == 3


def test_what_cannot_be_read_goes_and_what_cannot_be_written_stays(
    run: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(COUNT)
    (process,) = tmp_path.glob("counter_*.db")
    broken = tmp_path / f"histogram_{process.stem.rpartition('_')[2]}.db"
    broken.write_bytes(b"")  # as of one that was killed while it made the file
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", no_room)
        fold(tmp_path)
    assert process.exists()
    fold(tmp_path)
    assert not broken.exists()
    assert counted(run(PAGE))[OF_NODE] == 3


def test_a_page_goes_without_a_file_that_a_worker_has_only_just_made(
    run: Callable[[str], str], tmp_path: Path
) -> None:
    run(COUNT)
    for name in ("counter_99999.db", "gauge_liveall_99999.db", "histogram_99999.db"):
        (tmp_path / name).touch()
    assert counted(run(PAGE))[OF_NODE] == 3


def test_what_one_left_that_was_killed_while_it_folded_is_not_counted(
    run: Callable[[str], str], tmp_path: Path
) -> None:
    run(COUNT)
    (process,) = tmp_path.glob("counter_*.db")
    (tmp_path / "counter_ended.new").write_bytes(process.read_bytes().replace(b'"n0"', b'"n9"'))
    fold(tmp_path)
    page = counted(run(PAGE))
    assert page[OF_NODE] == 3
    assert OF_NODE.replace("n0", "n9") not in page


def test_where_the_lock_cannot_be_had_there_is_a_page_all_the_same_and_nothing_is_folded(
    run: Callable[[str], str], tmp_path: Path
) -> None:
    (tmp_path / "pages.lock").mkdir()  # as good as another user's file
    run(COUNT)
    fold(tmp_path)
    assert counted(run(PAGE))[OF_NODE] == 3
    assert not (tmp_path / "counter_ended.db").exists()


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "no space left")


def test_no_page_is_made_of_what_is_being_folded(run: Callable[[str], str], tmp_path: Path) -> None:
    run(COUNT)
    folding = threading.Thread(target=fold, args=(tmp_path,))
    with held_still(tmp_path):
        folding.start()
        folding.join(0.2)
        assert counted(run(PAGE))[OF_NODE] == 3  # two pages at a time may be made
        assert not (tmp_path / "counter_ended.db").exists()
    folding.join(60)
    assert (tmp_path / "counter_ended.db").exists()
    folds = "from pathlib import Path; from cascade.observe.ended_workers import held_still\n"
    folds += f"with held_still(Path({str(tmp_path)!r}), shared=False): {WAIT.replace('import sys; ', '')}"
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys\n{folds}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with subprocess.Popen([sys.executable, "-c", PAGE], stdout=subprocess.PIPE, text=True) as page:
            with pytest.raises(subprocess.TimeoutExpired):
                page.wait(2)
            other.communicate(b"")
            assert counted(page.communicate()[0])[OF_NODE] == 3
