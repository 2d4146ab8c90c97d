"""`encryption` and `retention`: how stored traffic is kept, and for how long."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from cascade.config import values
from cascade.config.section import Section

_DURATION = re.compile(r"(\d{1,6})\s*(h|d|w)")
_SECONDS = {"h": 3600, "d": 86400, "w": 604800}


def seconds_of(duration: str) -> float:
    """Give the seconds of a duration such as 90d, 12h or 4w.

    Examples
    --------
    >>> seconds_of("90d")
    7776000.0
    """
    match = _DURATION.fullmatch(duration.strip())
    if match is None or int(match[1]) == 0:
        raise values.expected("a duration such as 90d, 12h or 4w")
    return float(int(match[1]) * _SECONDS[match[2]])


def _duration(value: str) -> str:
    seconds_of(value)
    return value


Duration = Annotated[str, AfterValidator(_duration)]


class EncryptionConfig(Section):
    """`encryption`: what was said is stored encrypted (AES-256-GCM, extra `encryption`).

    Attributes
    ----------
    key_env : str
        The environment variable that holds the keys, `ID:KEY` separated by commas, as `cascade traffic key`
        makes them. The first one encrypts; the others are for what older keys have encrypted.
    """

    key_env: values.VariableName = "CASCADE_ENCRYPTION_KEYS"


class RetentionConfig(Section):
    """`retention`: older traffic is deleted, by `cascade serve` every hour and by `cascade traffic prune`.

    Attributes
    ----------
    default : str, optional
        Such as 90d; without it traffic is kept for ever, but for the tenants that are named.
    tenants : dict of str to str
        Other times for some tenants.
    """

    default: Duration | None = None
    tenants: dict[str, Duration] = Field(default_factory=dict)
