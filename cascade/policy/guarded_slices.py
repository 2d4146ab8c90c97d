"""Which slices the guard watches: those that the bundle's certificate proves, each at the bar that it proves.

Slices that are merely covered by the node's certificate are left out. Nothing was proven about them, so a
bundle that is as good as it was certified to be could break their bar, and would be rolled back for a promise
that nobody made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade.policy.slices import LABEL


@dataclass(frozen=True, slots=True)
class GuardedSlices:
    """The proven slices of a bundle.

    Attributes
    ----------
    bar_of : mapping of (dimension, value) to float
        Each slice's bar.

    Examples
    --------
    >>> slices = GuardedSlices({("label", "refund"): 0.95, ("tenant", "a"): 0.9})
    >>> slices.names, slices.bars
    (('label=refund', 'tenant=a'), (0.95, 0.9))
    >>> slices.of("refund", {"tenant": "b"})
    ('label=refund',)
    >>> slices.of("order", {"tenant": "a", "session": "7"})
    ('tenant=a',)
    """

    bar_of: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """What the slices are called: "dimension=value", in a fixed order."""
        return tuple(f"{dimension}={value}" for dimension, value in sorted(self.bar_of))

    @property
    def bars(self) -> tuple[float, ...]:
        """The slices' bars, in the order of `names`."""
        return tuple(self.bar_of[key] for key in sorted(self.bar_of))

    def of(self, label: object, context: Mapping[str, str]) -> tuple[str, ...]:
        """Name the slices that a settled answer lies in.

        Parameters
        ----------
        label : object
            The local answer; only texts are labels.
        context : mapping of str to str
            The request's. A missing key counts as the empty value, as in the certificate.
        """
        keys = {dimension for dimension, _ in self.bar_of}
        mine = {(key, context.get(key, "")) for key in keys - {LABEL}}
        if isinstance(label, str):
            mine.add((LABEL, label))
        return tuple(f"{dimension}={value}" for dimension, value in sorted(mine & self.bar_of.keys()))

    @classmethod
    def from_certificate(cls, certificate: Mapping[str, Any]) -> GuardedSlices:
        """Read them out of a manifest's certificate; one without slices has none."""
        table = (certificate.get("slices") or {}).get("table", ())
        proven = (row for row in table if row["state"] == "proven")
        return cls({(row["dimension"], row["value"]): float(row["bar"]) for row in proven})
