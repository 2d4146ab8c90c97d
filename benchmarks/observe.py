"""What observing costs: decisions with metrics and traces on against all off, interleaved in one run.

`python -m benchmarks.observe [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from cascade.ask import Ask
from cascade.config import load_config
from cascade.errors import CascadeError
from cascade.observe.metrics import Metrics
from cascade.observe.open import Observing
from cascade.observe.traces import Traces
from cascade.server.engine import Engine
from cascade.traffic import open_store

ROOT = Path(__file__).resolve().parents[1]
NODE = "support-intent"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"
ROUNDS, EACH = 15, 200


def _traces() -> Traces:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON))
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    return Traces(provider, {"frontier": ("none", "127.0.0.1")})


def measure() -> dict[str, float]:
    """Give microseconds a decision: with all off, with metrics, with metrics and every decision traced."""
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
                began = time.perf_counter()
                for text in texts:
                    context: dict[str, str] = {}
                    if observing.traces is not None:
                        observing.traces.begin(NODE, context, PARENT + flag)
                    engine.decide(Ask(NODE, text, (), context))
                seen[name].append((time.perf_counter() - began) / len(texts) * 1e6)
                store.flush(30)
        for engine, store, observing in engines.values():
            engine.close()
            store.close()
            observing.close()
    return {name: statistics.median(values) for name, values in seen.items()}


def _settles(engine: Engine, text: str) -> bool:
    try:
        return engine.decide(Ask(NODE, text, deadline=time.monotonic() + 1.0)).rung == "linear"
    except CascadeError:  # it went to the teacher, who is not there
        return False


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
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
