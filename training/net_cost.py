"""Measures what a bundle's net cost is made of: milliseconds of its rungs, settled share, teacher's price.

The result stands in the manifest as `economy`. It is measured, so it differs a little between two runs on the
same traffic, and does not belong to what a version's hash covers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.config import ChatRungConfig, Config
from cascade.ladder import LocalLadder
from cascade.policy.net_cost import NetCost, Prices, net_cost, too_dear
from cascade.rungs.local_chat import LocalChatRung
from cascade.rungs.protocol import Query
from training.evaluate import Scored, settle

BYTES_PER_TOKEN = 4.0
"""Of plain English text in current tokenizers; only used where no traffic tells the teacher's price."""

ANSWER_TOKENS = 6.0
"""Beyond the label itself, what a structured answer takes."""


@dataclass(frozen=True)
class Economy:
    """What a bundle saves and spends.

    Attributes
    ----------
    cost : NetCost
        Dollars a decision.
    prices : Prices
    rung_ms, rung_usd : tuple of float
        Median milliseconds of one core that each local rung takes for one request, and what it costs besides.
    settled, ran : tuple of float
        Share of the held-out records that each local rung settles, and runs for.
    teacher_price_from : str
        `traffic` where the store knows what the teacher's answers cost, `price list` where it was
        worked out from the price per token and the length of the texts.
    too_dear : str
        Why everything is left to the teacher; empty where the ladder pays.
    """

    cost: NetCost
    prices: Prices
    rung_ms: tuple[float, ...]
    rung_usd: tuple[float, ...]
    settled: tuple[float, ...]
    ran: tuple[float, ...]
    teacher_price_from: str
    too_dear: str

    def to_json(self) -> dict[str, Any]:
        """Give everything as the manifest stores it."""
        return {
            "cost": self.cost.to_json(),
            "prices": asdict(self.prices),
            "rung_ms": list(self.rung_ms),
            "rung_usd": list(self.rung_usd),
            "settled": list(self.settled),
            "ran": list(self.ran),
            "teacher_price_from": self.teacher_price_from,
            "too_dear": self.too_dear,
        }


def measure_ms(ladder: LocalLadder, texts: Sequence[str]) -> NDArray[np.float64]:
    """Give the median milliseconds that each rung takes for one text, features and acceptor included.

    What is computed once for all rungs is charged to the first. Chat rungs are not asked: they run elsewhere,
    and get 0.
    """
    times: list[list[float]] = [[] for _ in ladder.rungs]
    for text in texts:
        began = time.perf_counter()
        prepared = ladder.prepare([Query(text)])
        for r, rung in enumerate(ladder.rungs):
            if isinstance(rung, LocalChatRung):
                times[r].append(0.0)
                continue
            ladder.run(r, prepared)
            now = time.perf_counter()
            times[r].append((now - began) * 1e3)
            began = now
    return np.array([np.median(t) for t in times])


def teacher_price(
    config: Config, node: str, texts: Sequence[str], labels: Sequence[str], means: tuple[float, float] | None
) -> tuple[float, str]:
    """Give what one answer of a node's teacher costs, and where that is known from.

    Parameters
    ----------
    texts : sequence of str
        Of the node's traffic.
    labels : sequence of str
        What the teacher may answer.
    means : (usd, milliseconds), optional
        Of the teacher's answers in the traffic.
    """
    start, per_byte, source = teacher_line(config, node, labels, means)
    asked = float(np.mean([len(text.encode()) for text in texts])) if texts else 0.0
    return start + per_byte * asked, source


def teacher_line(
    config: Config, node: str, labels: Sequence[str], means: tuple[float, float] | None
) -> tuple[float, float, str]:
    """Give what an answer of a node's teacher costs: to an empty text, by the byte of it, and the source.

    The parameters are those of `teacher_price`. What the traffic tells is one price for all.
    """
    if means is not None and np.isfinite(means[0]) and means[0] > 0:
        return means[0], 0.0, "traffic"
    found = config.nodes[node]
    teacher = config.rungs[found.ladder[-1]]
    assert isinstance(teacher, ChatRungConfig)
    schema = sum(len(label.encode()) + 3 for label in labels)  # structured output sends the labels along
    tokens_in = (len(found.prompt.encode()) + schema) / BYTES_PER_TOKEN
    answer = float(np.mean([len(label.encode()) for label in labels])) if labels else 0.0
    tokens_out = answer / BYTES_PER_TOKEN + ANSWER_TOKENS
    start = (tokens_in * teacher.price.input + tokens_out * teacher.price.output) / 1e6
    return start, teacher.price.input / BYTES_PER_TOKEN / 1e6, "price list"


def economy(
    config: Config,
    node: str,
    scored: Scored,
    thresholds: Sequence[float],
    rung_ms: NDArray[np.float64],
    teacher: tuple[float, str],
    retrain_seconds: float,
    asking_usd: float = 0.0,
) -> Economy:
    """Work out what a certified ladder saves, net.

    Parameters
    ----------
    scored : Scored
        Of held-out records.
    thresholds : sequence of float
        One a local rung.
    rung_ms : float array of shape (n_rungs,)
        From `measure_ms`.
    teacher : (usd, source)
        From `teacher_price`.
    retrain_seconds : float
        Wall time of the retraining.
    asking_usd : float
        What asking chat rungs about the records cost in it.
    """
    first, ran = settle(scored, thresholds)
    n_rungs = scored.right.shape[1]
    settled = tuple(float((first == r).mean()) for r in range(n_rungs))
    running = tuple(float(share) for share in ran.mean(axis=0))
    costs = config.costs
    prices = Prices(
        teacher_call=teacher[0],
        cpu_hour=costs.cpu_hour,
        retraining=costs.retrain_hour * retrain_seconds / 3600 + asking_usd,
        decisions_per_retraining=costs.decisions_per_retraining,
        audit_share=costs.audit_share,
    )
    rung_usd = np.nan_to_num(scored.rung_usd).tolist()
    cost = net_cost(settled, running, rung_ms.tolist(), prices, rung_usd)
    verdict = too_dear(cost, prices) if costs.straight_to_teacher else ""
    return Economy(
        cost, prices, tuple(rung_ms.tolist()), tuple(rung_usd), settled, running, teacher[1], verdict
    )
