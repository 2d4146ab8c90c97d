"""Discovery on a mixed stream: `CASCADE_DATA=... python -m benchmarks.discover [--json FILE]`.

All sets of $CASCADE_DATA in one stream, each called as its own agent would call it: a system prompt with
the day in it and JSON answers; a prompt around the text; tools. Open-ended chatter is between, some of it
under a general system prompt, some under none. Truth is which set a call came from. The harder stream asks
SNIPS for the name of the tool under the very system prompt of the chatter, so that only meaning and answers
can tell it.

Named alternative: k-means on the embeddings of the questions, told the right number of clusters.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from benchmarks.chatter import chatter
from benchmarks.table import save, show
from cascade.encoder import find_encoder
from cascade.traffic import Call
from training.discovery import Discovered, discover
from training.discovery.asked import read_calls
from training.embedding import ParallelEncoder

ROOT = Path(__file__).resolve().parents[1]
GENERAL = "You are a helpful assistant. Be friendly, honest and to the point."
CHATTER = "chatter"


def _read(data: Path, name: str, n: int, rng: random.Random) -> list[dict[str, Any]]:
    with gzip.open(data / name / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return rng.sample(rows, n)


def _call(
    number: int, rng: random.Random, messages: list[dict[str, Any]], output: dict[str, Any], **more: Any
) -> Call:
    tokens = sum(len(str(m["content"])) for m in messages) // 4
    said = len(json.dumps(output)) // 4
    usd = (2.5 * tokens + 10.0 * said) / 1e6
    return Call(
        f"c{number}",
        1.76e9 + number,
        None,
        None,
        "frontier",
        messages,
        more.get("tools"),
        more.get("response_format"),
        {"role": "assistant", **output},
        {},
        usd,
        tokens,
        said,
        rng.uniform(300, 900),
    )


def _banking(rng: random.Random, row: dict[str, Any], number: int) -> Call:
    day = f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    system = (
        f"You work in a bank's customer service. Today is {day}, ticket {rng.randint(10**5, 10**6)}. "
        "Read the customer's message and name its intent as JSON. Use one of the known intents only."
    )
    schema = {"type": "object", "properties": {"intent": {"type": "string"}}, "required": ["intent"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "intent", "schema": schema}}
    messages = [{"role": "system", "content": system}, {"role": "user", "content": row["text"]}]
    return _call(
        number, rng, messages, {"content": json.dumps({"intent": row["label"]})}, response_format=wanted
    )


def _clinc(rng: random.Random, row: dict[str, Any], number: int) -> Call:
    prompt = "Which skill of the voice assistant should handle this request? Reply with its name."
    said = f"{prompt}\n\nRequest: {row['text']}"
    return _call(number, rng, [{"role": "user", "content": said}], {"content": row["label"]})


def _snips(rng: random.Random, row: dict[str, Any], number: int, tools: list[dict[str, Any]]) -> Call:
    system = "You control a home. Call the tool that does what the user wants."
    arguments = json.dumps(row["output"]["arguments"])
    function = {"name": row["output"]["tool"], "arguments": arguments}
    messages = [{"role": "system", "content": system}, {"role": "user", "content": row["text"]}]
    output = {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    return _call(number, rng, messages, output, tools=tools)


def _snips_in_chatter(rng: random.Random, row: dict[str, Any], number: int) -> Call:
    messages = [{"role": "system", "content": GENERAL}, {"role": "user", "content": row["text"]}]
    return _call(number, rng, messages, {"content": row["output"]["tool"]})


def stream(data: Path, each: int, hard: bool, seed: int) -> tuple[list[Call], list[str]]:
    """Make a stream: calls, and the kind of each."""
    rng = random.Random(seed)
    offered = json.loads((data / "snips" / "tools.json").read_text())
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {
                    "type": "object",
                    "properties": {slot: {"type": "array", "items": {"type": "string"}} for slot in slots},
                },
            },
        }
        for name, slots in offered.items()
    ]
    kinds: list[tuple[str, Any]] = []
    for name in ("banking77", "clinc150", "snips"):
        kinds += [(name, row) for row in _read(data, name, each, rng)]
    kinds += [(CHATTER, pair) for pair in chatter(each, seed)]
    rng.shuffle(kinds)
    calls = []
    for number, (kind, row) in enumerate(kinds):
        if kind == "banking77":
            calls.append(_banking(rng, row, number))
        elif kind == "clinc150":
            calls.append(_clinc(rng, row, number))
        elif kind == "snips":
            calls.append(_snips_in_chatter(rng, row, number) if hard else _snips(rng, row, number, tools))
        else:
            system = [{"role": "system", "content": GENERAL}] if rng.random() < 0.6 else []
            calls.append(
                _call(number, rng, [*system, {"role": "user", "content": row[0]}], {"content": row[1]})
            )
    return calls, [kind for kind, _ in kinds]


def judge(found: Discovered, truth: dict[str, str]) -> dict[str, Any]:
    """Compare what was found with the truth, by call id."""
    predicted = {call.call_id: CHATTER for call in found.calls}
    for candidate in found.candidates:
        for i in candidate.members:
            predicted[found.calls[i].call_id] = f"node {candidate.name}"
    ids = sorted(predicted)
    nodes = [i for i in ids if truth[i] != CHATTER]
    open_ = [i for i in ids if truth[i] == CHATTER]
    return {
        "ARI, all calls": float(adjusted_rand_score([truth[i] for i in ids], [predicted[i] for i in ids])),
        "ARI, calls of nodes": float(
            adjusted_rand_score([truth[i] for i in nodes], [predicted[i] for i in nodes])
        ),
        "chatter left to the teacher": sum(predicted[i] == CHATTER for i in open_) / max(len(open_), 1),
        "node calls found": sum(predicted[i] != CHATTER for i in nodes) / max(len(nodes), 1),
    }


def main(
    each: Annotated[int, typer.Option(help="Calls of each kind.")] = 2000,
    seed: int = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure discovery.

    Example: `CASCADE_DATA=../shared/data python -m benchmarks.discover`
    """
    data = os.environ.get("CASCADE_DATA")
    if not data or not Path(data).is_dir():
        raise typer.BadParameter("set CASCADE_DATA to the folder with banking77, clinc150 and snips")
    models = ROOT / "models"
    encoder = ParallelEncoder(find_encoder("sentence-transformers/all-MiniLM-L6-v2", models, ROOT))
    figures: dict[str, Any] = {}
    quality, nodes = [], []
    for name, hard in (("own prompts", False), ("SNIPS in the chatter's prompt", True)):
        calls, kinds = stream(Path(data), each, hard, seed)
        truth = {call.call_id: kind for call, kind in zip(calls, kinds, strict=True)}
        began = time.perf_counter()
        found = discover(calls, encoder, seed=seed)
        seconds = time.perf_counter() - began
        asked = read_calls(calls)
        plain = KMeans(4, random_state=seed, n_init=3).fit_predict(encoder([each.said for each in asked]))
        baseline = float(adjusted_rand_score([truth[each.call.call_id] for each in asked], plain))
        seen = judge(found, truth)
        figures[name] = seen | {
            "seconds": seconds,
            "k-means ARI": baseline,
            "candidates": [c.to_json() for c in found.candidates],
            "left_topics": found.left_topics,
        }
        quality.append(
            {"stream": name, "calls": len(calls), **seen, "k-means ARI": baseline, "seconds": seconds}
        )
        for c in found.candidates:
            kinds_in = [truth[found.calls[i].call_id] for i in c.members]
            main_kind = max(set(kinds_in), key=kinds_in.count)
            nodes.append(
                {
                    "stream": name,
                    "node": c.name,
                    "is": main_kind,
                    "purity": kinds_in.count(main_kind) / len(kinds_in),
                    "calls": len(c.members),
                    "contract": c.contract.kind,
                    "labels": len(c.contract.labels),
                    "spend": c.spend_share,
                    "at 95": (c.settled or {}).get(0.95),
                    "at 98": (c.settled or {}).get(0.98),
                    "at 99": (c.settled or {}).get(0.99),
                }
            )
        typer.echo(f"{name}: chatter is about " + "; ".join(f"{t} ({s:.0%})" for t, s in found.left_topics))
    show("discovery", quality)
    show("candidates", nodes)
    save(json_file, figures)


if __name__ == "__main__":
    typer.run(main)
