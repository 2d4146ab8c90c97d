"""The SQLite file is moved, deleted or replaced while it is open: what is acknowledged is not lost by it."""

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cascade.errors import StoreError, WrongDatabase
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.follow import Follower
from cascade.rollout.state import Event
from cascade.traffic import Limits, Outcome, SqliteStore, open_store
from cascade.traffic.inode import generation_of
from cascade.traffic.schema import FileConnection
from cascade.traffic.tally import _FILES, _GENERATIONS, _NUMBERS, counted_files
from tests.soon import comes
from tests.traffic_records import decision

QUICK = Limits(tries=2, backoff=0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traffic.db"


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as other:
        return [row[0] for row in other.execute(query)]


def back_up(path: Path) -> Path:
    """Copy a database as it should be copied."""
    copy = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"VACUUM INTO '{copy}'")
    return copy


def written(store: SqliteStore, *ids: str) -> None:
    store.record(*(decision(id_) for id_ in ids))
    assert store.flush(10)


def refusal(store: SqliteStore, outcome: str, of: str) -> str:
    with pytest.raises(StoreError) as caught:
        store.report(Outcome(outcome, of, 1.0, "a", True)).result(10)
    return str(caught.value)


@pytest.mark.parametrize("how", ["moved", "deleted", "folder"])
def test_an_outcome_is_refused_where_the_file_is_gone_and_nothing_is_made(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    folder, kept = tmp_path / "var", tmp_path / "kept"
    folder.mkdir()
    path = folder / "traffic.db"
    with SqliteStore(path, QUICK) as store:
        written(store, "d1")
        if how == "moved":
            path.rename(kept)
        elif how == "deleted":
            path.unlink()
        else:
            shutil.rmtree(folder)
        assert "is gone" in refusal(store, "o1", "d1")
        assert comes(lambda: _unread(store))
        assert "is gone" in refusal(store, "o2", "d1")
        assert store.stats().failed == 2
        assert not path.exists()
        shouted = [r for r in caplog.records if r.levelno == logging.ERROR and "is gone" in r.getMessage()]
        own = [r for r in shouted if r.name.endswith("database_file")]
        assert len(own) == 1, "once, not at every look"
        if how == "moved":
            kept.rename(path)
            assert store.report(Outcome("o3", "d1", 1.0, "a", True)).result(10) == "o3"
            assert "is back" in caplog.text
    if how == "moved":
        assert rows(path, "SELECT outcome_id FROM outcomes ORDER BY 1")[-1] == "o3"


def _unread(store: SqliteStore) -> bool:
    try:
        store.counts("n")
    except StoreError as error:
        return "is gone" in str(error)
    return False


def test_a_file_that_is_swapped_at_the_very_commit_acknowledges_nothing_that_is_not_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Swapping(FileConnection):
        armed = False

        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql == "COMMIT" and Swapping.armed:
                Swapping.armed = False
                backup.rename(path)
            return super().execute(sql, *args)

    monkeypatch.setattr("cascade.traffic.schema.FileConnection", Swapping)
    with SqliteStore(path, QUICK) as store:
        written(store, "d1")
        backup = back_up(path)
        Swapping.armed = True
        assert store.report(Outcome("o1", "d1", 1.0, "a", True)).result(10) == "o1"
        assert not Swapping.armed
        assert rows(path, "SELECT outcome_id FROM outcomes") == ["o1"], "it was written again"


def test_a_backup_in_its_place_is_read_and_written_by_all_who_had_the_old_one_open(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with SqliteStore(path, QUICK) as one, SqliteStore(path, QUICK) as other:
        written(one, "d1")
        written(other, "d2")
        backup = back_up(path)
        written(one, *(f"late{i}" for i in range(500)))  # what the log holds must not get into the backup
        backup.rename(path)
        for store, outcome in ((one, "o1"), (other, "o2")):
            assert store.report(Outcome(outcome, "d1", 1.0, "a", True)).result(10) == outcome
            assert store.get("late1") is None
            assert store.database.generation == 1
        written(one, "d3")
        written(other, "d4")
        assert one.get("d4") is not None
        assert other.get("d3") is not None
    assert rows(path, "SELECT decision_id FROM decisions ORDER BY 1") == ["d1", "d2", "d3", "d4"]
    assert rows(path, "SELECT outcome_id FROM outcomes ORDER BY 1") == ["o1", "o2"]
    assert rows(path, "PRAGMA integrity_check") == ["ok"]
    assert caplog.text.count("is another file now") == 2  # one of each
    assert len(list(path.parent.glob("traffic.db-wal.*.old"))) == 1


def test_the_log_of_the_file_that_was_there_is_kept_and_makes_the_moved_file_whole(path: Path) -> None:
    with SqliteStore(path, QUICK) as store:
        written(store, "d1")
        backup, moved = back_up(path), path.with_name("moved.db")
        written(store, *(f"late{i}" for i in range(50)))
        path.rename(moved)
        backup.rename(path)
        assert store.report(Outcome("o1", "d1", 1.0, "a", True)).result(10) == "o1"
    (log,) = path.parent.glob("traffic.db-wal.*.old")
    log.rename(path.with_name("moved.db-wal"))
    assert rows(moved, "SELECT count(*) FROM decisions") == [51]


@pytest.mark.parametrize("what", [b"no database at all" * 100, b"", "other", "newer", "torn"])
def test_what_is_no_database_of_ours_is_not_opened_in_its_place(
    path: Path, caplog: pytest.LogCaptureFixture, what: Any
) -> None:
    with SqliteStore(path, QUICK) as store:
        written(store, "d1")
        new, kept = path.with_name("new"), path.with_name("kept")
        if isinstance(what, bytes):
            new.write_bytes(what)
        elif what == "torn":
            whole = back_up(path)
            new.write_bytes(whole.read_bytes()[:8192])
        else:
            with closing(sqlite3.connect(new)) as other:
                sql = "PRAGMA user_version = 999" if what == "newer" else "CREATE TABLE mine (x)"
                other.execute(sql)
                other.commit()
        before = new.read_bytes()
        path.rename(kept)
        new.rename(path)
        assert "cannot be opened in its place" in refusal(store, "o1", "d1")
        assert caplog.text.count("ERROR    cascade.traffic.database_file") == 1
        assert path.read_bytes() == before
        kept.rename(path)
        assert store.report(Outcome("o1", "d1", 1.0, "a", True)).result(10) == "o1"
        assert store.get("d1") is not None
    assert rows(path, "SELECT outcome_id FROM outcomes") == ["o1"]


def test_a_directory_in_its_place_is_refused(path: Path) -> None:
    with SqliteStore(path, QUICK) as store:
        written(store, "d1")
        path.unlink()
        path.mkdir()
        assert "cannot be opened in its place" in refusal(store, "o1", "d1")


_HOLD = (
    "import sys\nfrom cascade.traffic import SqliteStore\nfrom tests.traffic_records import decision\n"
    "store = SqliteStore(sys.argv[1]); store.record(decision('d1')); store.flush()\n"
    "print('open', flush=True)\nsys.stdin.read()\n"
)


@pytest.fixture
def holder(path: Path) -> Any:
    """Another process that has the database open, and does nothing."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    yield process
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def test_who_opens_the_path_makes_no_database_while_another_process_has_the_moved_one(
    path: Path, holder: Any
) -> None:
    path.unlink()
    with pytest.raises(StoreError, match=rf"no traffic database at .*, but process {holder.pid} has it open"):
        SqliteStore(path)
    assert not path.exists()


def test_a_log_without_its_database_is_not_thrown_away(path: Path, holder: Any) -> None:
    holder.kill()
    holder.wait()
    kept = path.with_name("kept.db")
    path.rename(kept)
    with pytest.raises(StoreError, match=r"its log .*traffic\.db-wal is there"):
        SqliteStore(path)
    kept.rename(path)
    with SqliteStore(path) as store:
        assert store.get("d1") is not None


@pytest.mark.parametrize("alive", [True, False])
def test_who_opens_a_backup_does_not_mix_it_with_the_log_of_the_old_file(
    path: Path, holder: Any, alive: bool
) -> None:
    backup = back_up(path)
    backup_ids = rows(backup, "SELECT decision_id FROM decisions")
    if not alive:
        needs_generations(path)
        holder.kill()
        holder.wait()
    backup.rename(path)
    with SqliteStore(path) as store:  # a command, or a worker that is started
        written(store, "d2")
        assert len(list(path.parent.glob("traffic.db-wal.*.old"))) == 1
        if alive:
            holder.stdin.close()  # ends, and must not take the new log along
            holder.wait()
        written(store, "d3")
    assert rows(path, "SELECT decision_id FROM decisions") == [*backup_ids, "d2", "d3"]
    assert rows(path, "PRAGMA integrity_check") == ["ok"]


def test_a_log_stays_with_its_database_where_the_disk_has_another_number_after_a_restart(
    path: Path, holder: Any
) -> None:
    holder.kill()
    holder.wait()
    (counter,) = path.with_name("traffic.db.open").iterdir()
    raw = bytearray(counter.read_bytes())
    device, *rest = _FILES.unpack_from(raw, _NUMBERS.size)
    _FILES.pack_into(raw, _NUMBERS.size, device + 1, *rest)
    counter.write_bytes(raw)
    with SqliteStore(path) as store:
        assert store.get("d1") is not None
    assert list(path.parent.glob("*.old")) == []


def needs_generations(path: Path) -> None:
    if not generation_of(path):
        pytest.skip("this file system's inodes have no generation")


def killed(holder: Any, path: Path) -> Path:
    """Kill who has the database open; give the counter it leaves."""
    holder.kill()
    holder.wait()
    (counter,) = path.with_name("traffic.db.open").iterdir()
    return counter


_UNKNOWN = (0, 0, 0)


def recorded(counter: Path, files: tuple[int, ...], generations: tuple[int, ...] = ()) -> None:
    """Have a counter say which files were open; without generations as an older Cascade would."""
    counter.write_bytes(
        counter.read_bytes()[: _NUMBERS.size]
        + _FILES.pack(*files)
        + (_GENERATIONS.pack(*generations) if generations else b"")
    )


def numbers(path: Path) -> tuple[int, int, int, int]:
    """Give what a counter says of files: device and inode, and the log's and the index's inode."""
    found = [os.stat(f"{path}{end}") for end in ("", "-wal", "-shm")]
    return found[0].st_dev, *(each.st_ino for each in found)


def test_a_counter_says_the_generations_of_what_is_open(path: Path, holder: Any) -> None:
    needs_generations(path)
    counter = killed(holder, path)
    (files,) = counted_files(counter.parent)
    assert (*files.file, files.wal, files.shm) == numbers(path)
    assert (files.file_generation, files.wal_generation, files.shm_generation) == tuple(
        generation_of(Path(f"{path}{end}")) for end in ("", "-wal", "-shm")
    )


@pytest.mark.parametrize("reused", ["the log's", "the index's", "both"])
def test_a_log_restored_with_its_database_is_kept_though_it_has_the_inode_number_of_the_dead_ones(
    path: Path, holder: Any, reused: str
) -> None:
    needs_generations(path)
    counter = killed(holder, path)
    device, file, wal, shm = numbers(path)
    log, index = (generation_of(Path(f"{path}{end}")) for end in ("-wal", "-shm"))
    # The log has the number that the dead process's log had, or its index; the database or its own, or not.
    of = {
        "the log's": ((device, file + 1, wal, shm), (1, log ^ 1 or 2, index ^ 1 or 2)),
        "the index's": ((device, file + 1, wal + 1, wal), (1, 1, log ^ 1 or 2)),
        "both": ((device, file, wal, shm), (generation_of(path) ^ 1 or 2, log ^ 1 or 2, index ^ 1 or 2)),
    }
    recorded(counter, *of[reused])
    with SqliteStore(path) as store:
        assert store.get("d1") is not None
    assert list(path.parent.glob("*.old")) == []


@pytest.mark.parametrize("reused", [False, True])
def test_the_log_of_a_replaced_file_is_set_aside_also_where_the_new_one_has_its_number(
    path: Path, holder: Any, reused: bool
) -> None:
    needs_generations(path)
    backup = back_up(path)
    counter = killed(holder, path)
    backup.rename(path)
    if reused:
        found = [generation_of(Path(f"{path}{end}")) for end in ("", "-wal", "-shm")]
        recorded(counter, numbers(path), (found[0] ^ 1 or 2, *found[1:]))
    log = Path(f"{path}-wal")
    number, content = log.stat().st_ino, log.read_bytes()
    with SqliteStore(path) as store:
        assert store.get("d1") is not None
    assert path.with_name(f"traffic.db-wal.{number}.old").read_bytes() == content


@pytest.mark.parametrize("how", ["no generations", "old counter"])
@pytest.mark.parametrize("answer", ["log moved", "counter removed"])
def test_a_log_of_which_nobody_knows_whose_it_is_is_left_to_the_operator(
    path: Path, holder: Any, monkeypatch: pytest.MonkeyPatch, how: str, answer: str
) -> None:
    counter = killed(holder, path)
    device, file, wal, shm = numbers(path)
    recorded(counter, (device, file + 1, wal, shm), _UNKNOWN if how == "no generations" else ())
    if how == "no generations":
        monkeypatch.setattr("cascade.traffic.database_file.generation_of", lambda *_: 0)
    log, index = Path(f"{path}-wal"), Path(f"{path}-shm")
    before = [each.read_bytes() for each in (path, log, index)]
    for _ in range(2):  # nor does a second try know more
        with pytest.raises(StoreError, match="cannot be told whether the log") as caught:
            SqliteStore(path)
        assert f"move {log} away" in str(caught.value)
        assert str(caught.value).endswith(f"remove {counter}")
        assert [each.read_bytes() for each in (path, log, index)] == before
    if answer == "log moved":
        log.rename(path.with_name("kept-wal"))
    else:
        counter.unlink()
    if answer == "counter removed":
        with SqliteStore(path) as store:
            assert store.get("d1") is not None
    else:
        with SqliteStore(path) as store:
            written(store, "d2")
    assert list(path.parent.glob("*.old")) == []


@pytest.mark.parametrize("generations", [_UNKNOWN, ()])
def test_a_crash_on_a_file_system_without_generations_or_of_an_older_cascade_needs_nobody(
    path: Path, holder: Any, generations: tuple[int, ...]
) -> None:
    counter = killed(holder, path)
    recorded(counter, numbers(path), generations)
    (files,) = counted_files(counter.parent)
    assert (*files.file, files.wal, files.shm) == numbers(path)
    assert (files.file_generation, files.wal_generation, files.shm_generation) == _UNKNOWN
    with SqliteStore(path) as store:
        assert store.get("d1") is not None


def test_a_generation_is_asked_without_letting_go_of_the_locks_of_this_process(path: Path) -> None:
    with SqliteStore(path) as store:
        written(store, "d1")
        for end in ("", "-wal", "-shm"):
            generation_of(Path(f"{path}{end}"))
        # Who opened it last would empty the log and remove it, were there no lock of ours.
        code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM decisions')"
        subprocess.run([sys.executable, "-c", f"{code}; c.close()", str(path)], check=True)
        assert Path(f"{path}-wal").exists()
        written(store, "d2")
    assert rows(path, "SELECT decision_id FROM decisions ORDER BY 1") == ["d1", "d2"]


def test_a_backup_that_comes_after_a_start_without_a_database_is_not_mixed_with_the_old_files_log(
    path: Path, holder: Any
) -> None:
    needs_generations(path)
    backup = back_up(path)
    expected = rows(backup, "SELECT decision_id FROM decisions")
    holder.kill()
    holder.wait()
    path.rename(path.with_name("kept.db"))
    with SqliteStore(path, QUICK, later=True) as store:
        with pytest.raises(StoreError, match="its log"):
            store.get("d1")
        backup.rename(path)
        assert comes(lambda: len(list(path.parent.glob("traffic.db-wal.*.old"))) == 1 or readable(store))
        written(store, "d9")
    assert rows(path, "PRAGMA integrity_check") == ["ok"]
    assert rows(path, "SELECT decision_id FROM decisions") == [*expected, "d9"]


def readable(store: SqliteStore) -> bool:
    try:
        store.get("d1")
    except StoreError:
        return False
    return True


def test_a_store_that_is_asked_to_makes_nothing(path: Path) -> None:
    with pytest.raises(StoreError, match=f"no traffic database at {path}"):
        open_store(f"sqlite:///{path}", create=False)
    assert list(path.parent.iterdir()) == []


def test_a_database_that_cannot_be_opened_yet_is_opened_once_it_can(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError):
        SqliteStore(path)
    with SqliteStore(path, QUICK, later=True) as store:
        assert "file is not a database; until it can be, nothing is recorded" in caplog.text
        with pytest.raises(StoreError):
            store.get("d1")
        store.record(decision("d1"))
        assert store.flush(10)
        assert store.stats().failed == 1
        with SqliteStore(path.with_name("other.db")) as other:
            written(other, "d2")
        path.with_name("other.db").rename(path)
        written(store, "d3")
        assert comes(lambda: store.get("d2") is not None)
    assert rows(path, "SELECT decision_id FROM decisions") == ["d2", "d3"]


def test_a_database_of_something_else_is_refused_though_it_may_be_opened_later(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (x)")
    with pytest.raises(WrongDatabase):
        SqliteStore(path, later=True)


def test_who_follows_rollouts_reads_a_backup_anew_also_where_its_history_is_shorter(path: Path) -> None:
    def event(seq: int, what: Any) -> Event:
        return Event("n", seq, 1.0, "ada", what, "because", "0002-b", {})

    with SqliteStore(path, QUICK) as store:
        shared = DatabaseRolloutStore(store)
        assert shared.append(
            Event("n", 1, 1.0, "ada", "start", "why", "0002-b", {"stable": "0001-a", "shares": [0, 1, 100]})
        )
        backup = back_up(path)
        for seq, what in ((2, "hold"), (3, "approve"), (4, "hold")):
            assert shared.append(event(seq, what))
        follower = Follower(shared, ["n"])
        assert follower.poll() == {"n"}
        assert follower.state("n").seq == 4
        backup.rename(path)
        with SqliteStore(path) as command:  # a rollback, at a place that the follower has read before
            assert DatabaseRolloutStore(command).append(event(2, "rollback"))
        assert comes(lambda: follower.poll() and follower.state("n").seq == 2)
        assert "0002-b" in follower.state("n").barred


def test_a_look_costs_a_reader_nothing_most_of_the_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    stat = os.stat

    def counted(*args: Any, **more: Any) -> os.stat_result:
        looks.append(args)
        return stat(*args, **more)

    with SqliteStore(path) as store:
        written(store, *(f"d{i}" for i in range(100)))
        store.get("d1")
        monkeypatch.setattr(os, "stat", counted)
        for _ in range(200):
            store.get("d1")
        assert len(looks) < 10
        looks.clear()
        store.record(*(decision(f"more{i}") for i in range(1000)))
        assert store.flush(10)
        assert len(looks) < 10, "one for each group, not for each decision"
