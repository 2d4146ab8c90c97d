"""`cascade import` of other tools' logs, end to end: into the store, redacted, with bad lines by number."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cascade.cli.app import app
from cascade.config import load_config
from cascade.gateway.fixed_part import fingerprint
from cascade.traffic import Call, open_traffic

CONFIG = """
rungs: {frontier: {kind: chat, base_url: "http://127.0.0.1:9/v1", model: m, price: {input: 1, output: 1}}}
nodes:
  intent:
    prompt: "Name the intent of: {{ text }}"
    contract: {labels: [track, refund]}
    ladder: [linear, frontier]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cascade.yaml").write_text(CONFIG)
    return tmp_path


def entry(id_: str, text: str, answer: str) -> str:
    messages = [{"role": "user", "content": f"Name the intent of: {text}"}]
    return json.dumps({"id": id_, "messages": messages, "response": {"content": answer}, "model": "m"})


def test_a_log_is_imported_redacted_and_its_bad_lines_are_named(folder: Path) -> None:
    log = folder / "litellm.jsonl"
    log.write_text("\n".join([entry("1", "mail eve@x.example", "track"), entry("2", "hi", "nonsense")]))
    command = ["import", "intent", str(log), "--config", str(folder / "cascade.yaml")]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert "line 2" in refused.output
    done = CliRunner().invoke(app, [*command, "--skip-bad", "--json"])
    assert done.exit_code == 0
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["format"], result["added"], list(result["bad_lines"])) == ("litellm", 1, ["2"])
    store = open_traffic(load_config(folder / "cascade.yaml"))
    assert [(r.text, r.output) for r in store.training_records("intent")] == [("mail <EMAIL>", "track")]
    store.close()


def test_a_format_that_is_named_is_believed(folder: Path) -> None:
    log = folder / "log"
    log.write_text(entry("1", "hi", "track"))
    command = ["import", "intent", str(log), "--config", str(folder / "cascade.yaml"), "--format", "otel"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert "not a span" in refused.output


def test_lines_with_a_context_go_in_and_out_and_bad_ones_are_named(folder: Path) -> None:
    log = folder / "history.jsonl"
    good = {"id": "1", "text": "hi", "label": "track", "context": {"language": "de", "mail": "eve@x.example"}}
    bad = good | {"id": "2", "context": {"language": ["de"]}}
    log.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    options = ["--config", str(folder / "cascade.yaml")]
    refused = CliRunner().invoke(app, ["import", "intent", str(log), *options])
    assert refused.exit_code == 1
    assert "line 2" in refused.output
    assert "'context.language' must be a string, not a list" in refused.output
    done = CliRunner().invoke(app, ["import", "intent", str(log), "--skip-bad", *options])
    assert done.exit_code == 0, done.output
    out = folder / "out.jsonl"
    written = CliRunner().invoke(
        app, ["traffic", "export", "--imported", "intent", "--to", str(out), *options]
    )
    assert "1 imported records written" in written.output
    line = json.loads(out.read_text())
    assert line.pop("context").pop("mail").startswith("<EMAIL")
    assert line == {key: good[key] for key in ("id", "text", "label")}
    unknown = CliRunner().invoke(app, ["traffic", "export", "--imported", "no", "--to", str(out), *options])
    assert unknown.exit_code != 0


def captured(id_: str, system: str, answer: str, node: str | None = None) -> Call:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": f"where is parcel {id_}"}]
    output = {"role": "assistant", "content": answer}
    context = {"language": "de", "served_by": "gateway"}
    return Call(id_, 1.0, None, node, "m", messages, None, None, output, context)


def test_captured_calls_that_a_node_recognises_are_imported_once(folder: Path) -> None:
    known, other = "Name the intent of a message.", "You are a poet."
    recognise = fingerprint([{"role": "system", "content": known}])
    (folder / "cascade.yaml").write_text(f'{CONFIG}    recognise: ["{recognise}"]\n')
    store = open_traffic(load_config(folder / "cascade.yaml"))
    for call in (
        captured("1", known, "track"), captured("2", known, "Hello, how can I help?"),
        captured("3", other, "track"), captured("4", known, "refund", node="intent"),
    ):  # fmt: skip
        store.record_call(call)
    assert store.flush(10)
    command = ["import", "intent", "--captured", "--json", "--config", str(folder / "cascade.yaml")]
    for added in (1, 0):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        result = json.loads(done.stdout.splitlines()[-1])
        assert result == {
            "node": "intent", "format": "captured", "calls": 2, "added": added,
            "already_there": 1 - added, "unread": 1,
        }  # fmt: skip
    (record,) = store.training_records("intent")
    assert (record.text, record.output) == ("where is parcel 1", "track")
    assert record.context == {"language": "de"}, "the call's own, without what capturing adds"
    store.close()


def test_where_no_captured_call_is_the_nodes_it_says_what_to_do(folder: Path) -> None:
    done = CliRunner().invoke(app, ["import", "intent", "--captured", "-c", str(folder / "cascade.yaml")])
    assert done.exit_code == 0
    assert "nodes.intent.recognise" in done.stdout


@pytest.mark.parametrize("more", [[], ["log.jsonl", "--captured"], ["--captured", "--skip-bad"]])
def test_either_a_file_or_captured_calls(folder: Path, more: list[str]) -> None:
    refused = CliRunner().invoke(app, ["import", "intent", *more, "-c", str(folder / "cascade.yaml")])
    assert refused.exit_code == 2
    assert "file" in refused.output


def test_a_corrected_answer_is_not_dropped_without_a_word_and_replaces_the_old_one_where_asked(
    folder: Path,
) -> None:
    log = folder / "history.jsonl"
    command = ["import", "intent", str(log), "--config", str(folder / "cascade.yaml")]
    one, two = {"id": "1", "text": "hi", "label": "track"}, {"id": "2", "text": "ho", "label": "track"}

    def run(*options: str, **corrected: str) -> tuple[str, list[object]]:
        log.write_text(f"{json.dumps(one | corrected)}\n{json.dumps(two)}\n")
        done = CliRunner().invoke(app, [*command, *options])
        assert done.exit_code == 0, done.output
        store = open_traffic(load_config(folder / "cascade.yaml"))
        outputs = [record.output for record in store.training_records("intent")]
        store.close()
        return " ".join(done.output.split()), outputs

    said, stored = run()
    assert "2 added, 0 already there" in said
    assert "another answer" not in said
    said, stored = run(label="refund")
    assert "0 added, 2 already there" in said
    assert "there with another answer, which stays: 1; --replace takes the file's" in said
    assert stored == ["track", "track"]
    said, stored = run("--replace", label="refund")
    assert "0 added, 2 already there" in said
    assert "replaced, since the answer was another one: 1" in said
    assert sorted(map(str, stored)) == ["refund", "track"]
    said, _ = run("--replace", label="refund")
    assert "another" not in said


def test_more_bad_lines_than_are_shown_are_counted(folder: Path) -> None:
    log = folder / "history.jsonl"
    lines = [json.dumps({"id": str(i), "text": "hi", "label": "nonsense"}) for i in range(30)]
    log.write_text("\n".join(lines))
    command = ["import", "intent", str(log), "--config", str(folder / "cascade.yaml"), "--skip-bad"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert "0 added, 0 already there, 30 skipped" in done.output
    assert "and 10 more" in done.output
