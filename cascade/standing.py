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
from cascade.server.exchangeability import WINDOW_SECONDS, feed, named_scores, sampled
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
        level = config.nodes[node].exchangeability.level
        test = LiveTest(load_array(folder / REFERENCE).tolist(), level)
        until = int(time.time() // WINDOW_SECONDS) + 1  # the window that is not over yet, too
        feed(test, sampled(store, node, manifest["version"], 0, until, named_scores))
        live = Live(test.n, test.p_value, level, test.alarm)
        fences.append(test.reason())
    return Standing(tuple(reason for reason in fences if reason), live)
