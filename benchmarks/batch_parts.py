"""What each part of a decision costs in a `BatchDecide`, in process: `python -m benchmarks.batch_parts`.

Whole batches are decided, each of other texts of the sample that the linear rung settles, and what is done
once for a batch is timed as it happens. A part's figure is without the parts in it: they add up to the whole.
Figures are medians over the rounds, divided by the batch. Time is the thread's own on a processor: what other
programs take is not in it, but that they push its data out of the caches is.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import typer
import yaml

from benchmarks.latency import ROOT, read_texts
from benchmarks.table import save, show
from cascade import first_pass
from cascade.ask import Ask
from cascade.config import load_config
from cascade.garbage import begin_serving, end_serving
from cascade.gram_sums import GramSums
from cascade.observe.metrics import Metrics
from cascade.observe.watcher import watched
from cascade.redaction import Redactor
from cascade.redaction.lately import Lately
from cascade.rollout.afterwards import Afterwards
from cascade.server import local, together
from cascade.server.engine import Engine
from cascade.server.local import walk_local
from cascade.server.requests import Asks
from cascade.server.responses import batch_response
from cascade.traffic import SqliteStore
from cascade.traffic.group_commit import GroupWriter
from cascade.v1 import decision_pb2 as pb

NODE = "support-intent"
READ, MESSAGE = "reading and checking the requests", "message"
REST = "request ids, turns, and handing from one to the next"
PARTS: dict[str, list[tuple[Any, str]]] = {
    "ids, and which bundle serves": [(together.Together, "__init__")],
    "redaction of what the rungs read": [(Redactor, "questions")],
    "first pass: sums over n-grams": [(GramSums, "of_texts")],
    "first pass: the rest": [(first_pass.FirstPass, "__call__")],
    "rest of the walk": [(together, "walk_local"), (local, "_run_rung")],
    "counts for the alarms": [(Afterwards, "walked")],
    "decision, record of the log, audit's coin": [(together.Together, "_finish")],
    "metrics": [(Metrics, "saw")],
    "handing over to the log": [(GroupWriter, "record")],
    REST: [(Engine, "decide_many")],
}


class Parts:
    """Adds up what each part takes of the thread's time, without the parts that it calls."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = defaultdict(int)
        self._inner: list[int] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a block."""
        began = time.thread_time_ns()
        self._inner.append(0)
        try:
            yield
        finally:
            took = time.thread_time_ns() - began
            self.spent[name] += took - self._inner.pop()
            if self._inner:
                self._inner[-1] += took

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give the function, timed."""

        def call(*args: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*args, **named)

        return call


def settled_texts(engine: Engine) -> list[str]:
    """Give the sample's texts that the linear rung settles."""
    node = engine.nodes[NODE]
    assert node.bundle is not None
    texts = [text for file in ("jsonl", "unseen.jsonl") for text in read_texts(f"{NODE}.{file}")[0]]
    asks = [Ask(NODE, text) for text in texts]
    walks = walk_local(asks, node.bundle, node.contract, (), node.latency, node.redactor)
    return [text for text, walk in zip(texts, walks, strict=True) if walk.rung == "linear"]


def main(
    rounds: int = 60,
    size: Annotated[int, typer.Option(help="Decisions in a batch.")] = 256,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Time the parts."""
    logging.disable(logging.CRITICAL)
    seen: dict[str, list[float]] = defaultdict(list)
    parts = Parts()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        for name, places in PARTS.items():
            for owner, function in places:
                stack.enter_context(
                    patch.object(owner, function, parts.timed(name, getattr(owner, function)))
                )
        config = yaml.safe_load((ROOT / "cascade.yaml").read_text())
        config |= {"store": f"sqlite:///{scratch}/traffic.db", "models": str(ROOT / "models")}
        config["nodes"] = {NODE: config["nodes"][NODE]}
        config["rollout"] = {"audit": {"ceiling": 0.002, "floor": 0.002, "daily_usd": 0.0}}
        path = Path(scratch) / "cascade.yaml"
        path.write_text(yaml.safe_dump(config))
        read = load_config(path)
        store = stack.enter_context(SqliteStore(Path(scratch) / "traffic.db"))
        engine = Engine(read, watched(store, [Metrics()]), refresh_seconds=0)
        stack.callback(engine.close)
        store.rows.redactor = redactor = engine.nodes[NODE].redactor
        texts = settled_texts(engine)
        raws = [
            pb.BatchDecideRequest(
                requests=[pb.DecideRequest(node=NODE, text=text) for text in texts[at : at + size]]
            ).SerializeToString()
            for at in range(0, len(texts) - size + 1, size)
        ]
        reader = Asks(read.limits, engine.contract)
        writer = next(thread for thread in threading.enumerate() if thread.name == "traffic-writer")
        clock = time.pthread_getcpuclockid(writer.ident or 0)
        begin_serving()
        stack.callback(end_serving)
        for number in range(-len(raws), rounds):
            if redactor is not None:
                redactor._clean = Lately()  # else it knows all texts within few rounds
            parts.spent.clear()
            began = time.clock_gettime_ns(clock)
            with parts.part(READ):
                requests = pb.BatchDecideRequest.FromString(raws[number % len(raws)]).requests
                asks = [reader.ask(each, None) for each in requests]
            outcomes = engine.decide_many(asks)
            with parts.part(MESSAGE):
                batch_response(outcomes, requests)
            store.flush()
            if number >= 0:
                for name, spent in parts.spent.items():
                    seen[name].append(spent / size / 1e3)
                seen["whole"].append(sum(parts.spent.values()) / size / 1e3)
                seen["the log's writer"].append((time.clock_gettime_ns(clock) - began) / size / 1e3)
    names = [READ, *PARTS, MESSAGE, "whole", "the log's writer"]
    rows = [{"part": name, "us a decision": round(statistics.median(seen[name]), 2)} for name in names]
    show(f"a decision of a batch of {size}, in process, processor time; medians of {rounds} rounds", rows)
    save(json_file, {"rows": rows, "rounds": rounds, "size": size})


if __name__ == "__main__":
    typer.run(main)
