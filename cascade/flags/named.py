"""Which flags a file holds for a node: what a person who asks for a rollout's status has to know of."""

from __future__ import annotations

import json
from pathlib import Path

from cascade.flags.values import flag_keys


def flags_named(path: Path, node: str) -> list[str]:
    """Give the keys of a node's enabled flags in a flag file.

    Of a file that is not there or cannot be read, none: who serves complains about that one.

    Examples
    --------
    >>> flags_named(Path("no/such/file.json"), "support-intent")
    []
    """
    try:
        flags = json.loads(path.read_text("utf-8"))["flags"]
        return [key for key in flag_keys(node) if key in flags and flags[key].get("state") == "ENABLED"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []
