"""Which slices of a node's traffic its certificate covers, as a pure rule.

A slice is a part of the traffic that has a certificate line of its own: all answers with one label, or all
requests whose context holds one value of a configured key. The label is the one that a rung answers, because
the teacher's is not known when it matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LABEL = "label"
"""The dimension of slices by answered label; the other dimensions are keys of the context."""

FENCED_SLICE = "uncertified: slice"
"""How the reason of an answer in a slice that is not settled locally begins."""


@dataclass(frozen=True, slots=True)
class SliceRules:
    """Which slices are settled locally.

    Attributes
    ----------
    known : mapping of str to frozenset of str
        For each sliced context key, the values that the certified traffic held. A request with another
        value is not like that traffic, so it is not settled.
    fenced : mapping of (dimension, value) to str
        Slices that are not settled, and why.
    strictness : mapping of (dimension, value) to float
        Slices that settle from 1 - (1 - threshold) * strictness on, in (0, 1]; the others have 1.

    Examples
    --------
    >>> rules = SliceRules({"tenant": frozenset({"a", "b"})}, {("label", "refund"): "14 of 40 disagreed"})
    >>> rules.why_not("refund", {"tenant": "a"})
    'uncertified: slice label=refund: 14 of 40 disagreed'
    >>> rules.why_not("order", {"tenant": "c"})
    'uncertified: slice tenant=c: not in the traffic that was certified'
    >>> rules.why_not("order", {"tenant": "b"})
    ''
    """

    known: Mapping[str, frozenset[str]] = field(default_factory=dict)
    fenced: Mapping[tuple[str, str], str] = field(default_factory=dict)
    strictness: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def settle_all(self) -> bool:
        """Whether all answers may settle: `why_not` has nothing to say of any."""
        return not self.known and not self.fenced

    def asked(self, label: object, context: Mapping[str, str]) -> float:
        """Give the strictness that an answer is asked: that of its strictest slice."""
        if not self.strictness:
            return 1.0
        names = [(LABEL, label if isinstance(label, str) else "")]
        names += [(key, context.get(key, "")) for key in self.known]
        return min(self.strictness.get(name, 1.0) for name in names)

    def why_not(self, label: object, context: Mapping[str, str]) -> str:
        """Say why an answer lies in a slice that is not settled; empty where it may be.

        Parameters
        ----------
        label : object
            The answer; only texts are labels.
        context : mapping of str to str
            The request's. A missing key counts as the empty value.
        """
        if self.settle_all:
            return ""
        if isinstance(label, str) and (LABEL, label) in self.fenced:
            return f"{FENCED_SLICE} {LABEL}={label}: {self.fenced[LABEL, label]}"
        for key, values in self.known.items():
            value = context.get(key, "")
            if value not in values:
                return f"{FENCED_SLICE} {key}={value}: not in the traffic that was certified"
            if (key, value) in self.fenced:
                return f"{FENCED_SLICE} {key}={value}: {self.fenced[key, value]}"
        return ""

    @classmethod
    def from_manifest(cls, certificate: Mapping[str, Any]) -> SliceRules:
        """Read the rules out of a manifest's certificate; one without slices has none."""
        slices = certificate.get("slices")
        if slices is None:
            return cls()
        known: dict[str, set[str]] = {key: set() for key in slices["context"]}
        fenced: dict[tuple[str, str], str] = {}
        strictness: dict[tuple[str, str], float] = {}
        for row in slices["table"]:
            dimension, value = row["dimension"], row["value"]
            if dimension != LABEL:
                known[dimension].add(value)
            if row["state"] == "fenced":
                fenced[dimension, value] = row["reason"]
            if row["strictness"] < 1:
                strictness[dimension, value] = float(row["strictness"])
        return cls({key: frozenset(values) for key, values in known.items()}, fenced, strictness)
