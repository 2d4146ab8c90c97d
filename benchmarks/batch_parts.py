"""What each part of a decision costs in a `BatchDecide`, in process: `python -m benchmarks.batch_parts`.

The parts are timed one by one over the same batch of sample texts that the linear rung settles, part after
part in every round; each figure is the median over the rounds of the parts' time, divided by the batch. The
two whole rows say how much of the whole the parts explain. Time is the thread's own on a processor: what
other programs take is not in it, but that they push its data out of the caches is.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from benchmarks.latency import ROOT, read_texts
from benchmarks.table import save, show
from cascade.ask import Ask
from cascade.config import load_config
from cascade.errors import CascadeError
from cascade.ngrams import hash_grams
from cascade.rungs.protocol import Query
from cascade.server.decision_log import to_log
from cascade.server.engine import Engine
from cascade.server.local import walk_local
from cascade.server.requests import Asks
from cascade.server.responses import batch_response
from cascade.traffic import SqliteStore
from cascade.traffic.rows import Rows
from cascade.v1 import decision_pb2 as pb

NODE = "support-intent"


def parts(engine: Engine, limits: Any, n: int) -> dict[str, Callable[[], Any]]:
    """Give the parts of deciding a batch of n, and the whole."""
    node = engine.nodes[NODE]
    bundle = node.bundle
    assert bundle is not None
    known = [Ask(NODE, text) for text in read_texts(f"{NODE}.unseen.jsonl")[0]]
    walks = walk_local(known, bundle, node.contract, (), node.latency, node.redactor)
    settled = [ask.text for ask, walk in zip(known, walks, strict=True) if walk.rung == "linear"]
    requests = [pb.DecideRequest(node=NODE, text=text) for text in (settled * n)[:n]]
    raw = pb.BatchDecideRequest(requests=requests).SerializeToString()
    reader = Asks(limits, engine.contract)

    def read() -> list[Ask]:
        return [reader.ask(each, None) for each in pb.BatchDecideRequest.FromString(raw).requests]

    asks = read()
    texts = [ask.text for ask in asks]
    rows = Rows(redactor=node.redactor)
    decided = engine.decide_many(asks)
    answers = [each for each in decided if not isinstance(each, CascadeError)]
    assert len(answers) == n, "some of the sample's texts have no local answer"

    def log() -> list[Any]:
        return [to_log(ask, each, node, 0.0, 1.0, None) for ask, each in zip(asks, answers, strict=True)]

    logged = log()

    def walk() -> None:
        walk_local(asks, bundle, node.contract, (), node.latency, node.redactor)

    def whole() -> None:
        batch_response(engine.decide_many(read()), requests)

    queries = [Query(ask.text, ask.messages, ask.choices, ask.deadline) for ask in asks]
    return {
        "reading and checking the request": read,
        "redaction of what the rungs read": lambda: [
            text if node.redactor is None else node.redactor.kinds(text) for text in texts
        ],
        "n-grams": lambda: list(hash_grams(texts, 8192)),
        "first pass, n-grams included": lambda: bundle.ladder.prepare(queries),
        "walk up the ladder, redaction and first pass included": walk,
        "record of the log": log,
        "its row, by the writer": lambda: [rows.decision_row(each) for each in logged],
        "message": lambda: batch_response(answers, requests),
        "whole, but for writing the log": whole,
    }


def main(
    rounds: int = 40,
    size: Annotated[int, typer.Option(help="Decisions in a batch.")] = 256,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Time the parts."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as scratch:
        config = yaml.safe_load((ROOT / "cascade.yaml").read_text())
        config |= {"store": f"sqlite:///{scratch}/traffic.db", "models": str(ROOT / "models")}
        config["nodes"] = {NODE: config["nodes"][NODE]}
        path = Path(scratch) / "cascade.yaml"
        path.write_text(yaml.safe_dump(config))
        read = load_config(path)
        with SqliteStore(Path(scratch) / "traffic.db") as store:
            engine = Engine(read, store, refresh_seconds=0)
            store.record = lambda *_: None  # type: ignore[method-assign]  # else the writer's thread takes part
            work = parts(engine, read.limits, size)
            times: dict[str, list[float]] = {name: [] for name in work}
            for _ in range(rounds):
                for name, function in work.items():
                    began = time.thread_time()
                    function()
                    times[name].append((time.thread_time() - began) / size * 1e6)
            engine.close()
    rows = [
        {"part": name, "us a decision": round(statistics.median(each), 2)} for name, each in times.items()
    ]
    show(f"a decision of a batch of {size}, in process, processor time; medians of {rounds} rounds", rows)
    save(json_file, {"rows": rows, "rounds": rounds, "size": size})


if __name__ == "__main__":
    typer.run(main)
