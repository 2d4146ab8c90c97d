"""With which chance the truth about a request became known, of traffic that a ladder served.

What a ladder escalates the teacher answers, always; what it settles the teacher sees in audits alone. Known
answers are therefore mostly of what the ladder found hard. A fair sample of live traffic keeps an escalated
request with the chance that a settled one of the same bundle and time had of being audited: measured here,
as the share of the settled ones whose audit has an answer. So audits that were lost, that still wait, or that
the day's money did not reach count as not drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

CELL_SECONDS = 600
"""Decisions are counted in cells of ten minutes."""

BLOCK = 200
"""Decisions of one bundle that a share is measured on, at least where there are so many."""

Cell = tuple[str, int]
"""A bundle, and a stretch of `CELL_SECONDS`."""


@dataclass(frozen=True, slots=True)
class CellCount:
    """What a bundle's ladder made of the requests of a cell.

    Attributes
    ----------
    cell : Cell
    settled, audited, decisions : int
        Decisions that it settled; those of them of which the teacher's answer is known; all.
    """

    cell: Cell
    settled: int
    audited: int
    decisions: int


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive cells of a bundle, added up."""

    settled: int
    audited: int
    decisions: int

    @property
    def selected(self) -> bool:
        """Whether anything was settled; where nothing was, the teacher answered everything."""
        return self.settled > 0

    @property
    def chance(self) -> float:
        """With which chance a request belongs to a fair sample."""
        return min(self.audited / self.settled, 1.0) if self.settled else 1.0

    @property
    def of_settled(self) -> float:
        """How many settled requests an audited one stands for."""
        return self.settled / self.audited if self.audited else 0.0

    @property
    def of_escalated(self) -> float:
        """How many requests an escalated one stands for: itself, and the settled ones where none is known."""
        if self.audited or self.decisions == self.settled:
            return 1.0
        return self.decisions / (self.decisions - self.settled)


def blocks_of(counts: Sequence[CellCount]) -> dict[Cell, Block]:
    """Give the block of each cell."""
    of_bundle: dict[str, list[CellCount]] = defaultdict(list)
    for count in sorted(counts, key=lambda each: each.cell):
        of_bundle[count.cell[0]].append(count)
    found: dict[Cell, Block] = {}
    for cells in of_bundle.values():
        runs: list[list[CellCount]] = [[]]
        for count in cells:
            if sum(each.decisions for each in runs[-1]) >= BLOCK:
                runs.append([])
            runs[-1].append(count)
        if len(runs) > 1 and sum(each.decisions for each in runs[-1]) < BLOCK:
            last = runs.pop()
            runs[-1] += last
        for run in runs:
            block = Block(
                sum(each.settled for each in run),
                sum(each.audited for each in run),
                sum(each.decisions for each in run),
            )
            found |= {each.cell: block for each in run}
    return found
