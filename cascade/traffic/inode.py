"""Tells a file from a later one that has its inode number: ext4 gives out the number of a deleted file again.

POSIX forgets all locks that a process has on a file when any descriptor of it is closed, and SQLite's locks
are such. So a file that this process has open already is asked through that descriptor, and no other is made.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import threading
from contextlib import suppress
from pathlib import Path

_FS_IOC_GETVERSION = 0x80087601

OPENING = threading.Lock()
"""Held while SQLite opens a database: `generation_of` must know what is open until it has closed its own."""


def generation_of(path: Path, beside: tuple[int, int] | None = None) -> int:
    """Give the generation of the inode at a path, which is another for each file that gets the number.

    Parameters
    ----------
    path : Path
    beside : tuple of int, optional
        Device and inode of the database that the file belongs to: where this process has that open, SQLite
        may open this one, too, at any moment, so that it is not opened here.

    Returns
    -------
    int
        0 where it is not known: nothing is there, or its file system has none (tmpfs, overlay).
    """
    with OPENING, suppress(OSError):
        found = os.stat(path)
        file = found.st_dev, found.st_ino
        if not stat.S_ISREG(found.st_mode):
            return 0
        # Where descriptors cannot be listed that raises, and the file is not opened.
        own = _open_here(file)
        if own is not None:
            generation = _ask(own)
            now = os.fstat(own)  # another thread may have closed it
            return generation if (now.st_dev, now.st_ino) == file else 0
        if beside is not None and _open_here(beside) is not None:
            return 0
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            now = os.fstat(opened)
            return _ask(opened) if (now.st_dev, now.st_ino) == file else 0
        finally:
            os.close(opened)
    return 0


def _ask(descriptor: int) -> int:
    answer = fcntl.ioctl(descriptor, _FS_IOC_GETVERSION, struct.pack("l", 0))
    # The kernel writes an int, whatever the number of the call says.
    return int(struct.unpack_from("I", answer)[0])


def _open_here(file: tuple[int, int]) -> int | None:
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # that of the listing itself
            found = os.fstat(int(name))
            if (found.st_dev, found.st_ino) == file:
                return int(name)
    return None
