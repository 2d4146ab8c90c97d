"""What the guard of one node and bundle is set to test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cascade.policy.eprocess import BettingTest

ALL = ""
"""The name of the part that is everything settled."""

AUDITS_PART, OUTCOMES_PART = 0.8, 0.2
"""How delta is shared between the test on audits and the one on reported outcomes."""

MARGINS = (1.0, 1.0, 0.5, 0.25)
"""The margin of the test to leave each step (shadow, 1 %, 5 %, 25 %), in multiples of 1 - bar."""


@dataclass(frozen=True)
class GuardSettings:
    """What the guard of one node and bundle tests.

    Attributes
    ----------
    bar : float
        Agreement demanded, in (0, 1).
    delta : float
        Allowed chance, over the bundle's whole life, to be rolled back although it keeps the bar.
    slices : tuple of str
        The certified slices, fixed when the rollout starts.
    promote_delta : float
        Allowed chance, at each step, of a promotion although agreement is below bar - margin.
    margins : tuple of float
        For each step that can be left, in multiples of 1 - bar.
    min_audits : int
        Audits a step takes at least before it can be left.
    slice_bars : tuple of float
        The agreement demanded of each slice; empty: the node's.
    """

    bar: float
    delta: float = 0.05
    slices: tuple[str, ...] = ()
    promote_delta: float = 0.05
    margins: tuple[float, ...] = MARGINS
    min_audits: int = 30
    slice_bars: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("bar", self.bar), ("delta", self.delta), ("promote_delta", self.promote_delta)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must be in (0, 1), not {value}")
        if ALL in self.slices or len(set(self.slices)) < len(self.slices):
            raise ValueError("slices need distinct names that are not empty")
        if self.slice_bars and len(self.slice_bars) != len(self.slices):
            raise ValueError(f"{len(self.slices)} slices, but {len(self.slice_bars)} slice_bars")
        if not all(0 < bar < 1 for bar in self.slice_bars):
            raise ValueError(f"slice_bars must be in (0, 1), not {self.slice_bars}")
        if any(margin <= 0 for margin in self.margins):
            raise ValueError(
                "margins must be above 0: what is exactly at the bar cannot be proven to be above it"
            )

    @property
    def bars(self) -> dict[str, float]:
        """The agreement demanded of each part: `ALL` and the slices."""
        return {
            ALL: self.bar,
            **dict(zip(self.slices, self.slice_bars or (self.bar,) * len(self.slices), strict=True)),
        }

    @cached_property
    def broken(self) -> dict[str, BettingTest]:
        """For each part, the test for disagreement above 1 - its bar."""
        return {part: BettingTest.of(1 - bar, "above", restarts=True) for part, bar in self.bars.items()}

    def good_enough(self, step: int) -> BettingTest:
        """Give the test for disagreement below 1 - bar + margin of a step."""
        return self._promotions[step]

    @cached_property
    def _promotions(self) -> tuple[BettingTest, ...]:
        return tuple(
            BettingTest.of(min((1 - self.bar) * (1 + margin), 0.999), "below", restarts=False)
            for margin in self.margins
        )

    @property
    def audits_needed(self) -> float:
        """Evidence from audits at which the bundle is rolled back."""
        return 1 / (self.delta * AUDITS_PART)

    @property
    def outcomes_needed(self) -> float:
        """Evidence from reported outcomes at which the bundle is rolled back."""
        return 1 / (self.delta * OUTCOMES_PART)

    @property
    def suspicious(self) -> float:
        """Evidence at which promotion waits and audits are stepped up: half the way, on the log scale."""
        return math.sqrt(self.audits_needed)

    def share_of(self, part: str) -> float:
        """Give a part's share in the averaged evidence."""
        if not self.slices:
            return 1.0
        return 0.5 if part == ALL else 0.5 / len(self.slices)

    def fingerprint(self) -> list[Any]:
        """Give what a state depends on."""
        return [self.bar, list(self.slices), list(self.slice_bars), list(self.margins)]
