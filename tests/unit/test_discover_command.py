"""`cascade discover --from`: what could not be read is counted, and what the file is said to be is true."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cascade.cli import app

CONFIG = """
rungs: {frontier: {kind: chat, base_url: "http://x/v1", model: m, price: {input: 1, output: 1}}}
http: {listen: "127.0.0.1:0"}
"""
ASKED = {"track": "where is my parcel", "refund": "I want my money back"}


def discover(folder: Path, lines: list[Any], *arguments: str) -> Any:
    (folder / "cascade.yaml").write_text(CONFIG)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "log.jsonl").write_text("\n".join(texts) + "\n")
    return CliRunner().invoke(
        app,
        ["discover", "--from", str(folder / "log.jsonl"), "-c", str(folder / "cascade.yaml"), *arguments],
    )


def messages(i: int) -> list[dict[str, str]]:
    said = list(ASKED.values())[i % 2]
    return [{"role": "system", "content": "Name the intent."}, {"role": "user", "content": f"{said} {i}"}]


def completion(i: int) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": list(ASKED)[i % 2]}}]}


def litellm(n: int, priced: int = 0) -> list[Any]:
    made = [
        {"id": f"c{i}", "model": "big", "messages": messages(i), "response": completion(i)} for i in range(n)
    ]
    return [{**each, "response_cost": 0.001} if i < priced else each for i, each in enumerate(made)]


def test_lines_that_could_not_be_read_are_named_and_counted(tmp_path: Path) -> None:
    lines = [*litellm(30), *["no json"] * 25]
    done = discover(tmp_path, lines, "--min-calls", "20")
    assert done.exit_code == 0, done.output
    assert "25 could not be read" in done.stdout
    assert "line 31: not JSON at column 1" in done.stderr
    assert "and 5 more" in done.stderr
    found = json.loads(discover(tmp_path, lines, "--min-calls", "20", "--json").stdout)
    assert (found["calls"], found["unread"], len(found["bad_lines"])) == (30, 25, 25)


def test_a_log_without_one_good_line_is_said_to_be_that(tmp_path: Path) -> None:
    done = discover(tmp_path, ["no json"] * 3, "--format", "litellm")
    assert done.exit_code == 1
    assert f"no line of {tmp_path / 'log.jsonl'} could be read" in done.stderr
    assert "captured" not in done.stderr
    assert "line 3: not JSON" in done.stderr


def test_requests_of_a_batch_without_results_are_no_calls(tmp_path: Path) -> None:
    done = discover(tmp_path, [{"custom_id": "1", "body": {"messages": messages(1)}}])
    assert done.exit_code == 1
    assert "holds no answered call" in done.stderr


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("no json", "could not be read: not JSON at column 1"),
        ({"level": "info"}, "is of no format that is known here"),
        ({"id": "1", "text": "where is it?", "label": "track"}, "holds labelled records of one node"),
    ],
)
def test_a_file_that_is_no_log_is_said_to_be_what_is_known_of_it(
    tmp_path: Path, first: Any, said: str
) -> None:
    done = discover(tmp_path, [first, *litellm(2)])
    assert done.exit_code == 1
    assert said in done.stderr
    assert ("labelled" in done.stderr) == ("labelled" in said)


def test_results_of_a_batch_are_joined_with_their_requests(tmp_path: Path) -> None:
    asked = [{"custom_id": f"b{i}", "body": {"messages": messages(i)}} for i in range(30)]
    (tmp_path / "input.jsonl").write_text("\n".join(map(json.dumps, asked)))
    results = [
        {"custom_id": f"b{i}", "response": {"status_code": 200, "body": completion(i)}} for i in range(30)
    ]
    alone = discover(tmp_path, results)
    assert alone.exit_code == 1
    assert "--requests" in alone.stderr
    given = ("--requests", str(tmp_path / "input.jsonl"), "--min-calls", "20", "--json")
    found = json.loads(discover(tmp_path, results, *given).stdout)
    assert (found["calls"], found["unread"]) == (30, 0)
    assert len(found["candidates"]) == 1


def test_requests_without_a_log_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cascade.yaml").write_text(CONFIG)
    done = CliRunner().invoke(app, ["discover", "--requests", "x", "-c", str(tmp_path / "cascade.yaml")])
    assert done.exit_code == 2


def test_calls_without_a_price_are_told(tmp_path: Path) -> None:
    done = discover(tmp_path, litellm(30, priced=10), "--min-calls", "20")
    assert "20 of 30 calls have no price" in " ".join(done.stdout.split())
    found = json.loads(discover(tmp_path, litellm(30, priced=10), "--min-calls", "20", "--json").stdout)
    assert (found["spend_in"], found["unpriced"]) == ("dollars", 20)


@pytest.mark.parametrize(("priced", "of"), [(0, "tokens"), (30, "spend")])
def test_written_nodes_say_what_their_share_is_of(tmp_path: Path, priced: int, of: str) -> None:
    written = tmp_path / "nodes.yaml"
    done = discover(tmp_path, litellm(30, priced), "--min-calls", "20", "--write", str(written))
    assert f"share of {of}" in done.stdout
    assert f"30 calls, 100.0% of the {of};" in written.read_text()
    assert len(yaml.safe_load(written.read_text())["nodes"]) == 1
