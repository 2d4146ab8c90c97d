"""What was read last of a file and found good, in memory that a parent and its workers share.

Who reads the file anew puts what it read here before going by it. A worker that is started while the file is
broken begins with that, so it never brings back what another worker has let go of, a revoked key, say.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cascade.memory_file import memory_file

_log = logging.getLogger(__name__)

_HEAD = struct.Struct("<Q32s")  # which one it is, counted from 1, and the SHA-256 of the rest
_LOCK_SECONDS = 2.0


class LastGood:
    """Some bytes, the same for all processes that are forked from the one that makes it.

    There are two places that take turns, so that who is killed while it writes leaves the other whole.
    """

    def __init__(self) -> None:
        self._places = [memory_file("cascade-last-good") for _ in range(2)]
        self._mine = threading.Lock()

    def get(self) -> tuple[bytes, ...] | None:
        """Give what was put last; None for nothing."""
        with self.turn():
            return self._newest()[1]

    def put(self, *parts: bytes) -> None:
        """Put something in the place of what is there. In one's turn.

        Raises nothing: who has it goes by it all the same.
        """
        try:
            count, before = self._newest()
            if before == parts:
                return
            body = json.dumps([part.decode("latin-1") for part in parts]).encode()
            whole = _HEAD.pack(count + 1, hashlib.sha256(body).digest()) + body
            place = self._places[(count + 1) % 2].fileno()
            os.ftruncate(place, 0)
            at = 0
            while at < len(whole):
                at += os.pwrite(place, whole[at:], at)
        except OSError as error:
            _log.error(
                "a worker that is started while the file is broken will begin with an older one: %s", error
            )

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have the file read by one at a time, around reading and `put`: what is put last was read last."""
        lock = self._places[0].fileno()
        end = time.monotonic() + _LOCK_SECONDS
        with self._mine:
            # One that is stopped in its turn must not hold up the others, who may have a key to refuse.
            while not (locked := _lock(lock)) and time.monotonic() < end:
                time.sleep(0.01)
            try:
                yield
            finally:
                if locked:
                    fcntl.lockf(lock, fcntl.LOCK_UN)

    def _newest(self) -> tuple[int, tuple[bytes, ...] | None]:
        newest, found = 0, None
        for place in self._places:
            raw = os.pread(place.fileno(), os.fstat(place.fileno()).st_size, 0)
            if len(raw) < _HEAD.size:
                continue
            count, digest = _HEAD.unpack_from(raw)
            body = raw[_HEAD.size :]
            if count > newest and hashlib.sha256(body).digest() == digest:
                newest, found = count, tuple(part.encode("latin-1") for part in json.loads(body))
        return newest, found


def _lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it for one that dies
    except OSError:
        return False
    return True
