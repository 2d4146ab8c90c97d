"""How a bundle stands now: what its certificate takes for granted, checked against configuration and log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cascade.bundle import REFERENCE, load_array
from cascade.config import Config
from cascade.fences import teacher_fence, teacher_of
from cascade.policy.exchangeability import LiveTest
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.state import NodeRollout, fold
from cascade.server.exchangeability import WINDOW_SECONDS, feed, named_scores, sampled, since
from cascade.traffic import TrafficStore
from cascade.validators import import_validators, validators_fence


@dataclass(frozen=True)
class Live:
    """What the test of live traffic against the held-out records says.

    Attributes
    ----------
    n : int
        Distinct live requests that were tested.
    p_value, level : float
        Anytime-valid p-value; it alarms at or below the level, 0 for never.
    alarm : bool
    """

    n: int
    p_value: float
    level: float
    alarm: bool


@dataclass(frozen=True)
class Standing:
    """How a bundle stands.

    Attributes
    ----------
    fences : tuple of str
        Why it settles nothing now; empty where it settles.
    live : Live, optional
        None for a bundle without the held-out records' scores.
    """

    fences: tuple[str, ...]
    live: Live | None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {"fences": list(self.fences), "live": asdict(self.live) if self.live else None}

    def lines(self) -> list[str]:
        """Say it in plain words, a line each."""
        said = [f"settles nothing: {reason}" for reason in self.fences]
        if self.live is not None and not self.live.n:
            said.append("no live request of this bundle is in the log yet, so live traffic was not tested")
        elif self.live is not None:
            like = "is not like" if self.live.alarm else "looks like"
            said.append(
                f"live traffic {like} the held-out records: {self.live.n:,} distinct requests, "
                f"anytime-valid p = {self.live.p_value:.2g} (alarm at {self.live.level:g})"
            )
        return said


def standing(
    config: Config, node: str, folder: Path, manifest: Mapping[str, Any], store: TrafficStore
) -> Standing:
    """Check a bundle against the configuration and its live traffic.

    Parameters
    ----------
    config : Config
    node : str
    folder : Path
        The bundle's.
    manifest : mapping
        The bundle's.
    store : TrafficStore

    Raises
    ------
    StoreError
        The log cannot be read.
    ConfigError
        A validator cannot be imported.
    """
    validators = import_validators(node, config.nodes[node].validators)
    fences = [
        teacher_fence(manifest["certificate"], teacher_of(config, node)),
        validators_fence(manifest.get("validators", ()), validators),
    ]
    live = None
    if (folder / REFERENCE).exists():
        state = fold(NodeRollout(node), DatabaseRolloutStore(store).events(node))
        live, reason = _live(config, node, folder, manifest["version"], store, state)
        fences.append(reason)
    return Standing(tuple(reason for reason in fences if reason), live)


def _live(
    config: Config, node: str, folder: Path, version: str, store: TrafficStore, state: NodeRollout
) -> tuple[Live, str]:
    """Give what the test of live traffic says, and why it fences the bundle off; empty where it does not."""
    fenced = state.fenced.get(version)
    if fenced is not None:  # by the service, which has had no scores since then to test anew
        n, p, level = (float(str(fenced.data.get(key, 0))) for key in ("n", "p_value", "level"))
        return Live(int(n), p, level, True), fenced.why
    level, now = config.nodes[node].exchangeability.level, time.time()
    test = LiveTest(load_array(folder / REFERENCE).tolist(), level)
    until = int(now // WINDOW_SECONDS) + 1  # the window that is not over yet, too
    begin = since(state.starts.get(version), now)
    feed(test, sampled(store, node, version, begin, until, named_scores))
    return Live(test.n, test.p_value, level, test.alarm), test.reason()
