"""The journal of a node's retrainings: when, how long, what it cost, what came of it; one JSON object a line.

Refused retrainings are in it too, because they cost as much. It lies beside the bundles, not in them.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from cascade.config import Config

FILE = "retrains.jsonl"


@dataclass(frozen=True)
class Retraining:
    """One retraining.

    Attributes
    ----------
    time : float
        Unix seconds when it ended.
    version : str
        The bundle it gave; empty where the certificate was refused.
    records : int
    seconds : float
        Wall time.
    usd : float
        At the price of `costs.retrain_hour` at that time, with what chat rungs were asked for it.
    held_out_until : float, optional
        Unix seconds of the newest record it held out; None where the split was not by time.
    """

    time: float
    version: str
    records: int
    seconds: float
    usd: float
    held_out_until: float | None = None


def journal(
    config: Config,
    node: str,
    version: str,
    records: int,
    seconds: float,
    asking_usd: float = 0.0,
    held_out_until: float | None = None,
) -> None:
    """Append one retraining.

    Parameters
    ----------
    asking_usd : float
        What asking chat rungs about the records cost.
    held_out_until : float, optional
        See `Retraining`.
    """
    usd = config.costs.retrain_hour * seconds / 3600 + float(asking_usd)
    entry = Retraining(time.time(), version, records, round(seconds, 2), usd, held_out_until)
    line = json.dumps(asdict(entry))
    with (config.models_path / node / FILE).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_journal(config: Config, node: str) -> list[Retraining]:
    """Give a node's retrainings, oldest first; lines that cannot be read are left out."""
    try:
        text = (config.models_path / node / FILE).read_text("utf-8")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        try:
            found.append(Retraining(**json.loads(line)))
        except (ValueError, TypeError):  # half a line, after a full disk
            continue
    return found
