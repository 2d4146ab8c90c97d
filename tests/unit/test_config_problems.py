"""The line, the key and the words of every problem of cascade.yaml."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cascade.config import load_config
from cascade.errors import ConfigError
from tests.config_texts import MINIMAL, problems

NODE = [
    # (a line that is added to the node, on line 7; what the only problem says)
    ("bra: {}", "7: nodes.intent.bra: unknown key; did you mean 'bar'?"),
    ("cache: 1", "7: nodes.intent.cache: unknown key; the keys here are: agreement, bar, con"),
    ("bar: {agreement: 1}", "7: nodes.intent.bar.agreement: expected a number between 0.5 and 1, both excl"),
    ("bar: {agreement: 0.5}", "found 0.5"),
    ("bar: {confidence: .nan}", "nodes.intent.bar.confidence: expected a finite number, found .nan"),
    ("bar: {confidence: high}", "nodes.intent.bar.confidence: expected a number, found 'high'"),
    ("bar: {agreement: true}", "nodes.intent.bar.agreement: expected a number, found true"),
    ("bar:", "7: nodes.intent.bar: expected keys and values, found nothing"),
    ("bar: 0.9", "7: nodes.intent.bar: expected keys and values, found 0.9"),
    ("bar: {agrement: 0.9}", "nodes.intent.bar.agrement: unknown key; did you mean 'agreement'?"),
    ("ladder: [big]", "7: nodes.intent.ladder: duplicate key; it is first on line 6"),
    (
        "contract: from-traffic",
        "7: nodes.intent.contract: expected {labels: from-traffic}, {labels: [one, two]}",
    ),
    ("contract: {}", "nodes.intent.contract: expected {labels: from-traffic}"),
    ("contract: {lables: [a]}", "nodes.intent.contract.lables: unknown key; did you mean 'labels'?"),
    ("contract: {labels: [a], schema: b}", "nodes.intent.contract: labels and schema exclude each other"),
    ("contract: {labels: traffic}", "contract.labels: expected from-traffic or a list of at least one label"),
    (
        "contract: {labels: []}",
        "contract.labels: expected from-traffic or a list of at least one label, found an e",
    ),
    ("contract: {labels: [a, b, a]}", "contract.labels[2]: the label 'a' is already in this list"),
    (
        "contract: {labels: [yes, x]}",
        "labels[0]: expected a text, found yes (which YAML reads as true); put it in q",
    ),
    ("contract: {labels: ['']}", "contract.labels[0]: expected a text that is not empty, found ''"),
    ("contract: {schema: no.json}", "7: nodes.intent.contract.schema: cannot read the schema file"),
    ("contract: {schema: bad.json}", "bad.json is not JSON: line 1, column 2"),
    ("contract: {schema: list.json}", "list.json must hold a JSON object, not a list"),
    ("contract: {schema: wrong.json}", "the contract's JSON Schema is not valid"),
    ("contract: {schema: [a]}", "contract.schema: expected the path of a JSON Schema file, found a list"),
    ("validators: [os.path]", "7: nodes.intent.validators[0]: expected module:callable"),
    ("validators: os:path", "nodes.intent.validators: expected a list, found 'os:path'"),
    ("api_key: sk-secret", "7: nodes.intent.api_key: keys do not belong into this file; use api_key_env"),
]


@pytest.mark.parametrize(("line", "fragment"), NODE, ids=[line for line, _ in NODE])
def test_one_wrong_line_in_a_node(tmp_path: Path, line: str, fragment: str) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "wrong.json").write_text('{"type": "nonsense"}')
    [problem] = problems(tmp_path, f"{MINIMAL}    {line}\n")
    assert problem.startswith("cascade.yaml:7: ")
    assert fragment in problem


TOP = [
    # (a line that is added on top; what the only problem says)
    ("lisen: a:1", "lisen: unknown key; did you mean 'listen'?"),
    ("listen: 50051", "listen: expected a text, found 50051; put it in quotes"),
    (
        "listen: localhost",
        "listen: expected host:port, with a port from 0 to 65535, or unix:path, found 'localho",
    ),
    ("listen: a:65536", "listen: expected host:port"),
    ("listen: 'unix:'", "listen: expected a path after unix:"),
    ("store: mysql://me:hunter2@db", "store: expected sqlite:///path or postgresql://user@host/database"),
    ("store: postgresql://me:hunter2@db/t", "store: a password does not belong into this file"),
    ("store: 'sqlite:///:memory:'", "store: expected a file after sqlite:///"),
    ("models: ''", "models: expected a text that is not empty"),
    ("server: {threads: 0}", "server.threads: expected at least 1, found 0"),
    ("server: {threads: 2.5}", "server.threads: expected a whole number, found 2.5"),
    ("server: {threads: '8'}", "server.threads: expected a whole number, found '8'"),
    ("server: {thread: 8}", "server.thread: unknown key; did you mean 'threads'?"),
    ("server: [8]", "server: expected keys and values, found a list"),
    ("limits: {max_batch: -1}", "limits.max_batch: expected at least 1, found -1"),
    ("limits: {max_batch: 99999999999999999999}", "limits.max_batch: expected at most 2147483647"),
    ("? [a, b]\n: 1", "a key must be a text"),
    ("models: !!binary aGk=", "models: the YAML tag tag:yaml.org,2002:binary is not allowed"),
    ("models: !!python/name:os.system ''", "models: the YAML tag"),
    ("<<: {models: x}", "<<: unknown key"),
]


@pytest.mark.parametrize(("line", "fragment"), TOP, ids=[line for line, _ in TOP])
def test_one_wrong_line_at_the_top(tmp_path: Path, line: str, fragment: str) -> None:
    found = problems(tmp_path, f"# a comment\n{line}\n{MINIMAL}")
    assert fragment in found[0]
    assert found[0].startswith("cascade.yaml:2: ")
    assert "hunter2" not in "".join(found)


RUNGS = [
    # (the rung `x`, on line 5; what the only problem says)
    ("{kind: lineer}", "rungs.x.kind: unknown kind 'lineer'; did you mean 'linear'?"),
    ("{kind: 5}", "rungs.x.kind: unknown kind '5'; the kinds are: chat, encoder, linear"),
    ("{kind: [chat]}", "rungs.x"),
    ("{model: m}", "rungs.x.kind: this key is required: one of linear, encoder, chat"),
    ("linear", "rungs.x: expected keys and values, found 'linear'"),
    ("{kind: linear, model: m}", "rungs.x.model: unknown key; the keys here are: kind"),
    ("{kind: encoder, precision: int4}", "rungs.x.precision: expected 'int8' or 'fp32', found 'int4'"),
    (
        "{kind: encoder, providers: [cpu]}",
        "rungs.x.providers[0]: expected the name of an ONNX Runtime provider",
    ),
    ("{kind: encoder, providers: CPUExecutionProvider}", "rungs.x.providers: expected a list"),
    ("{kind: encoder, max_token: 4}", "rungs.x.max_token: unknown key; did you mean 'max_tokens'?"),
    (
        "{kind: chat, model: m, price: {input: 1, output: 1}}",
        "rungs.x.base_url: this key is required",
    ),
    (
        "{kind: chat, base_url: http://h, model: m, price: {input: -1, output: 1}}",
        "rungs.x.price.input: expected at least 0, found -1",
    ),
    (
        "{kind: chat, base_url: http://h, model: m, price: {input: 1}}",
        "rungs.x.price.output: this key is req",
    ),
    (
        "{kind: chat, base_url: http://h, model: m, price: {input: 1, outptu: 1, output: 1}}",
        "rungs.x.price.outptu: unknown key; did you mean 'output'?",
    ),
    (
        "{kind: chat, base_url: ftp://h, model: m, price: {input: 1, output: 1}}",
        "rungs.x.base_url: expected a URL that starts with https://",
    ),
    (
        "{kind: chat, base_url: 'http://me:hunter2@h', model: m, price: {input: 1, output: 1}}",
        "rungs.x.base_url: credentials do not belong into this file; use api_key_env",
    ),
    (
        "{kind: chat, base_url: http://h, api_key_env: sk-hunter2, model: m, price: {input: 1, output: 1}}",
        "rungs.x.api_key_env: expected the name of an environment variable",
    ),
    (
        "{kind: chat, base_url: http://h, api_key: hunter2, model: m, price: {input: 1, output: 1}}",
        "rungs.x.api_key: keys do not belong into this file; use api_key_env",
    ),
]


@pytest.mark.parametrize(("rung", "fragment"), RUNGS, ids=[rung for rung, _ in RUNGS])
def test_one_wrong_rung(tmp_path: Path, rung: str, fragment: str) -> None:
    text = MINIMAL.replace("nodes:", f"\n\n  x: {rung}\nnodes:")
    [problem] = problems(tmp_path, text)
    assert fragment in problem
    assert problem.startswith("cascade.yaml:5: ")
    assert "hunter2" not in problem


LADDERS = [
    ("[]", ["ladder: expected at least 1 of them, found an empty list"]),
    ("linear", ["ladder: expected a list, found 'linear'"]),
    (
        "[linear]",
        ["ladder[0]: the last rung is the teacher and has to be of kind chat; 'linear' is of kind lin"],
    ),
    ("[big, linear]", ["ladder[1]: local rungs come before chat rungs; put 'linear' before 'big'"]),
    ("[linear, linear, big]", ["ladder[1]: the rung 'linear' is already in this ladder"]),
    (
        "[linaer, big, bigg]",
        ["ladder[0]: no rung is named 'linaer'; did you mean 'linear'?", "did you mean 'big'?"],
    ),
    ("[1, big]", ["ladder[0]: expected a text, found 1; put it in quotes"]),
]


@pytest.mark.parametrize(("ladder", "fragments"), LADDERS, ids=[ladder for ladder, _ in LADDERS])
def test_wrong_ladders(tmp_path: Path, ladder: str, fragments: list[str]) -> None:
    found = problems(tmp_path, MINIMAL.replace("[linear, big]", ladder))
    assert len(found) == len(fragments)
    for problem, fragment in zip(found, fragments, strict=True):
        assert problem.startswith("cascade.yaml:6: nodes.intent.ladder")
        assert fragment in problem


def test_every_problem_is_in_one_error_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = """\
listen: nowhere
rungs:
  big: {kind: chat, base_url: "http://h", model: m, price: {input: 0, output: 0}}
