"""Memory that was freed goes back to the system, a bundle's too."""

import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cascade.bundle import Bundle
from cascade.flags import Flags
from cascade.heap import HeapWatch, free_bytes, trim
from cascade.rollout import serving
from cascade.rollout.choice import Plan
from cascade.rollout.serving import Serving
from cascade.rollout.shelf import Shelf


class _Bundle:
    """Certified, and held by a cycle, as by a question that failed."""

    policy = SimpleNamespace(certified=True)

    def __init__(self) -> None:
        self.question = [self]


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked")
def test_what_was_freed_below_something_that_stays_goes_back_to_the_system() -> None:
    blocks = [bytearray(3000) for _ in range(30_000)]
    stays = bytearray(3000)
    full, free = _resident_mb(), free_bytes()
    del blocks
    assert free_bytes() - free > 80_000_000
    trim()
    assert full - _resident_mb() > 60
    assert len(stays) == 3000


def test_memory_is_given_back_once_nothing_holds_the_bundle_that_was_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: dict[str, weakref.ref[_Bundle]] = {}
    gone: list[bool] = []

    def load(version: str) -> Bundle:
        bundle = _Bundle()
        made[version] = weakref.ref(bundle)
        return cast(Bundle, bundle)

    flags: Any = SimpleNamespace(bundles=lambda node: set())
    served = Serving("intent", Shelf("intent", load), cast(Flags, flags))
    monkeypatch.setattr(serving, "trim", lambda: gone.append(made["0001"]() is None))
    served.adopt(Plan(stable="0001"))
    served.load()
    assert gone == [], "there is nothing to give back"
    served.adopt(Plan(stable="0002"))
    served.load()
    assert gone == [True]
    served.load()
    assert gone == [True], "it takes milliseconds in which others wait, so it is done only where it gains"


def test_memory_is_given_back_once_for_what_lies_free_for_a_while() -> None:
    moment = {"now": 0, "free": 100}
    given_back: list[int] = []
    watch = HeapWatch(
        much=50,
        every_seconds=5.0,
        free=lambda: moment["free"],
        give_back=lambda: given_back.append(moment["now"]),
        clock=lambda: moment["now"],
    )

    def look(*at: tuple[int, int]) -> list[int]:
        for now, free in at:
            moment.update(now=now, free=free)
            watch.look()
        return given_back

    assert look((5, 149), (10, 149)) == [], "that is not much"
    assert look((15, 150), (20, 120)) == [], "it was in use again"
    assert look((25, 150), (26, 150), (29, 150), (30, 160)) == [30]
    assert look((35, 160), (40, 200)) == [30], "what was given back is free still"
    assert look((45, 10), (50, 70), (55, 70)) == [30, 55], "it was in use, and is free again"
