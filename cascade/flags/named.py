"""Which flags of a node a flag file has in force, and what is wrong with it: what a status has to say."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from openfeature.contrib.tools.flagd.core.model import Flag

from cascade.flags.flagd_file import FlagdFileProvider, FlagFileRefused, read_flags
from cascade.flags.open import check_flags, doubt_of
from cascade.flags.values import flag_keys


@dataclass(frozen=True, slots=True)
class FlagsNamed:
    """What is known of a node's flags.

    Attributes
    ----------
    keys : list of str
        Of those that are enabled.
    problem : str
        What is wrong with the file, since when, and what holds meanwhile, or which of its flags speak of no
        node; empty where nothing is.
    """

    keys: list[str]
    problem: str = ""


def named_in_force(provider: FlagdFileProvider, node: str) -> FlagsNamed:
    """Give what is in force in this process."""
    why, since = provider.problem, provider.problem_since
    keys = _enabled(provider.flags, node)
    if not why:
        return FlagsNamed(keys, _doubtful(provider.path, provider.doubts))
    holds = f"{', '.join(keys)} as read last" if keys else "no flag of this node, as none was read before"
    return FlagsNamed(keys, f"{provider.path}: {why}, noticed at {_said(since)}; in force: {holds}")


def named_in_file(path: Path, nodes: Collection[str], node: str) -> FlagsNamed:
    """Give what a flag file says, where nobody who serves by it is asked.

    Examples
    --------
    >>> named_in_file(Path("no/such/file.json"), ["support-intent"], "support-intent")
    FlagsNamed(keys=[], problem='')
    """
    try:
        changed = os.stat(path).st_mtime
        flags, doubt = read_flags(path, check_flags(nodes))[1], doubt_of(nodes)
        return FlagsNamed(
            _enabled(flags, node), _doubtful(path, [said for key in sorted(flags) if (said := doubt(key))])
        )
    except FileNotFoundError:
        return FlagsNamed([])
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
    except FlagFileRefused as error:
        why = f"{error}, changed at {_said(changed)}"
    return FlagsNamed([], f"{path}: {why}; who serves keeps the flags that it read last: --target asks it")


def _enabled(flags: Mapping[str, Flag], node: str) -> list[str]:
    return [key for key in flag_keys(node) if key in flags and flags[key].state == "ENABLED"]


def _doubtful(path: Path, doubts: list[str]) -> str:
    return f"{path}: {'; '.join(doubts)}" if doubts else ""


def _said(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
