"""Where a bundle stands in its node's rollout, for the report: who gets its answers now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cascade.config import Config
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.state import GUARD
from cascade.rollout.verbs import Verbs
from cascade.traffic import TrafficStore
from training.write_bundle import versions


@dataclass(frozen=True)
class PulledBack:
    """Who pulled a bundle back, and why.

    Attributes
    ----------
    who : str
        A person's name, or `guard`.
    why : str
        One sentence; empty where a person gave none.
    """

    who: str
    why: str

    @property
    def by_guard(self) -> bool:
        """Whether evidence did it, and no person."""
        return self.who == GUARD


def pulled_back(config: Config, node: str, version: str, store: TrafficStore) -> PulledBack | None:
    """Give who pulled a bundle back, and why; None where it is not barred now.

    Raises
    ------
    StoreError
    """
    verbs = Verbs(config, DatabaseRolloutStore(store))
    if version not in verbs.state(node).barred:
        return None
    ended = [event for event in verbs.history(node) if event.what == "rollback" and event.bundle == version]
    return PulledBack(ended[-1].who, ended[-1].why)


def rollout_place(config: Config, node: str, version: str, store: TrafficStore) -> list[str]:
    """Say who gets a bundle's answers, and which command comes next, a sentence each.

    Flags may say otherwise for a request; see docs/rollout.md.

    Raises
    ------
    StoreError
    """
    said = Verbs(config, DatabaseRolloutStore(store)).describe(node)
    known = versions(config.models_path, node)
    lines = [_who(said["stable"], said["candidate"], said["percent"], said["rolled_back"], node, version)]
    if known and known[-1] > version:
        fate = "was rolled back" if known[-1] in said["rolled_back"] else "is there"
        lines.append(
            f"A newer bundle {fate}: `cascade report {node} --bundle {known[-1]}` reports on that one."
        )
    return lines


def _who(
    stable: str, candidate: str, percent: int, rolled_back: Collection[str], node: str, version: str
) -> str:
    begin = f"cascade rollout start {node} --bundle {version}"
    share = f"live for {percent} % of the keys" if percent else "in shadow"
    if version in rolled_back:
        return f"Nobody gets its answers: it was rolled back. `{begin} --force` begins anew."
    if version == candidate:
        return f"It is on its way up: {share}; `cascade rollout status {node}` says what it waits for."
    if version == stable and candidate:
        return f"It answers now, beside {candidate}, which is {share}."
    if version == stable:
        return "It answers now, for all traffic."
    return f"Nobody gets its answers yet: `{begin}` begins its rollout."
