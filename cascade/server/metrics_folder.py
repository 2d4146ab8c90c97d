"""The folder in which the workers of one service share their metrics, for as long as the service lives."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_log = logging.getLogger(__name__)

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus_client that names the folder."""

_PREFIX = "cascade-metrics-"
_LOCK = "service.lock"
"""Held in a folder by the service whose it is. The kernel lets go of it, whatever the service dies of."""


@contextmanager
def metrics_folder() -> Iterator[Callable[[int], None]]:
    """Give the workers a folder for their metrics, unless the environment names one; it goes at the end.

    prometheus_client reads the variable when it is imported, so the parent must not import it before.
    Whoever is killed leaves his folder behind; the next one removes it.

    Yields
    ------
    callable
        Told the process id of a worker that ended, so that its gauges are forgotten.
    """
    own = lock = None
    if not os.environ.get(VARIABLE):
        remove_of_the_dead()
        own = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = _hold(own)
        os.environ[VARIABLE] = str(own)

    def forget(pid: int) -> None:
        for path in Path(os.environ[VARIABLE]).glob(f"gauge_live*_{pid}.db"):
            path.unlink(missing_ok=True)

    try:
        yield forget
    finally:
        if own is not None and lock is not None:
            del os.environ[VARIABLE]
            shutil.rmtree(own, ignore_errors=True)
            os.close(lock)


def own_folder() -> Path | None:
    """Give the folder that this service made; None where there is none, or where it is the operator's."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder and Path(folder, _LOCK).exists() else None


def remove_of_the_dead() -> None:
    """Remove this user's folders of services that are no more; one without a lock's file is left alone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # held, gone meanwhile, or another user's
            if folder.lstat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)  # which follows no link
                _log.info("%s is removed: the service whose metrics it held is no more", folder)
            finally:
                os.close(lock)


def _hold(folder: Path) -> int:
    """Lock a folder. The lock's file appears when it is locked: nobody finds it in between."""
    new = folder / f"{_LOCK}.new"
    lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    new.rename(folder / _LOCK)
    return lock
