"""The fence that chat models put around JSON, as in a page of Markdown."""

from __future__ import annotations

import re

_FENCE = re.compile(r"```\w*\s*\n(.*?)\n?\s*```", re.DOTALL)


def unfenced(text: str) -> str:
    r"""Give what stands inside of a fence that is all of a text; any other text as it is.

    Examples
    --------
    >>> unfenced('```json\n{"item": "shoe"}\n```')
    '{"item": "shoe"}'
    >>> unfenced("shoe")
    'shoe'
    """
    fenced = _FENCE.fullmatch(text.strip())
    return fenced[1] if fenced else text
