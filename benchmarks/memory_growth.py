"""Memory of a service's processes over time, and whether it still grows once it has warmed up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

MB = 1024.0
"""kB in one."""


@dataclass(frozen=True)
class Sample:
    """What the processes of a service hold at one moment, in kB.

    Attributes
    ----------
    second : float
        Since the measuring began.
    own : dict of int to int
        By process id, the first of them the parent: memory that no file stands behind, what is shared
        divided among those who share it. The kernel can take none of it back.
    of_parent : int
        Of the parent alone, what is shared not divided: its part in that depends on how many workers there
        are at the moment, and on what they have written to.
    of_files : int
        Of all processes: pages of libraries and files, shared ones divided likewise. It falls while any
        other program on the machine maps the same libraries, and rises when that ends.
    """

    second: float
    own: dict[int, int]
    of_parent: int
    of_files: int

    @property
    def total(self) -> int:
        """What all processes hold that no file stands behind, in kB."""
        return sum(self.own.values())


def sample(parent: int, second: float) -> Sample:
    """Measure a process and its children; one that ends meanwhile is left out."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    own: dict[int, int] = {}
    of_parent = of_files = 0
    for pid in (parent, *map(int, children)):
        with suppress(OSError):
            sizes = proportional(pid)
            own[pid] = sizes["Pss_Anon"]
            of_parent = of_parent or sizes["Anonymous"]
            of_files += sizes["Pss"] - sizes["Pss_Anon"]
    return Sample(second, own, of_parent, of_files)


def proportional(pid: int) -> dict[str, int]:
    """Give the sizes in kB that `smaps_rollup` states of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return {key[:-1]: int(size) for key, size, unit in (line.split() for line in lines[1:]) if unit == "kB"}


@dataclass(frozen=True)
class Growth:
    """A straight line through memory over time.

    Attributes
    ----------
    slope, low, high : float
        MB a minute, and its interval of 95 %; NaN where there are fewer than three cycles.
    cycles : int
        How many means the line goes through.
    """

    slope: float
    low: float
    high: float
    cycles: int

    def __str__(self) -> str:
        return f"{self.slope:+.2f} ({self.low:+.2f} to {self.high:+.2f}, {self.cycles} cycles)"


def growth(samples: Sequence[Sample], cycle_seconds: float) -> Growth:
    """Fit a line to the memory of the last two thirds.

    What is done to the service repeats, and memory goes up and down with it. So the line goes through the
    means of whole cycles, and says nothing of what happens within one. The interval is that of least squares,
    by Student's t: it takes the cycles for independent.

    A sample of another number of processes than most have, at a reload or while a worker begins anew, is left
    out: a process more or less is a hundred times what is looked for.

    Parameters
    ----------
    samples : sequence of Sample
    cycle_seconds : float
        How long it takes until everything that is done was done once.
    """
    usual = statistics.mode(len(s.own) for s in samples) if samples else 0
    held = [s.total / MB if len(s.own) == usual else math.nan for s in samples]
    return _growth([s.second for s in samples], held, cycle_seconds)


def growth_of_parent(samples: Sequence[Sample], cycle_seconds: float) -> Growth:
    """Fit the same line to the parent alone, what it shares with workers counted whole."""
    return _growth([s.second for s in samples], [s.of_parent / MB for s in samples], cycle_seconds)


def growth_beyond_age(samples: Sequence[Sample], cycle_seconds: float) -> Growth:
    """Fit the same line to what a worker holds beyond what workers of its age hold.

    Where workers are killed and begin anew, their ages, and how long two generations are there at a reload,
    move the memory of all of them by more than what is looked for. What a worker of each age holds is the
    mean over the last two thirds. A leak that makes every worker grow alike, however late it began, is a
    part of that mean and not seen here: to see it, leave the kills out.

    Parameters
    ----------
    samples : sequence of Sample
    cycle_seconds : float
        As for `growth`.
    """
    seen_first: dict[int, float] = {}
    by_age: list[list[tuple[int, float]]] = []  # of each sample's workers: tens of seconds, and MB
    for one in samples:
        workers = list(one.own.items())[1:]
        for pid, _ in workers:
            seen_first.setdefault(pid, one.second)
        by_age.append([(round((one.second - seen_first[pid]) / 10), held / MB) for pid, held in workers])
    of_age: dict[int, list[float]] = {}
    for one, workers_held in zip(samples, by_age, strict=True):
        for age, held_mb in workers_held if one.second > samples[-1].second / 3 else ():
            of_age.setdefault(age, []).append(held_mb)
    usual = {age: float(np.mean(held)) for age, held in of_age.items()}
    seconds, beyond = [], []
    for one, workers_held in zip(samples, by_age, strict=True):
        each = [held_mb - usual[age] for age, held_mb in workers_held if age in usual]
        if each:
            seconds.append(one.second)
            beyond.append(float(np.mean(each)))
    return _growth(seconds, beyond, cycle_seconds)


def _growth(seconds: Sequence[float], held: Sequence[float], cycle_seconds: float) -> Growth:
    end = seconds[-1] if seconds else 0.0
    n = int(end * 2 / 3 / cycle_seconds + 0.01)
    means = []
    for k in range(n):
        # Counted from the end, so that the part of a cycle that is left over is the oldest.
        first, last = end - (n - k) * cycle_seconds, end - (n - k - 1) * cycle_seconds
        means.append(
            np.nanmean([mb for second, mb in zip(seconds, held, strict=True) if first < second <= last])
        )
    if n < 3:
        return Growth(math.nan, math.nan, math.nan, n)
    line = stats.linregress(np.arange(n) * cycle_seconds / 60, means)
    half = stats.t.ppf(0.975, n - 2) * line.stderr
    return Growth(line.slope, line.slope - half, line.slope + half, n)
