"""One request in process, one thread: `python -m benchmarks.latency`.

Times are medians of single requests over the node's unseen sample: each round asks all of them of one kind of
work after the other, so that every row sees the same machine in the same minute. One row asks each request
after other work has taken the processor's caches, as a service that has little to do meets it. The named
alternative for the linear rung is the usual one: scikit-learn's TF-IDF over the same kinds of n-grams with
logistic regression, `predict_proba` on one text.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from benchmarks.table import save, show
from cascade.bundle import load_bundle
from cascade.encoder import Encoder, find_encoder
from cascade.pointer import serving_version
from cascade.rungs.protocol import Query

ROOT = Path(__file__).resolve().parents[1]


def read_texts(file: str) -> tuple[list[str], list[str]]:
    """Read texts and labels of a sample file."""
    rows = [json.loads(line) for line in (ROOT / "examples" / "sample" / file).open(encoding="utf-8")]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def medians(work: dict[str, Callable[[str], Any]], texts: list[str], rounds: int) -> dict[str, float]:
    """Time each kind of work on every text, kind after kind in every round; microseconds."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            for text in texts:
                began = time.perf_counter()
                function(text)
                times[name].append((time.perf_counter() - began) * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def after(
    function: Callable[[str], Any], other: Callable[[str], Any], texts: list[str], rounds: int
) -> float:
    """Time work on every text when other work has had the processor's caches in between; microseconds."""
    times = []
    for text in texts * rounds:
        other(text)
        began = time.perf_counter()
        function(text)
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)


def main(
    rounds: int = 5,
    n: int = 200,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure the local rungs, the two LightGBM models and the named alternatives."""
    node = "support-intent"
    encoder = Encoder(find_encoder("all-MiniLM-L6-v2", ROOT / "models", ROOT))
    version = serving_version(ROOT / "models", node)
    if version is None:
        raise typer.BadParameter(f"models/{node} has no serving bundle")
    ladder = load_bundle(ROOT / "models" / node / version, lambda _: (encoder, encoder), node).ladder
    history, labels = read_texts(f"{node}.jsonl")
    texts = read_texts(f"{node}.unseen.jsonl")[0][:n]
    alternative = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
        ),
        LogisticRegression(C=10.0, max_iter=60),
    ).fit(history, labels)

    def linear(text: str) -> Any:
        return ladder.run(0, ladder.prepare([Query(text)]))

    def spin(_: str) -> int:
        return sum(range(1000))

    short = [text for text in texts if len(text) <= 80] or texts
    work: dict[str, Callable[[str], Any]] = {
        "linear rung, difficulty and acceptor": linear,
        "scikit-learn TF-IDF and logistic regression": lambda text: alternative.predict_proba([text]),
        "sum(range(1000)) in Python, for the machine's speed": spin,
    }
    encoded: dict[str, Callable[[str], Any]] = {
        "encoder rung (embedding, head, acceptor)": lambda text: ladder.run(1, ladder.prepare([Query(text)])),
        "embedding alone": lambda text: encoder([text]),
    }
    medians(work, texts[:20], 1)
    found = medians(work, texts, rounds)
    found["the linear rung's row, each request after one of scikit-learn's"] = after(
        linear, work["scikit-learn TF-IDF and logistic regression"], texts, rounds
    )
    found |= medians(encoded, short[:50], rounds)
    against = found["scikit-learn TF-IDF and logistic regression"]
    rows = [
        {"one request": name, "median us": us, "x scikit-learn": us / against} for name, us in found.items()
    ]
    show(f"in process, one thread, {len(texts)} texts of {node}", rows)
    typer.echo(
        "bars: linear rung and both LightGBM models <= 150 us; encoder rung, one short request, <= 3,000 us"
    )
    save(json_file, {"median_us": found})


if __name__ == "__main__":
    typer.run(main)
