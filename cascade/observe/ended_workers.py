"""What workers that ended had counted, in one file of each kind.

prometheus_client leaves the files of each process that ever counted, and each page reads all of them: 0.35 ms
for every worker that ended, so one that dies again and again would make each look at the service slower.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

_log = logging.getLogger(__name__)

_LOCK = "pages.lock"
_KINDS = ("counter", "histogram")  # what is added up; gauges of the dead are forgotten by the parent
_ENDED = "ended"


@contextmanager
def held_still(folder: Path, shared: bool = True) -> Iterator[None]:
    """Keep files from being folded meanwhile: a page would miss them, or have them twice."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # in a folder of the operator's, another user's, where nothing is folded; or a full disk
        if not shared:
            raise
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def fold(folder: Path) -> None:
    """Add what processes that are no more had counted to one file of each kind, and remove theirs.

    Parameters
    ----------
    folder : Path
        Where only processes of this machine, and of this service, count. What cannot be written is left.
    """
    try:
        with held_still(folder, shared=False):
            for kind in _KINDS:
                dead = [path for path in folder.glob(f"{kind}_*.db") if _is_of_the_dead(path)]
                if dead:
                    _add_up(folder / f"{kind}_{_ENDED}.db", dead)
    except OSError as error:  # no reason not to serve
        _log.warning("what ended workers counted stays in files of their own: %s", error)


def _add_up(ended: Path, dead: list[Path]) -> None:
    total: defaultdict[str, float] = defaultdict(float)
    for path in [ended, *dead] if ended.exists() else dead:
        for key, value in _values(path):
            total[key] += value
    new = ended.with_suffix(".new")
    new.unlink(missing_ok=True)
    written = MmapedDict(str(new))  # type: ignore[no-untyped-call]
    for key, value in total.items():
        written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    written.close()  # type: ignore[no-untyped-call]
    new.rename(ended)
    for path in dead:
        path.unlink()


def _values(path: Path) -> list[tuple[str, float]]:
    try:
        found = MmapedDict.read_all_values_from_file(path)  # type: ignore[no-untyped-call]
        return [(key, value) for key, value, _, _ in found]
    except (struct.error, RuntimeError, ValueError) as error:  # killed while it made the file
        _log.warning("%s holds nothing that can be read: %s", path, error)
        return []


def _is_of_the_dead(path: Path) -> bool:
    pid = path.stem.rpartition("_")[2]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's by now, so not that worker
        return True
    return False
