"""The commands of docs/traffic.md, docs/privacy.md and docs/discover.md run as they stand there."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cascade.cli.app import app
from cascade.traffic.aes import new_key

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, str]]:
    return [(m[1], m[2] or "", m[3]) for m in BLOCK.finditer((DOCS / page).read_text())]


def run_page(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Write the page's files, run its commands in order, and give the output of each."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CASCADE_ENCRYPTION_KEYS", new_key("test"))
    for kind, name, text in blocks(page):
        if kind == "yaml":
            Path("cascade.yaml").write_text(text)
        elif name:
            Path(name).write_text(text)
    said: dict[str, str] = {}
    for kind, _, text in blocks(page):
        for line in text.splitlines() if kind == "sh" else ():
            words = shlex.split(line)
            assert words[0] == "cascade"
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, f"{line}\n{result.output}"
            said[line] = said.get(line, "") + result.output
    return said


def test_the_page_about_traffic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run_page("traffic.md", tmp_path, monkeypatch)
    assert "2 added" in said["cascade import support-intent history.jsonl"]
    skipped = said["cascade import support-intent litellm.jsonl --skip-bad"]
    assert "1 added" in skipped
    assert "line 2" in skipped
    assert "3 imported" in said["cascade traffic counts"]
    assert "0 decisions added" in said["cascade traffic export --to decisions.delta"]


def test_the_page_about_privacy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run_page("privacy.md", tmp_path, monkeypatch)
    assert "2 imported" in said["cascade traffic counts"]
    assert "1 labelled would be deleted" in said["cascade traffic erase --subject eve@example.com --dry-run"]
    assert "1 labelled deleted" in said["cascade traffic erase --subject eve@example.com"]


def test_the_page_about_discovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["track_order", "refund", "cancel"]
    with (tmp_path / "calls.jsonl").open("w") as file:
        for i in range(90):
            said = [
                {"role": "system", "content": "Name the intent."},
                {"role": "user", "content": f"{labels[i % 3]} {i}"},
            ]
            answer = {"choices": [{"message": {"role": "assistant", "content": labels[i % 3]}}]}
            file.write(json.dumps({"id": str(i), "model": "m", "messages": said, "response": answer}) + "\n")
    said_ = run_page("discover.md", tmp_path, monkeypatch)
    assert "3 labels" in said_["cascade discover --from calls.jsonl --write nodes.yaml"]
    assert "recognise" in (tmp_path / "nodes.yaml").read_text()
