"""Memory that was freed goes back to the system, a bundle's too."""

import subprocess
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

pytestmark = pytest.mark.alone


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


def _alone(code: str, *arguments: str) -> list[int]:
    """Run in a process of its own, as what glibc's heap does depends on all that was there before."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return [int(line) for line in done.stdout.split()]


_BLOCKS = """
from cascade.heap import free_bytes, pages_of_its_own
taught = bytearray(24 << 20)
del taught  # from this glibc learns that such blocks come and go
with pages_of_its_own():
    with pages_of_its_own():
        of_a_model = bytearray(8 << 20)
    another = bytearray(8 << 20)
free = free_bytes()
del of_a_model, another
print(free_bytes() - free)
of_a_call, above = bytearray(8 << 20), bytearray(8 << 20)
free = free_bytes()
del of_a_call
print(free_bytes() - free)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked")
def test_a_models_large_blocks_leave_no_hole_in_the_heap_and_those_of_calls_are_kept_for_the_next() -> None:
    of_models, of_a_call = _alone(_BLOCKS)
    assert of_models < 1 << 20
    assert of_a_call > 7 << 20


_BUNDLES = """
import gc, sys
from pathlib import Path
from cascade.bundle import load_bundle
from cascade.encoder import Encoder
from cascade.heap import free_bytes
encoder = Encoder(Path(sys.argv[1]))
for _ in range(3):
    bundle = load_bundle(Path(sys.argv[2]), lambda _: (encoder, encoder))
free = free_bytes()
del bundle
gc.collect()
print(free_bytes() - free)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked")
def test_a_bundle_that_is_loaded_again_and_again_leaves_next_to_no_hole_in_the_heap(shipped: Path) -> None:
    (hole,) = _alone(_BUNDLES, str(shipped.parents[1] / "encoders/all-MiniLM-L6-v2"), str(shipped))
    assert hole < 6 << 20, "it takes 17 MB"


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
