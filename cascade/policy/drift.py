"""Drift of inputs or scores: whether traffic is still like what the bundle met first.

The first requests on a bundle are the reference: their values are cut into bins of about equal share. From
then on each bin's share must stay below a ceiling well above its reference share (`cascade.policy.alarms`),
because traffic is never quite the same, and a test for "the same" would raise an alarm for sure. The bundle's
certificate is about other records (deduplicated, older), so it is no reference: requests that repeat a lot
would look like drift. Drift proves nothing about agreement; so it holds a rollout, and what audits then say
decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from cascade.policy.alarms import AlarmSettings, AlarmState, count, new_alarm, raised
from cascade.policy.guard import Action, Raised

REFERENCE = 1_000
"""Requests that the reference is made of; a bin's share in it is off by 1 point in a standard deviation."""

BINS = 10


def drift(
    of: str,
    what: str,
    reference: Sequence[float],
    bins: Sequence[str],
    tolerance: float = 0.5,
    room: float = 0.02,
) -> AlarmSettings:
    """Scores or inputs are not distributed as they were in the reference.

    Parameters
    ----------
    of : str
        "scores", "inputs".
    what : str
        "have a confidence".
    reference : sequence of float
        The share of each bin in the reference.
    bins : sequence of str
    tolerance, room : float
        A bin's ceiling is `share * (1 + tolerance) + room`: traffic is never quite the same, and a test
        for "the same" would raise an alarm for sure.
    """
    return AlarmSettings(
        f"drift of {of}", what,
        tuple(min(share * (1 + tolerance) + room, 0.98) for share in reference), Action.HOLD,
        bins=tuple(bins),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drift:
    """What is remembered about one kind of value, such as the acceptor's confidence.

    Attributes
    ----------
    of : str
        "scores", "inputs".
    what : str
        What requests in a bin have, for the sentence.
    first : tuple of float
        The values of the reference, while it is collected.
    edges : tuple of float
        Between the bins, rising; empty while the reference is collected, or where all its values are equal.
    settings : AlarmSettings, optional
        None while there is nothing to compare with.
    state : AlarmState, optional
    """

    of: str
    what: str
    first: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    settings: AlarmSettings | None = None
    state: AlarmState | None = None

    def take(self, values: Sequence[float]) -> Drift:
        """Take a batch of values, in the order of the requests; where it ends must not depend on them."""
        if self.settings is None or self.state is None:
            first = (*self.first, *values)
            return replace(self, first=first) if len(first) < REFERENCE else self._begin(first)
        if not values:
            return self
        hits = np.bincount(np.searchsorted(self.edges, values, side="right"), minlength=len(self.edges) + 1)
        state = count(self.settings, self.state, self.state.seq + 1, len(values), hits.tolist())
        return replace(self, state=state)

    @property
    def raised(self) -> Raised | None:
        """The alarm as the guard takes it; None while it is not raised."""
        return None if self.settings is None or self.state is None else raised(self.settings, self.state)

    def _begin(self, first: tuple[float, ...]) -> Drift:
        values = np.array(first)
        edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
        edges = edges[edges > values.min()]  # nothing lies left of the smallest value
        if not len(edges):
            return replace(self, first=first[-REFERENCE + 1 :])
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        bounds = [f"{edge:.3g}" for edge in edges]
        between = [f"from {low} to {high}" for low, high in pairwise(bounds)]
        names = [f"below {bounds[0]}", *between, f"from {bounds[-1]} on"]
        settings = drift(self.of, self.what, (counts / len(values)).tolist(), names)
        return Drift(self.of, self.what, (), tuple(edges.tolist()), settings, new_alarm(settings))
