"""One line of JSON, read strictly: what is wrong with it is said, and nothing in it surprises later code."""

from __future__ import annotations

import json
import math
from typing import Any

from cascade.contract import JsonValue

SHOWN = 60
"""Characters of a wrong value in a reason."""

_DEEPEST = 64  # as deep as may be nested, so that no code that later walks an output runs out of stack


class Refused(Exception):
    """A line is refused; the message says why."""


def parse(line: bytes, repeated_keys: bool = False) -> dict[str, Any]:
    """Read a JSON object.

    Parameters
    ----------
    line : bytes
    repeated_keys : bool
        Whether a key may stand twice in an object; the last one counts then.

    Raises
    ------
    Refused
        It is none, in UTF-8, with each key once, and with numbers and a depth that any reader can take.
    """
    try:
        value = json.loads(
            line.decode("utf-8"),
            object_pairs_hook=None if repeated_keys else _unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        # JSON can escape half a surrogate pair, which no UTF-8 text, database or protobuf can hold.
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"not UTF-8 at byte {error.start + 1}") from None
    except UnicodeEncodeError:
        raise Refused("an escape \\uD800 to \\uDFFF stands without its other half") from None
    except json.JSONDecodeError as error:
        raise Refused(f"not JSON at column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise Refused("nested too deeply") from None
    except ValueError:  # the one that is left: Python's limit on the digits of an integer
        raise Refused("a number has too many digits") from None
    if not isinstance(value, dict):
        raise Refused(f"not a JSON object but {kind_of(value)}")
    if line.count(b"[") + line.count(b"{") > _DEEPEST and _depth(value) > _DEEPEST:
        raise Refused("nested too deeply")
    return value


def _depth(value: JsonValue) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict | list):
                inner.extend(each.values() if isinstance(each, dict) else each)
        level = inner
    return depth


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(f"the key {twice[:SHOWN]!r} stands twice in one object")
    return value


def _no_constant(name: str) -> Any:
    raise Refused(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Refused(f"the number {digits[:20]} is too large")
    return value


def kind_of(value: JsonValue) -> str:
    """Name the kind of a JSON value, with its article."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")
