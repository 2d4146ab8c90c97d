"""The rows of `benchmarks.serving`: what was measured in each round, and the ratio that each bar asks for."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import serving_peers


@dataclass
class Rounds:
    """Figures of each round by name."""

    seen: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, value: float) -> float:
        """Record one round's figure, and give it back."""
        self.seen[name].append(value)
        return value

    def median(self, name: str) -> float:
        """Give the median over the rounds; NaN where there is none."""
        return statistics.median(self.seen[name]) if self.seen.get(name) else float("nan")

    def ratio(self, over: str, under: str) -> float:
        """Give the median of the rounds' ratios."""
        pairs = list(zip(self.seen.get(over, ()), self.seen.get(under, ()), strict=False))
        return statistics.median(a / b for a, b in pairs) if pairs else float("nan")


def table(seen: Rounds, kept: dict[str, float], why: dict[str, str] | None) -> list[dict[str, Any]]:
    """Give the rows: what, how much, the bar, and whether it is met.

    `why` says why a peer was not measured; None where none was wanted.
    """
    rows: list[dict[str, Any]] = []

    def row(what: str, figures: str, ratio: float, bar: float, at_most: bool = False) -> None:
        met = ratio <= bar if at_most else ratio >= bar
        rows.append({
            "what": what, "figures": figures, "measured": round(ratio, 3),
            "bar": f"{'<=' if at_most else '>='} {bar:g}", "met": "yes" if met else "no",
        })  # fmt: skip

    m = seen.median
    kinds = {"echo4": "4 threads", "echo8": "8 threads", "aio": "asyncio"}
    fastest = max(kinds, key=m)
    echoes = ", ".join(f"{name} {m(key):.0f}/s" for key, name in kinds.items())
    row("Decide, linear rung / fastest empty echo", f"{m('decide'):.0f}/s; echo {echoes}",
        seen.ratio("decide", "echo"), 0.6)  # fmt: skip
    row("Decide, linear rung / echo of its kind (asyncio, the same event loop)",
        f"fastest is {kinds[fastest]}", seen.ratio("decide", "aio"), 0.5)  # fmt: skip
    row("two workers / one, load on the same cores",
        f"{m('two at its best'):.0f}/s, {m('one at its best'):.0f}/s; load took {m('load cores'):.2f} cores",
        seen.ratio("two at its best", "one at its best"), 1.7)  # fmt: skip
    row("BatchDecide of 256, decisions/s", f"{m('batch'):.0f}/s", m("batch"), 30_000)
    row("StreamDecide / unary, per message", f"{m('stream'):.0f}/s", seen.ratio("stream", "decide"), 1.5)
    row("encoder rung at 32 / its best batches in process",
        f"{m('encoder'):.0f}/s, {m('encoder in process'):.0f}/s",
        seen.ratio("encoder", "encoder in process"), 0.8)  # fmt: skip
    row(
        "p99 / p50 at half of peak",
        f"{m('p99'):.2f} ms, {m('p50'):.2f} ms",
        seen.ratio("p99", "p50"),
        3,
        True,
    )
    row("cost of flags, JSON logs, metrics, every decision traced / all off",
        f"{m('on'):.0f}/s, {m('bare'):.0f}/s", 1 - seen.ratio("on", "bare"), 0.15, True)  # fmt: skip
    row("cost of flags, JSON logs, metrics, one decision in twenty traced / all off",
        f"{m('some'):.0f}/s, {m('bare'):.0f}/s", 1 - seen.ratio("some", "bare"), 0.15, True)  # fmt: skip
    row("cost of metrics alone / all off", f"{m('decide'):.0f}/s, {m('bare'):.0f}/s",
        1 - seen.ratio("decide", "bare"), 0.15, True)  # fmt: skip
    own, whole = kept["worker, private"], kept["one process, resident"]
    row("second worker's own memory / one process", f"{own:.0f} of {whole:.0f} MB", own / whole, 0.4, True)
    for factor in (2, 5):
        good, answered = f"goodput {factor}x", f"answered {factor}x"
        figures = (
            f"{m(good):.0f}/s good of {m(answered):.0f}/s answered, {m(f'reset {factor}x'):.0f}/s reset; "
            f"peak {m('peak'):.0f}/s"
        )
        row(f"goodput at {factor}x of peak / peak", figures, seen.ratio(good, "peak"), 0.9)
    if why is not None:
        peer_rows(seen, why, row, rows)
    return rows


def peer_rows(
    seen: Rounds, why: dict[str, str], row: Callable[..., None], rows: list[dict[str, Any]]
) -> None:
    """Add the rows of the peers, measured or with the reason why not."""

    def unmeasured(name: str, reason: str) -> None:
        rows.append({"what": name, "figures": reason, "measured": float("nan"), "bar": "-", "met": "-"})

    m = seen.median
    for key, peer in serving_peers.PEERS.items():
        name = f"Decide / {peer.name} {serving_peers.installed(peer) or ''}, 32 in flight"
        if key not in seen.seen:
            unmeasured(name, why.get(key, "not measured"))
            continue
        rows.append({
            "what": name, "figures": f"{m('decide at 32'):.0f}/s, {m(key):.0f}/s",
            "measured": round(seen.ratio("decide at 32", key), 3), "bar": "-", "met": "-",
        })  # fmt: skip
    if "best peer" in seen.seen:
        row("Decide / the best peer but tritonserver, same linear model",
            f"{m('decide at 32'):.0f}/s, {m('best peer'):.0f}/s",
            seen.ratio("decide at 32", "best peer"), 1.5)  # fmt: skip
    name = "BatchDecide of 256 / TRACER's predict_batch of 256 with MiniLM"
    if "tracer" in seen.seen:
        rows.append({
            "what": name, "figures": f"{m('batch'):.0f}/s, {m('tracer'):.0f}/s",
            "measured": round(seen.ratio("batch", "tracer"), 3), "bar": "-", "met": "-",
        })  # fmt: skip
    else:
        unmeasured(name, why.get("tracer", "not measured"))
