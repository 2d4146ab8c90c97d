"""What can be done with the traffic log on a disk that is really full: a small one in memory, mounted."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cascade.errors import StoreError
from cascade.traffic import SqliteStore
from cascade.traffic.retention import prune
from tests.traffic_records import decision

DAY = 86400.0
MANY = 2000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "mounted"
    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=16m", "small", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs the right to mount a disk: {error}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=False, capture_output=True)


@pytest.fixture
def service(disk: Path) -> Iterator[SqliteStore]:
    """A store that has old traffic, an empty log, and goes on being open."""
    with SqliteStore(disk / "traffic.db") as store:
        old = [decision(f"{i:032x}", time=time.time() - 100 * DAY, text="x" * 800) for i in range(MANY)]
        for at in range(0, MANY, 200):
            store.record(*old[at : at + 200])
            assert store.flush(30)
        connection = store.database.connect_writer()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        yield store


def fill(disk: Path, but: int = 0) -> None:
    """Fill a disk to the last byte but some."""
    with (disk / "other").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert not os.statvfs(disk).f_bavail
    os.truncate(disk / "other", (disk / "other").stat().st_size - but)


def test_a_full_disk_is_pruned_in_the_room_that_the_log_has_while_the_service_goes_on(
    disk: Path, service: SqliteStore
) -> None:
    fill(disk, but=2**18)
    with SqliteStore(disk / "traffic.db") as command:
        assert prune(command.database, 90 * DAY, {}).rows == {"decisions": MANY}
    service.record(decision("new"))
    assert service.flush(30)
    assert service.counts("n")["decisions"] == 1
    assert service.stats().failed == 0


def test_where_there_is_no_room_at_all_it_is_said_and_some_is_enough(
    disk: Path, service: SqliteStore
) -> None:
    fill(disk)
    with pytest.raises(StoreError, match="disk is full; deleting needs a little room, too: make 5 MB"):
        prune(service.database, 90 * DAY, {})
    (disk / "other").unlink()
    fill(disk, but=5 * 2**20)
    assert prune(service.database, 90 * DAY, {}).rows == {"decisions": MANY}


def test_a_store_that_cannot_be_opened_because_the_disk_is_full_says_so(disk: Path) -> None:
    SqliteStore(disk / "traffic.db").close()
    fill(disk)
    with pytest.raises(StoreError, match=r"cannot be opened: .*; the disk is full: make some MB of room"):
        SqliteStore(disk / "traffic.db")
    assert not list((disk / "traffic.db.open").iterdir()), (
        "nothing is left of a counter that could not be made"
    )
