"""Imported records say whose they are and what they come with: each value has a line in the certificate."""

import json
from collections.abc import Callable
from pathlib import Path

from cascade.config import Config
from cascade.traffic import import_file, open_store
from tests.conftest import NODE, sample
from training.node_rungs import encoders_of
from training.retrain import retrain


def test_tenants_and_contexts_of_an_imported_file_are_slices_of_the_certificate(
    configure: Callable[..., Config], tmp_path: Path
) -> None:
    config = configure(
        node={
            "ladder": ["linear", "frontier"], "bar": {"agreement": 0.85, "confidence": 0.9},
            "slices": ["tenant", "language"],
        }
    )  # fmt: skip
    rows = sample(f"{NODE}.jsonl")[:900]
    lines = [
        json.dumps(
            {key: row[key] for key in ("id", "text", "label", "session", "time")}
            | [{"tenant": "north"}, {"tenant": "south"}, {}][i % 3]
            | [{"context": {"language": "de"}}, {"context": {"language": "en", "tier": "free"}}][i % 2]
        )
        for i, row in enumerate(rows)
    ]
    (tmp_path / "history.jsonl").write_text("\n".join(lines) + "\n")
    store = open_store(f"sqlite:///{tmp_path}/traffic.db")
    try:
        import_file(store, NODE, tmp_path / "history.jsonl")
        records = store.training_records(NODE)
    finally:
        store.close()
    assert {record.context.get("tenant") for record in records} == {"north", "south", None}
    assert {record.context.get("language") for record in records} == {"de", "en"}
    result = retrain(NODE, config, records, encoders_of(config))
    assert result.certificate.valid, result.certificate.reason
    for dimension, values in (("tenant", {"north", "south", ""}), ("language", {"de", "en"})):
        lines_of = {
            line["value"]: line
            for line in result.statement["slices"]["table"]
            if line["dimension"] == dimension
        }
        assert set(lines_of) == values
        assert all(line["n_settled"] > 10 for line in lines_of.values())
    assert "tenant: north" in result.report.read_text()
    assert "language: de" in result.report.read_text()
