"""Who serves a request: flags, the rollout and the guard put together, as pure rules."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cascade.ask import Mode
from cascade.flags.values import NodeFlags


@dataclass(frozen=True, slots=True)
class Plan:
    """What the rollout says about a node.

    Attributes
    ----------
    stable : str
        The version that serves whoever is not on the candidate; empty where the teacher does.
    candidate : str
        The version on its way up; empty where there is none.
    share : float
        Of the requests, the share that is live on the candidate, in [0, 1].
    shadow : bool
        Whether the candidate runs beside those that are not live on it.
    barred : frozenset of str
        Versions that were rolled back: no flag brings them back.
    spare : str
        What was stable before; kept in memory so that a rollback is at once.
    step : int
        The candidate's step, as the guard counts them.
    fenced : mapping of str to str
        Versions that settle nothing since their live traffic changed, and the test's sentence.
    known : bool
        Whether the shared state has been read. Until then the teacher answers, for what the pointer or a
        flag names may have been rolled back.
    """

    stable: str = ""
    candidate: str = ""
    share: float = 0.0
    shadow: bool = False
    barred: frozenset[str] = field(default_factory=frozenset)
    spare: str = ""
    step: int = 0
    fenced: Mapping[str, str] = field(default_factory=dict)
    known: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """Who serves a request.

    Attributes
    ----------
    mode : Mode
    bundle : str
        The version whose ladder answers; empty where the teacher does.
    shadow : str
        The version that runs beside; empty for none.
    overruled : str
        Why a flag was not followed; empty where all were.
    """

    mode: Mode
    bundle: str = ""
    shadow: str = ""
    overruled: str = ""


def bucket(node: str, candidate: str, key: str) -> float:
    """Give a request's place in [0, 1) in the rollout of a candidate: the same for the same key.

    With a rising share, a key that is on the candidate stays on it. Another candidate deals anew, so that it
    is not always the same callers who come first.

    Examples
    --------
    >>> bucket("node", "0001-aaaaaaaa", "session-1") == bucket("node", "0001-aaaaaaaa", "session-1")
    True
    """
    raw = f"{node}\0{candidate}\0{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=7).digest(), "big") / 2**56


def choose(plan: Plan, flags: NodeFlags, available: frozenset[str] | set[str], place: float) -> Choice:
    """Choose who serves a request.

    An explicit flag wins over the rollout, and the guard wins over both.

    Parameters
    ----------
    plan : Plan
    flags : NodeFlags
    available : set of str
        Versions that can be served now: loaded, and certified.
    place : float
        The request's `bucket`.
    """
    if not plan.known:
        return Choice("passthrough")
    named, overruled = "", ""
    if flags.bundle:
        if flags.bundle in plan.barred:
            overruled = f"flag names bundle {flags.bundle}, which was rolled back"
        elif flags.bundle not in available:
            overruled = f"flag names bundle {flags.bundle}, which is not there"
        else:
            named = flags.bundle
    stable = plan.stable if plan.stable in available and plan.stable not in plan.barred else ""
    candidate = plan.candidate if plan.candidate in available and plan.candidate not in plan.barred else ""
    if flags.mode == "passthrough":
        return Choice("passthrough", overruled=overruled)
    if flags.mode == "shadow":
        beside = named or candidate or stable
        return Choice("shadow" if beside else "passthrough", shadow=beside, overruled=overruled)
    if named:
        return Choice("live", named, overruled=overruled)
    if candidate and place < plan.share:
        return Choice("live", candidate, overruled=overruled)
    beside = candidate if plan.shadow else ""
    if stable:
        return Choice("live", stable, beside, overruled)
    if candidate and flags.mode == "live":
        return Choice("live", candidate, overruled=overruled)
    return Choice("shadow" if beside else "passthrough", shadow=beside, overruled=overruled)
