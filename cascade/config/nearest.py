"""The nearest valid name to one that is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(name: str, valid: Iterable[str], what: str) -> str:
    """Say which valid name was probably meant, or list them all.

    Parameters
    ----------
    name : str
        What was written.
    valid : iterable of str
        What could have been written.
    what : str
        What the names are, in the plural: "keys here".

    Examples
    --------
    >>> suggest("bra", ["bar", "prompt"], "keys here")
    "did you mean 'bar'?"
    >>> suggest("zzz", ["prompt", "bar"], "keys here")
    'the keys here are: bar, prompt'
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name.lower()[:100], names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"the {what} are: {', '.join(names)}"
