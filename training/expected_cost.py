"""What a bundle is expected to cost and save: the retraining's shares, at the teacher's price of today."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cascade.policy.net_cost import NetCost, Prices, net_cost
from training.node_report import NodeReport


@dataclass(frozen=True)
class Expected:
    """Dollars a decision, and what they stand on.

    Attributes
    ----------
    cost : NetCost
    prices : Prices
    price_from : str
        `traffic` or `price list`: where the teacher's price is known from.
    then, then_from : float, str
        The teacher's price at the retraining, and where it was known from.
    """

    cost: NetCost
    prices: Prices
    price_from: str
    then: float
    then_from: str


def expected(report: NodeReport) -> Expected | None:
    """Give what a bundle is expected to cost and save; None where its retraining measured nothing.

    Shares and times are the retraining's. The teacher's price is the one that the report's other tables use:
    a bundle from imported records knew its teacher's price list only, and traffic tells what it really costs.
    """
    economy: Mapping[str, Any] | None = report.manifest.get("economy")
    if not economy:
        return None
    prices, then_from = Prices(**economy["prices"]), str(economy["teacher_price_from"])
    now, price_from = report.teacher_call or (prices.teacher_call, then_from)
    then, prices = prices.teacher_call, replace(prices, teacher_call=now)
    cost = net_cost(economy["settled"], economy["ran"], economy["rung_ms"], prices, economy["rung_usd"])
    return Expected(cost, prices, price_from, then, then_from)
