"""The demo's traffic: the sample that the repository ships, or real data from a folder."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from cascade.client import Client, Decision, DecisionError
from cascade.errors import ConfigError
from cascade.text import flatten_messages

TRIES = 4
BUSY = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample"

SAMPLE_NODES = {
    "support-intent": "Name the intent of this customer's message: {{ text }}",
    "tool-choice": "Pick the tool for the agent's next step: {{ text }}",
    "continue-or-stop": "Read the chat of an agent's loop: should it continue or stop? {{ text }}",
}
BARS = {"continue-or-stop": 0.90}
"""Agreement demanded of a node, where it is not 0.95: whether to stop is hard to tell."""

REAL_NODES = {
    "banking77": "Name the intent of this bank customer's message: {{ text }}",
    "clinc150": "Name the intent of this message to an assistant, or oos: {{ text }}",
}


@dataclass(frozen=True)
class Example:
    """One input with its recorded answer."""

    text: str | None
    messages: tuple[tuple[str, str], ...]
    label: str
    session: str

    @property
    def key(self) -> str:
        """The input as one text: what the simulated frontier finds its answer by."""
        return self.text if self.text is not None else flatten_messages(self.messages)


@dataclass(frozen=True)
class NodeTraffic:
    """A node's history, which the frontier answers, and later inputs that nobody has seen."""

    node: str
    prompt: str
    history: tuple[Example, ...]
    unseen: tuple[Example, ...]


@dataclass(frozen=True)
class Sent:
    """What one request came to."""

    example: Example
    decision: Decision | None
    error: str
    latency_ms: float


def read_traffic(sample: Path, data: Path | None) -> list[NodeTraffic]:
    """Read the sample, or BANKING77 and CLINC150 from `data`.

    Raises
    ------
    ConfigError
        A file is missing.
    """
    if data is None:
        return [
            NodeTraffic(node, prompt, _read(sample / f"{node}.jsonl"), _read(sample / f"{node}.unseen.jsonl"))
            for node, prompt in SAMPLE_NODES.items()
        ]
    found = []
    for node, prompt in REAL_NODES.items():
        if (data / node).is_dir():
            history = _read(_either(data / node / "train.jsonl"))
            found.append(NodeTraffic(node, prompt, history, _read(_either(data / node / "test.jsonl"))))
    if not found:
        raise ConfigError(f"{data} holds neither {' nor '.join(f'{n}/train.jsonl' for n in REAL_NODES)}")
    return found


def _either(path: Path) -> Path:
    zipped = path.with_name(path.name + ".gz")
    return zipped if zipped.is_file() else path


def _read(path: Path) -> tuple[Example, ...]:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; run the demo in the repository") from error
    return tuple(_example(json.loads(line)) for line in raw.splitlines() if line.strip())


def _example(row: dict[str, Any]) -> Example:
    messages = tuple((m["role"], m["content"]) for m in row.get("messages", ()))
    return Example(row.get("text"), messages, row["label"], row.get("session", ""))


def send(
    client: Client, node: str, examples: Sequence[Example], in_flight: int, done: Callable[[], None]
) -> list[Sent]:
    """Send examples through `Decide`, some at a time, and measure each.

    What a busy service refuses is asked again after the time that it names, as any client should.
    """

    def one(example: Example) -> Sent:
        began = time.perf_counter()
        context = {"session": example.session} if example.session else {}
        for tries_left in reversed(range(TRIES)):
            try:
                decision = client.decide(
                    node=node,
                    text=example.text,
                    messages=example.messages or None,
                    context=context,
                    timeout=30,
                )
                return Sent(example, decision, "", (time.perf_counter() - began) * 1e3)
            except DecisionError as error:
                failure = str(error)
                if error.code not in BUSY or not tries_left:
                    break
                time.sleep(error.retry_after_seconds or 0.2)
        return Sent(example, None, failure, (time.perf_counter() - began) * 1e3)

    with ThreadPoolExecutor(in_flight) as pool:
        futures = [pool.submit(one, example) for example in examples]
        for _ in as_completed(futures):
            done()
    return [future.result() for future in futures]


def recorded_answers(traffic: Sequence[NodeTraffic]) -> dict[str, str]:
    """Give the recorded answer to each input, of all nodes."""
    return {example.key: example.label for node in traffic for example in _all(node)}


def _all(node: NodeTraffic) -> Iterator[Example]:
    yield from node.history
    yield from node.unseen
