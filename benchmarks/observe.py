"""What observing costs: decisions with metrics and traces on against all off, interleaved in one run.

Processor time of the whole process, the threads that log and send included, so that other jobs matter less.

`python -m benchmarks.observe [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

from cascade.ask import Ask
from cascade.config import load_config
from cascade.errors import CascadeError
from cascade.observe.metrics import Metrics
from cascade.observe.open import Observing
from cascade.observe.span_encoding import SpanEncoder, resource
from cascade.observe.span_queue import QueueLimits, SpanQueue
from cascade.observe.traces import Traces
from cascade.server.engine import Engine
from cascade.traffic import open_store

ROOT = Path(__file__).resolve().parents[1]
NODE = "support-intent"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"
ROUNDS, EACH = 15, 200


class _Swallow:
    """In place of the collector; what sending costs is in `benchmarks.serving`."""

    def send(self, message: bytes, closing: threading.Event) -> int:
        return 0


def _traces() -> Traces:
    encoder = SpanEncoder(resource(), {"frontier": ("none", "127.0.0.1")})
    return Traces(SpanQueue(encoder, _Swallow(), QueueLimits(seconds=0.02)))


def measure() -> dict[str, float]:
    """Give microseconds of processor time a decision, by what is on."""
    with (ROOT / "examples" / "sample" / f"{NODE}.unseen.jsonl").open() as lines:
        records = [json.loads(line)["text"] for line in lines]
    ways = {
        "all off": Observing(),
        "metrics": Observing(Metrics()),
        "metrics, traces not sampled": Observing(Metrics(), _traces()),
        "metrics, all traced": Observing(Metrics(), _traces()),
    }
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(ROOT / "cascade.yaml")
        engines = {}
        for index, (name, observing) in enumerate(ways.items()):
            store = open_store(f"sqlite:///{folder}/{index}.db")
            engines[name] = Engine(config, observing.watch(store), refresh_seconds=0), store, observing
        # Only what settles locally: what waits for a teacher has no use for microseconds.
        texts = [t for t in records if _settles(engines["all off"][0], t)][:EACH]
        seen: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, (engine, store, observing) in engines.items():
                flag = "0" if "not sampled" in name else "1"
                began = time.process_time()
                for text in texts:
                    context: dict[str, str] = {}
                    if observing.traces is not None:
                        observing.traces.begin(NODE, context, PARENT + flag)
                    engine.decide(Ask(NODE, text, (), context))
                store.flush(30)
                if observing.traces is not None:
                    _until_sent(observing.traces)
                seen[name].append((time.process_time() - began) / len(texts) * 1e6)
        for engine, store, observing in engines.values():
            engine.close()
            store.close()
            observing.close()
    return {name: statistics.median(values) for name, values in seen.items()}


def _until_sent(traces: Traces) -> None:
    while traces.stats().waiting:
        time.sleep(0.001)


def _settles(engine: Engine, text: str) -> bool:
    try:
        return engine.decide(Ask(NODE, text, deadline=time.monotonic() + 1.0)).rung == "linear"
    except CascadeError:  # it went to the teacher, who is not there
        return False


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure()
    base = found["all off"]
    for name, us in found.items():
        print(f"{name:30} {us:8.1f} us a decision  {us - base:+7.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
