"""`cascade report` on a bundle that was trained here, in every format."""

import json
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cascade.ask import Ask
from cascade.cli import app
from cascade.config import load_config
from cascade.demo.bundle_copies import copy_bundle
from cascade.pointer import POINTER
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.records import BROKEN, Audit, AuditResult
from cascade.rollout.state import GUARD, Event
from cascade.rollout.verbs import Verbs
from cascade.server.engine import Engine
from cascade.traffic import Labelled, open_store
from tests.conftest import NODE, ROOT, sample
from training.node_rungs import encoders_of
from training.retrain import retrain
from training.rollout_place import pulled_back, rollout_place

BAD_TEXT = "<script>alert(1)</script> where is my refund"


def nervous(ask: Ask, value: object) -> str | None:
    """A validator that stops every second answer, right or wrong."""
    return "no" if len(ask.text) % 2 else None


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "var").mkdir()
    (folder / "cascade.yaml").write_text(
        yaml.safe_dump({
            "rungs": {
                "frontier": {
                    "kind": "chat", "base_url": "http://127.0.0.1:9/v1", "model": "m",
                    "price": {"input": 2.5, "output": 10.0},
                },
            },
            "nodes": {
                NODE: {
                    "prompt": "Name the intent: {{ text }}", "ladder": ["linear", "frontier"],
                    "bar": {"agreement": 0.8, "confidence": 0.9},
                    "validators": ["tests.service.test_report_command:nervous"],
                }
            },
        })
    )  # fmt: skip
    config = load_config(folder / "cascade.yaml")
    store = open_store(config.store_url)
    rows = [*sample(f"{NODE}.jsonl")[:1200], {"id": "bad", "text": BAD_TEXT, "label": "refund_request"}]
    store.import_labelled(Labelled(NODE, row["id"], row["text"], None, row["label"]) for row in rows)
    done = retrain(NODE, config, store.training_records(NODE), encoders_of(config))
    assert done.certificate.valid
    engine = Engine(config, store, refresh_seconds=0)
    for row in sample(f"{NODE}.unseen.jsonl")[:30]:
        engine.decide_many([Ask(NODE, row["text"])])
    engine.close()
    store.flush(10)
    drawn = Audit("d-1", NODE, "0001-00000000", 4, time.time(), 1.0, "linear")
    rollouts = DatabaseRolloutStore(store)
    rollouts.add_audits([drawn], "test", time.time() + 60)
    rollouts.finish_audits([AuditResult(drawn, time.time(), error=BROKEN, answered=True)])
    store.close()
    return folder / "cascade.yaml"


def run(path: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["report", NODE, "-c", str(path), *arguments])


def test_audits_that_say_neither_right_nor_wrong_are_told_with_their_reason(path: Path) -> None:
    shown = run(path, "--format", "md").output
    assert "audit without verdict: the teacher's answer breaks the contract: 1." in shown


