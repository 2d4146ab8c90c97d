"""Redaction: recall and precision on a labelled set, and microseconds a text.

    python -m benchmarks.redaction [--json FILE] [--show]

A value counts as found when all of it is replaced; a finding counts as right when it touches a value. The set
is `benchmarks/redaction_set.py`. It was made for this and looked at while the detectors were written, so that
real traffic will do worse. The rows "public sets" are the tests in $CASCADE_DATA, whose texts hold no values:
there every finding is wrong. The named alternative is Presidio without a language model.

Names and addresses are a set and a table of their own (`benchmarks/redaction_people.py`); names need spaCy
and the model that `--names-model` names. There "BANKING77" holds neither, so that every finding is wrong.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from scipy.stats import beta

from benchmarks import redaction_people as people_set
from benchmarks.redaction_set import HANDWRITTEN, HARD_NEGATIVES, Row, rows
from benchmarks.table import save, show
from cascade.redaction import Engine, Redactor
from cascade.redaction.engine import PatternEngine

KEY = b"benchmarks-redaction-key"
PLAIN = ("where is my parcel? it should have been here by now", "play some jazz in the kitchen please")
DIGITS = ("my order 12 is two days late", "order 4500123456789013 of 2024-11-03 is late, 3 items")
VALUES = ("mail me at jo.d@example.com please", "my card is 4111 1111 1111 1111, call +49 30 1234567")


def score(redactor: Redactor, data: Sequence[Row]) -> dict[str, Any]:
    """Count values found and findings right, by kind and in all."""
    values: Counter[str] = Counter()
    found: Counter[str] = Counter()
    findings = right = 0
    missed: list[str] = []
    wrong: list[str] = []
    for row in data:
        spans = redactor.find(row.text)
        places = []
        at = 0
        for kind, value in row.values:
            start = row.text.index(value, at)
            at = start + len(value)
            places.append((start, at))
            values[kind] += 1
            covered = {i for s in spans for i in range(s.start, s.end)}
            if all(i in covered for i in range(start, at) if row.text[i].isalnum()):
                found[kind] += 1
            else:
                missed.append(row.text)
        for span in spans:
            findings += 1
            if any(a < span.end and span.start < b for a, b in places):
                right += 1
            else:
                wrong.append(row.text)
    return {
        "values": sum(values.values()), "found": sum(found.values()), "findings": findings, "right": right,
        "by_kind": {kind: (found[kind], values[kind]) for kind in sorted(values)},
        "missed": missed, "wrong": wrong,
    }  # fmt: skip


def interval(k: int, n: int) -> tuple[float, float]:
    """Give the exact 95 % interval of a share (Clopper and Pearson 1934)."""
    low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return low, high


def microseconds(function: Callable[[str], str], texts: Sequence[str], seconds: float = 0.3) -> float:
    """Give the time of one text, the fastest of several rounds."""
    best = float("inf")
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        for _ in range(100):
            for text in texts:
                function(text)
        best = min(best, (time.perf_counter() - start) / (100 * len(texts)))
    return best * 1e6


def engines() -> dict[str, Engine | None]:
    """Give the built-in engine, and Presidio where it is installed."""
    found: dict[str, Engine | None] = {"patterns": None}
    try:
        from cascade.redaction.presidio import PresidioEngine
    except ImportError:
        return found
    return found | {"presidio": PresidioEngine()}


def people(model: str) -> list[dict[str, Any]]:
    """Measure what finds addresses, and what finds names where spaCy and the model are there."""
    found: dict[str, tuple[str, Engine]] = {"ADDRESS": ("patterns", PatternEngine(("ADDRESS",)))}
    try:
        from cascade.redaction.names import NameEngine

        found["PERSON"] = (model, NameEngine(PatternEngine(()), model))
    except ImportError as error:
        typer.echo(f"names are not measured: `{error.name}` is not installed")
    table = []
    for kind, (name, engine) in found.items():
        redactor = Redactor(KEY, engine)

        def of(rows: Sequence[Row], kind: str = kind) -> list[Row]:
            return [row for row in rows if row.values[0][0] == kind]

        made = of(people_set.rows())
        parts = {
            "with capitals": [row for row in made if row.text != row.text.lower()],
            "without capitals": [row for row in made if row.text == row.text.lower()],
            "handwritten": of(people_set.HANDWRITTEN),
            "written afterwards": of(people_set.FRESH),
            "hard negatives": [Row(text) for text in people_set.HARD_NEGATIVES],
            "BANKING77": real_texts("banking77")[:: 1 if kind == "ADDRESS" else 5],
        }
        for part, data in parts.items():
            began = time.perf_counter()
            seen = score(redactor, data)
            k, n = seen["found"], seen["values"]
            table.append({
                "kind": kind, "by": name, "part": part, "texts": len(data), "values": n,
                "recall": _share(k, n),
                "95 % interval": interval(k, n) if n else None, "findings": seen["findings"],
                "precision": _share(seen["right"], seen["findings"]),
                "us a text": (time.perf_counter() - began) / len(data) * 1e6 if data else None,
            })  # fmt: skip
    return table


def real_texts(folder: str = "*") -> list[Row]:
    """Give the texts of the public sets' tests where they are: none was found to hold a value."""
    texts = []
    data = os.environ.get("CASCADE_DATA")
    for path in sorted(Path(data).glob(f"{folder}/test.jsonl.gz")) if data else []:
        with gzip.open(path, "rt", encoding="utf-8") as packed:
            texts += [json.loads(line)["text"] for line in packed]
    return [Row(text) for text in texts]