nodes:
  Bad Name:
    prompt: x
    ladder: [big]
  intent:
    prompt: |
      Hello
      {{ text
    ladder:
      - linear
      - huge
    contract: {schema: missing.json}
    bra: 1
    bra: 2
"""
    found = problems(tmp_path, text)
    assert [re.match(r"cascade\.yaml:(\d+): ", line)[1] for line in found] == [  # type: ignore[index]
        "1",
        "5",
        "9",
        "14",
        "15",
        "16",
        "17",
    ]
    assert "nodes.Bad Name: a name is 1 to 64 characters" in found[1]
    assert "nodes.intent.prompt: not a valid Jinja2 template: its line" in found[2]


def test_a_prompt_with_a_variable_that_is_not_there_is_named_with_its_line(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, MINIMAL.replace("{{ text }}", "{{ txt }} {{ labels }}"))
    assert re.match(
        r"cascade\.yaml:\d+: nodes\.intent\.prompt: unknown variables in the template: txt; ", found
    )
    assert found.endswith("there are choices, labels, messages, text")


def test_redaction_patterns_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "cascade.yaml"
    for key, value, problem in (
        ("EMPLOYEE", "'E-[0-9'", "not a regular expression"),
        ("EMPLOYEE", "'x*'", "finds the empty text"),
        ("employee", "'x'", "a kind is"),
    ):
        path.write_text(f"redaction: {{patterns: {{{key}: {value}}}}}\nnodes: {{}}\n")
        with pytest.raises(ConfigError, match=problem):
            load_config(path)
