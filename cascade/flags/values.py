"""What flags say about one request to a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from cascade.ask import Mode

MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class NodeFlags:
    """The flags of one node, as evaluated for one request.

    Attributes
    ----------
    mode : Mode, optional
        `cascade.<node>.mode`; None where no flag says it.
    bundle : str, optional
        `cascade.<node>.bundle`, a bundle's version; None where no flag says it.
    """

    mode: Mode | None = None
    bundle: str | None = None


UNSET = NodeFlags()
"""No flag says anything: the rollout decides."""


def flag_keys(node: str) -> tuple[str, str]:
    """Give the keys of a node's mode and bundle.

    Examples
    --------
    >>> flag_keys("support-intent")
    ('cascade.support-intent.mode', 'cascade.support-intent.bundle')
    """
    return f"cascade.{node}.mode", f"cascade.{node}.bundle"