def _share(k: int, n: int) -> float | None:
    return k / n if n else None


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
    show_wrong: Annotated[bool, typer.Option("--show", help="Show what was missed or wrong.")] = False,
    names_model: Annotated[str, typer.Option(help="The spaCy package that finds names.")] = "en_core_web_sm",
) -> None:
    """Measure redaction.

    Example: `python -m benchmarks.redaction`
    """
    figures: dict[str, Any] = {}
    quality, kinds, times = [], [], []
    made = rows()
    parts = {
        "all labelled": made,
        "generated": made[: -len(HANDWRITTEN) - len(HARD_NEGATIVES)],
        "handwritten": list(HANDWRITTEN),
        "hard negatives": [Row(text) for text in HARD_NEGATIVES],
        "public sets": real_texts(),
    }
    for name, engine in engines().items():
        redactor = Redactor(KEY, engine)
        for part, data in parts.items():
            if name != "patterns" and part == "public sets":
                data = data[::20]  # at half a millisecond each
            seen = score(redactor, data)
            figures[f"{name}: {part}"] = seen
            k, n = seen["found"], seen["values"]
            quality.append({
                "engine": name, "part": part, "texts": len(data), "values": n, "recall": _share(k, n),
                "95 % interval": interval(k, n) if n else None, "findings": seen["findings"],
                "precision": _share(seen["right"], seen["findings"]),
            })  # fmt: skip
        for kind, (k, n) in figures[f"{name}: all labelled"]["by_kind"].items():
            kinds.append({"engine": name, "kind": kind, "found": k, "of": n, "recall": k / n})
        for what, texts in {"no digit, no @": PLAIN, "digits": DIGITS, "values": VALUES}.items():
            spent = microseconds(redactor.text, texts)
            figures[f"{name}: microseconds, {what}"] = spent
            times.append({"engine": name, "text": what, "us a text": spent})
        for part in ("all labelled", "public sets"):
            for what in ("missed", "wrong"):
                for text in figures[f"{name}: {part}"][what] if show_wrong else []:
                    typer.echo(f"{name} {what}: {text}")
    show("redaction", quality)
    show("by kind", kinds)
    show("time, one thread, fastest round", times)
    named = people(names_model)
    figures["names and addresses"] = named
    show("names and addresses, which have to be asked for", named)
    save(json_file, figures)


if __name__ == "__main__":
    typer.run(main)
