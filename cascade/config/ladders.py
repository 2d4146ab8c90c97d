"""What makes a ladder: rungs that exist, local ones before chat ones, a chat rung last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cascade.config.nearest import suggest


def ladder_problems(
    ladder: Sequence[str], kinds: Mapping[str, str | None]
) -> list[tuple[tuple[int, ...], str]]:
    """Find everything that is wrong with a ladder.

    Parameters
    ----------
    ladder : sequence of str
        Names of rungs, cheapest first.
    kinds : mapping of str to str or None
        The kind of each rung; None where it is not known, which is reported elsewhere.

    Returns
    -------
    list of (tuple of int, str)
        Where in the ladder (an index, or nothing for the whole ladder), and what.

    Examples
    --------
    >>> ladder_problems(["linear", "big"], {"linear": "linear", "big": "chat"})
    []
    >>> ladder_problems(["linear"], {"linear": "linear"})
    [((0,), "the last rung is the teacher and has to be of kind chat; 'linear' is of kind linear")]
    """
    problems: list[tuple[tuple[int, ...], str]] = []
    first_chat: str | None = None
    seen: set[str] = set()
    for index, name in enumerate(ladder):
        if name not in kinds:
            problems.append(((index,), f"no rung is named {name[:64]!r}; {suggest(name, kinds, 'rungs')}"))
            continue
        if name in seen:
            problems.append(((index,), f"the rung {name!r} is already in this ladder"))
            continue
        seen.add(name)
        kind = kinds[name]
        if kind == "chat":
            first_chat = first_chat or name
        elif kind is not None and first_chat is not None:
            problems.append(
                ((index,), f"local rungs come before chat rungs; put {name!r} before {first_chat!r}")
            )
    if ladder and kinds.get(ladder[-1]) not in {None, "chat"} and first_chat is None:
        last = ladder[-1]
        problems.append(
            (
                (len(ladder) - 1,),
                f"the last rung is the teacher and has to be of kind chat; {last!r} is of kind {kinds[last]}",
            )
        )
    return problems