def test_every_validator_has_its_record_and_one_that_does_not_pay_is_advised_off(path: Path) -> None:
    done = run(path, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    records = {record["name"]: record for record in found["validators"]}
    assert {"contract", "acceptor", "agreement", "nervous"} <= set(records)
    assert records["acceptor"]["catch_rate"] > records["acceptor"]["false_alarm_rate"]
    assert records["acceptor"]["advice"] == "required"
    assert 0.3 < records["nervous"]["false_alarm_rate"] < 0.7
    assert records["nervous"]["advice"] == "switch off"
    assert records["nervous"]["false_alarm_usd"] > 0
    assert records["nervous"]["micros"] > 0
    assert found["certificate"]["valid"]
    assert found["ledger"]["decisions"] == 30
    assert len(found["retrainings"]) == 1
    assert found["label_next"]
    with closing(open_store(load_config(path).store_url)) as store:  # local answers, which no audit looked at
        settled = {decision.decision_id for decision in store.decisions(NODE)}
    assert not settled & {entry["id"] for entry in found["label_next"]}, "a report would teach nothing there"


def validators_table(markdown: str) -> list[str]:
    part = markdown.split("## Validators and their record")[1].split("\n## ")[0]
    return [line for line in part.splitlines() if line.startswith("|")]


def test_the_report_in_the_bundle_has_the_same_record_of_each_validator(path: Path, tmp_path: Path) -> None:
    done = run(path, "--format", "md", "--output", str(tmp_path / "now.md"))
    assert done.exit_code == 0, done.output
    (kept,) = (path.parent / "models" / NODE).glob("0*/report.md")
    saved, now = validators_table(kept.read_text()), validators_table((tmp_path / "now.md").read_text())
    assert saved == now
    assert [line.split(" | ")[0].strip("| ") for line in saved[2:]] == [
        "contract", "acceptor", "agreement", "nervous",
    ]  # fmt: skip
    caught, false_alarms = saved[3].split(" | ")[2:4]
    assert "%" in caught
    assert "%" in false_alarms
    assert "nervous does not pay for itself" in kept.read_text()


def test_the_report_in_the_bundle_holds_no_text_of_the_traffic(path: Path) -> None:
    (kept,) = (path.parent / "models" / NODE).glob("0*/report.md")
    report = kept.read_text()
    assert "What was settled wrong" in report
    texts = [row["text"] for row in sample(f"{NODE}.jsonl")[:1200]]
    assert not [text for text in texts if len(text) > 12 and text in report]
    assert BAD_TEXT not in report


def test_the_terminal_says_whether_it_is_safe_and_which_validator_to_switch_off(path: Path) -> None:
    done = run(path)
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert "Is it safe to turn on?" in text
    assert "nervous does not pay for itself" in text
    assert "What to label next" in text


def test_html_is_one_file_with_its_plots_and_nothing_of_the_traffic_is_markup(
    path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "r.html"
    done = run(path, "--format", "html", "--output", str(target))
    assert done.exit_code == 0, done.output
    page = target.read_text()
    assert page.count("<svg") >= 3
    assert "<script" not in page
    assert "<img" not in page
    assert 'name="viewport"' in page


def test_markdown_has_its_plots_beside_it(path: Path, tmp_path: Path) -> None:
    done = run(path, "--format", "md", "--output", str(tmp_path / "r.md"))
    assert done.exit_code == 0, done.output
    assert "(r-tradeoff.png)" in (tmp_path / "r.md").read_text()
    assert (tmp_path / "r-tradeoff.png").stat().st_size > 5_000


def test_wrong_arguments_get_one_clear_line(path: Path, tmp_path: Path) -> None:
    for arguments, text in (
        (["--output", "x.html"], "say as what"),
        (["--format", "html", "--output", str(tmp_path / "no" / "x.html")], "does not exist"),
        (["--bundle", "0009-00000000"], "has no such bundle"),
    ):
        done = run(path, *arguments)
        assert done.exit_code == 1
        assert text in " ".join(done.output.split())


def test_without_a_bundle_the_report_says_who_answers(tmp_path: Path) -> None:
    text = (ROOT / "cascade.yaml").read_text().replace("models: models", "models: none")
    (tmp_path / "cascade.yaml").write_text(text)
    done = run(tmp_path / "cascade.yaml")
    assert done.exit_code == 0, done.output
    assert "the teacher answers everything" in done.stdout


def test_a_bundle_that_nobody_put_live_is_reported_on_and_the_next_command_is_named(
    path: Path, tmp_path: Path
) -> None:
    models = path.parent / "models" / NODE
    (version,) = (folder.name for folder in models.glob("0*"))
    before = json.loads(run(path, "--json").stdout)
    assert before["place"] == ["It answers now, for all traffic."]
    pointer = (models / POINTER).read_text()
    (models / POINTER).unlink()
    try:
        done = run(path, "--format", "md", "--output", str(tmp_path / "r.md"))
        assert done.exit_code == 0, done.output
        found = json.loads(run(path, "--json").stdout)
    finally:
        (models / POINTER).write_text(pointer)
    assert found["version"] == version
    assert found["certificate"]["valid"]
    assert found["place"] == [
        f"Nobody gets its answers yet: `cascade rollout start {NODE} --bundle {version}` begins its rollout."
    ]
    assert "Nobody gets its answers yet" in (tmp_path / "r.md").read_text()


def test_the_report_follows_the_rollout(path: Path) -> None:
    config = load_config(path)
    store = open_store(config.store_url)
    models = path.parent / "models" / NODE
    (old,) = (folder.name for folder in models.glob("0*"))
    new = copy_bundle(models / old, 2)
    try:
        verbs = Verbs(config, DatabaseRolloutStore(store))
        assert rollout_place(config, NODE, old, store) == [
            "It answers now, for all traffic.",
            f"A newer bundle is there: `cascade report {NODE} --bundle {new}` reports on that one.",
        ]
        verbs.start(NODE, "ada", bundle=new, percent=5)
        assert rollout_place(config, NODE, old, store)[0] == (
            f"It answers now, beside {new}, which is live for 5 % of the keys."
        )
        assert rollout_place(config, NODE, new, store)[0].startswith(
            "It is on its way up: live for 5 % of the keys"
        )
        verbs.rollback(NODE, "ada", "wrong refunds")
        assert "it was rolled back. `" in rollout_place(config, NODE, new, store)[0]
        assert rollout_place(config, NODE, old, store)[1].startswith("A newer bundle was rolled back: ")
        assert pulled_back(config, NODE, old, store) is None
        shown = run(path, "--bundle", new, "--format", "md").output
        assert "**Not now: ada pulled it back: wrong refunds.**" in shown
        found = json.loads(run(path, "--bundle", new, "--json").stdout)
        assert found["pulled_back"] == {"who": "ada", "why": "wrong refunds"}
        verbs.start(NODE, "ada", bundle=new, percent=5, force=True)
        assert pulled_back(config, NODE, new, store) is None
        seq = verbs.state(NODE).seq + 1
        broken = "18 of 18 audited answers disagreed with the teacher"
        assert verbs.store.append(Event(NODE, seq, time.time(), GUARD, "rollback", broken, new))
        shown = run(path, "--bundle", new, "--format", "md").output
        assert f"**No: the guard pulled it back: {broken}.**" in shown
        assert "**0%** of requests answered locally now" in shown
    finally:
        store.close()
        shutil.rmtree(models / new)


def test_a_file_is_not_silently_left_unwritten_where_there_is_no_bundle(tmp_path: Path) -> None:
    text = (ROOT / "cascade.yaml").read_text().replace("models: models", "models: none")
    (tmp_path / "cascade.yaml").write_text(text)
    done = run(tmp_path / "cascade.yaml", "--format", "html", "--output", str(tmp_path / "r.html"))
    assert done.exit_code == 1
    assert "no bundle to report on" in " ".join(done.output.split())
