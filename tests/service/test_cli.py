"""The commands as a person types them: what they print, and with which code they exit."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from cascade.cli import app
from cascade.cli.console import steps
from cascade.config import load_config
from cascade.traffic import open_traffic
from tests.conftest import NODE, ROOT
from tests.traffic_records import decision
from training.certificate import Certificate
from training.evaluate import Scored
from training.retrain import RetrainResult

Run = Callable[..., Result]

COMMANDS = sorted(
    " ".join(filter(None, (group, c.name or (c.callback.__name__ if c.callback else ""))))
    for group, commands in ((None, app), *((g.name, g.typer_instance) for g in app.registered_groups))
    if commands is not None
    for c in commands.registered_commands
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command in a folder with a configuration of the sample node."""
    document = {
        "store": "sqlite:///traffic.db",
        "models": str(ROOT / "models"),
        "rungs": {
            "frontier": {
                "kind": "chat", "base_url": "http://127.0.0.1:9/v1", "model": "m",
                "price": {"input": 1.0, "output": 1.0},
            }
        },
        "nodes": {
            NODE: {
                "prompt": "Name the intent: {{ text }}",
                "contract": {"labels": ["track_order", "refund"]},
                "ladder": ["linear", "frontier"],
            }
        },
    }  # fmt: skip
    (tmp_path / "cascade.yaml").write_text(yaml.safe_dump(document))

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(tmp_path / "cascade.yaml")])

    return command


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


GOOD = {"id": "1", "text": "where is my parcel?", "label": "track_order"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(command: str) -> None:
    found = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert found.exit_code == 0
    assert "Example" in found.stdout
    assert "--json" in found.stdout
    assert "//" not in found.stdout, "the help takes <placeholders> for HTML, and leaves them out"


def test_a_file_that_cannot_be_written_or_read_is_one_line_and_no_stack(tmp_path: Path) -> None:
    away = tmp_path / "away"
    for arguments in (
        ["bundle", "keygen", str(away / "a"), str(away / "b")],
        ["rollout", "status", NODE, "--target", "127.0.0.1:1", "--ca", str(away)],
    ):
        found = CliRunner().invoke(app, arguments)
        assert found.exit_code == 1
        assert isinstance(found.exception, SystemExit), found.exception
        (line,) = found.stderr.splitlines()
        assert line.startswith(str(away))
        assert line.endswith("No such file or directory")


def test_a_step_that_counts_on_does_not_flood_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with steps("simulating") as step:
        for name in ("reading", *(f"replayed {n:,} decisions" for n in range(0, 100_000, 256)), "bootstrap"):
            step(name)
    assert capsys.readouterr().err.splitlines() == [
        "simulating: reading", "simulating: replayed 0 decisions", "simulating: bootstrap",
    ]  # fmt: skip


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "unix:"])
def test_an_address_that_is_none_is_refused_before_anything_is_loaded(run: Run, address: str) -> None:
    found = run("serve", "--listen", address)
    assert found.exit_code == 2
    assert "is not host:port" in found.stderr


def test_traffic_is_imported_once(run: Run, tmp_path: Path) -> None:
    file = lines(tmp_path / "t.jsonl", GOOD, GOOD | {"id": "2", "text": "money back"})
    first = run("import", NODE, str(file), "--json")
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout) == {
        "node": NODE, "format": "jsonl", "added": 2, "already_there": 0, "bad_lines": {},
        "differing": [], "replaced": False,
    }  # fmt: skip
    assert json.loads(run("import", NODE, str(file), "--json").stdout)["already_there"] == 2


def test_bad_lines_are_numbered_and_nothing_is_imported_unless_they_are_skipped(
    run: Run, tmp_path: Path
) -> None:
    file = lines(tmp_path / "t.jsonl", GOOD, "{not json", {"id": "3", "text": "x", "label": "no such label"})
    refused = run("import", NODE, str(file))
    assert refused.exit_code == 1
    assert "line 2" in refused.output
    assert "line 3" in refused.output
    assert json.loads(run("report", NODE, "--json").stdout)["traffic"]["imported"] == 0
    skipped = run("import", NODE, str(file), "--skip-bad", "--json")
    assert skipped.exit_code == 0
    found = json.loads(skipped.stdout)
    assert found["added"] == 1
    assert set(found["bad_lines"]) == {"2", "3"}


def test_an_unknown_node_names_the_known_ones(run: Run, tmp_path: Path) -> None:
    found = run("retrain", "suport-intent")
    assert found.exit_code == 1
    assert NODE in found.output


def test_too_little_traffic_is_a_refusal_with_code_3(run: Run, tmp_path: Path) -> None:
    run("import", NODE, str(lines(tmp_path / "t.jsonl", GOOD)))
    found = run("retrain", NODE)
    assert found.exit_code == 3
    assert "more" in found.output
    assert "Nothing was changed" in " ".join(found.output.split())


