"""What a flagd flag's value depends on, read off its targeting rule: says what may be cached, and by what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TARGETING_KEY = "targetingKey"


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What of a request a value depends on.

    Attributes
    ----------
    keys : frozenset of str
        Keys of the context.
    targeting_key : bool
        Whether it depends on the targeting key, as percentages do.
    all_keys : bool
        Whether it may depend on any key of the context.
    time : bool
        Whether it may change by itself.
    """

    keys: frozenset[str] = frozenset()
    targeting_key: bool = False
    all_keys: bool = False
    time: bool = False

    def __or__(self, other: Dependencies) -> Dependencies:
        return Dependencies(
            self.keys | other.keys,
            self.targeting_key or other.targeting_key,
            self.all_keys or other.all_keys,
            self.time or other.time,
        )

    @property
    def constant(self) -> bool:
        """Whether each request gets the same value."""
        return self == NOTHING


NOTHING = Dependencies()
EVERYTHING = Dependencies(all_keys=True, targeting_key=True)


def dependencies_of(rule: Any) -> Dependencies:
    """Read off a rule in JSONLogic what its result depends on. What cannot be told counts as depended on.

    Examples
    --------
    >>> dependencies_of({"if": [{"==": [{"var": "tenant"}, "acme"]}, "live", None]}).keys
    frozenset({'tenant'})
    >>> dependencies_of({"fractional": [["live", 10], ["passthrough", 90]]}).targeting_key
    True
    """
    if isinstance(rule, list):
        return _any_of(rule)
    if not isinstance(rule, dict):
        return NOTHING
    found = NOTHING
    for operator, operand in rule.items():
        operands = operand if isinstance(operand, list) else [operand]
        if operator == "var":
            found |= _variable(operands[0] if operands else "") | _any_of(operands[1:])
        elif operator in ("missing", "missing_some"):
            found |= EVERYTHING
        else:
            found |= _any_of(operands)
            # Without an expression to bucket by, flagd buckets by the targeting key.
            if operator == "fractional" and (not operands or isinstance(operands[0], list)):
                found |= Dependencies(targeting_key=True)
    return found


def _any_of(rules: list[Any]) -> Dependencies:
    found = NOTHING
    for rule in rules:
        found |= dependencies_of(rule)
    return found


def _variable(name: Any) -> Dependencies:
    if not isinstance(name, str) or not name:
        return EVERYTHING | Dependencies(time=True)
    first = name.split(".", 1)[0]
    if first == TARGETING_KEY:
        return Dependencies(targeting_key=True)
    if first == "$flagd":
        return NOTHING if name == "$flagd.flagKey" else Dependencies(time=True)
    return Dependencies(keys=frozenset({first}))
