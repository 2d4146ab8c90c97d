"""Ids of decisions: the time, so that they sort, and 64 random bits, so that they cannot be guessed."""

from __future__ import annotations

import os
import threading
import time

from cascade.traffic import Decision, TrafficStore
from cascade.waiting import waiting

_BYTES, _AT_ONCE = 8, 512
_FRESH_SECONDS, _PATIENCE, _LOOK_EVERY = 10.0, 0.5, 0.02


class _Random:
    """Random bits from the system, fetched for many ids at once: each fetch costs microseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: list[str] = []

    def take(self, n: int) -> list[str]:
        with self._lock:
            while len(self._left) < n:
                text = os.urandom(_BYTES * _AT_ONCE).hex()
                self._left += [text[at : at + 2 * _BYTES] for at in range(0, len(text), 2 * _BYTES)]
            at = len(self._left) - n
            taken = self._left[at:]
            del self._left[at:]
            return taken


_random = _Random()


def _renew() -> None:
    global _random
    _random = _Random()  # two processes must not give the same bits


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def find_decision(store: TrafficStore, decision_id: str) -> Decision | None:
    """Find a decision in a store.

    One that another worker has made is seen once it is on disk, some milliseconds after its answer: where an
    id is that fresh, it is waited for, half a second at most.
    """
    found = store.get(decision_id)
    if found is not None or not _is_fresh(decision_id):
        return found
    end = time.monotonic() + _PATIENCE
    while found is None and time.monotonic() < end:
        with waiting():
            time.sleep(_LOOK_EVERY)
        found = store.get(decision_id)
    return found


def _is_fresh(decision_id: str) -> bool:
    if len(decision_id) != 16 + 2 * _BYTES:
        return False
    try:
        made = int(decision_id[:16], 16) / 1e9
    except ValueError:
        return False
    return abs(time.time() - made) < _FRESH_SECONDS


def new_decision_ids(n: int) -> list[str]:
    """Give n new ids, 32 hexadecimal digits each, in order: one nanosecond lies between two of them.

    With the same time in all, their index in the log would be added to in no order, for a twentieth of what a
    row takes.
    """
    now, taken = time.time_ns(), _random.take(n)
    head, at = f"{now >> 12:013x}", now & 0xFFF
    if at + n <= len(_LAST_DIGITS):
        return [head + last + bits for last, bits in zip(_LAST_DIGITS[at : at + n], taken, strict=True)]
    return [f"{now + later:016x}{bits}" for later, bits in enumerate(taken)]


_LAST_DIGITS = [f"{number:03x}" for number in range(0x1000)]  # to format a number takes as long as all else