def test_the_table_of_a_retraining_does_not_wrap_where_there_is_no_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ones = np.ones((200, 2))
    scored = Scored(
        confidence=ones, right=ones > 0, p_right=ones, p_top=ones, worth=ones > 0,
        y=np.zeros(200, dtype=np.int64), answer=np.zeros((200, 2), dtype=np.int64),
        rungs=("linear", "encoder"),
        rung_usd=np.zeros(2), rung_ms=np.array([0.1, 2.0]), teacher_usd=0.001, teacher_ms=400.0,
    )  # fmt: skip
    certificate = Certificate(True, 0.95, 0.05, 0.5, 200, 200, 0, 0.98, 0, "it is met")
    result = RetrainResult(
        NODE, "0001-x", False, certificate, Path("report.md"), 800, 600, 200, scored, [0.5, 0.5],
        caveats=["8 sessions stand on both sides: this says nothing about new ones."],
    )  # fmt: skip
    monkeypatch.setattr("training.retrain.retrain", lambda *_: result)
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("retrain", NODE).stdout
    assert "It is met.\nbut: 8 sessions stand on both sides: this says nothing about new ones.\n" in shown
    rows = [line for line in shown.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows if "linear" in row], shown
    assert all(re.search(r"│ +[\d.]+ │$", row) for row in rows), (
        shown
    )  # each row in one line, with its last cell


def test_a_garbled_configuration_exits_with_2_and_names_the_line_and_the_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "cascade.yaml"
    path.write_text("nodes:\n  a:\n    promt: x\n    ladder: [linear]\n")
    for command in (["serve"], ["report", "a"], ["retrain", "a"]):
        found = CliRunner().invoke(app, [*command, "--config", str(path)])
        assert found.exit_code == 2
        assert "cascade.yaml:3: nodes.a.promt" in found.output
        assert "did you mean 'prompt'" in found.output


def test_recorded_answers_that_are_none_are_refused(tmp_path: Path) -> None:
    for text in ("{", "[1]", '{"a": 1}'):
        (tmp_path / "answers.json").write_text(text)
        found = CliRunner().invoke(app, ["frontier", str(tmp_path / "answers.json")])
        assert found.exit_code == 2
        assert "answers.json" in found.output


def test_the_version_is_told() -> None:
    found = CliRunner().invoke(app, ["--version"])
    assert found.exit_code == 0
    assert found.stdout.startswith("cascade ")


def test_a_node_without_decisions_says_so(run: Run) -> None:
    found = run("traffic", "show", NODE)
    assert found.exit_code == 0
    assert "no decisions yet" in found.output


def test_a_decision_is_shown_with_why_a_rung_did_not_settle_it(run: Run, tmp_path: Path) -> None:
    store = open_traffic(load_config(tmp_path / "cascade.yaml"))
    tried = [{"rung": "linear", "reason": "confidence 0.6 is below 0.9"}, {"rung": "frontier", "reason": ""}]
    for number, tenant in enumerate(("acme", "globex")):
        store.record(
            decision(f"d{number}", node=NODE, context={"tenant": tenant}, attempts=tried, mode="live")
        )
    assert store.flush(60)
    store.close()
    found = run("traffic", "show", NODE).stdout
    assert (
        found.index(" d0 ")
        < found.index("    linear did not settle: confidence 0.6 is below 0.9")
        < found.index(" d1 ")
    )
    assert "frontier did not settle" not in found
    assert " d0 " not in run("traffic", "show", NODE, "--last", "1").stdout
    assert " d1 " not in run("traffic", "show", NODE, "--tenant", "acme").stdout
    one = json.loads(run("traffic", "show", NODE, "--decision", "d0", "--json").stdout)["decisions"]
    assert [(each["decision_id"], each["mode"], each["attempts"]) for each in one] == [("d0", "live", tried)]
    for more in (("--decision", "d7"), ("--decision", "d0", "--tenant", "globex")):
        none = run("traffic", "show", NODE, *more)
        assert (none.exit_code, "no decision of node" in none.output) == (1, True), none.output


def test_what_a_caller_said_tells_the_terminal_nothing(run: Run, tmp_path: Path) -> None:
    store = open_traffic(load_config(tmp_path / "cascade.yaml"))
    said = "\x1b]52;c;cm0gLXJmIH4=\x07 \x9b2J déjà 😀"
    tried = [{"rung": "linear", "reason": f"validator: odd: {said} \ud800"}]
    store.record(decision("d-odd", node=NODE, text=said, attempts=tried))
    assert store.flush(60)
    store.close()
    shown = run("traffic", "show", NODE)
    assert shown.exit_code == 0, shown.output
    assert not {"\x1b", "\x07", "\x9b"} & set(shown.stdout)
    assert shown.stdout.count("\\x1b]52;c;cm0gLXJmIH4=\\x07 \\x9b2J déjà 😀") == 2
    as_json = run("traffic", "show", NODE, "--json")
    assert json.loads(as_json.stdout)["decisions"][0]["attempts"] == tried


def test_a_key_for_a_node_that_is_not_there_is_made_and_told(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "cascade.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"auth": {"keys": "keys.json"}}))
    told = run("key", "create", "acme", "--node", NODE, "--node", "suport")
    assert told.exit_code == 0
    assert "has no node 'suport' yet" in told.output
    assert f"no node '{NODE}'" not in told.output
    assert (
        "no node"
        not in run("key", "create", "acme", "--node", "x", "--file", str(tmp_path / "k.json")).output
    )
