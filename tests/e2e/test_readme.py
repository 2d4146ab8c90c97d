"""The README's own commands, as a stranger would run them."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cascade.config import load_config
from cascade.demo.run import N_MEASURED
from cascade.traffic import open_traffic
from tests.conftest import ROOT, sample

README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@contextmanager
def running(*command: str) -> Iterator[dict[str, object]]:
    """A long-lived command, as the README says, and the JSON line that it prints once it is ready."""
    process = subprocess.Popen(
        [str(BIN / "cascade"), *command, "--json"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    yield json.loads(line)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """The repository's own configuration, on ports that nobody else holds, with a store of its own."""
    folder, frontier = tmp_path_factory.mktemp("readme"), free_port()
    shipped = (ROOT / "cascade.yaml").read_text(encoding="utf-8")
    config = shipped.replace("8399", str(frontier)).replace("50051", str(free_port()))
    config = config.replace("models: models", f"models: {ROOT / 'models'}")
    config, taken_away = re.subn(r"^# (http: .*):8080}$", rf"\1:{free_port()}}}", config, flags=re.MULTILINE)
    assert taken_away == 1
    assert config.count(str(frontier)) == 1
    (folder / "cascade.yaml").write_text(config)
    serve = running("serve", "--config", str(folder / "cascade.yaml"))
    with running("frontier", "--port", str(frontier)), serve as ready:
        yield ready


def test_the_service_serves_the_shipped_bundles(service: dict[str, object]) -> None:
    nodes = service["nodes"]
    assert isinstance(nodes, dict)
    assert set(nodes) == {"support-intent", "tool-choice", "continue-or-stop"}
    assert all(nodes.values())


def test_the_client_example_runs_and_prints_what_the_readme_says(service: dict[str, object]) -> None:
    code, shown = blocks("python")[0], blocks("text")[0]
    code = code.replace("127.0.0.1:50051", f"127.0.0.1:{service['port']}")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == shown.strip()


def test_the_api_that_one_line_switches_on_answers_what_the_readme_asks_it(
    service: dict[str, object],
) -> None:
    (command,) = [block for block in blocks("sh") if "curl" in block]
    done = subprocess.run(
        command.replace("127.0.0.1:8080", str(service["http"])), shell=True,
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "payment_failed"


def test_every_command_that_the_readme_names_has_help_with_an_example() -> None:
    named = {
        tuple(re.findall(r"^[a-z ]+", text)[0].split()) for text in re.findall(r"`cascade ([^`]*)`", README)
    }
    assert ("retrain",) in named
    for command in sorted(named):
        done = subprocess.run(
            [str(BIN / "cascade"), *command, "--help"], capture_output=True, text=True, timeout=60, check=True
        )
        assert "Example" in done.stdout, command
        assert "--json" in done.stdout, command


def test_every_page_that_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / target).is_file(), target


def test_the_makefile_holds_the_two_commands() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert f"make {target}" in README


@pytest.mark.timeout(900)
def test_the_demo_runs_end_to_end_and_keeps_its_bars(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "cascade"), "demo", "--folder", str(tmp_path / "demo"), "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert Path(result["plot"]).stat().st_size > 1000
    rows = {row["node"]: row for row in result["nodes"]}
    assert set(rows) == {"support-intent", "tool-choice", "continue-or-stop"}
    assert sum(row["settled"] > 0.3 for row in rows.values()) >= 2
    for row in rows.values():
        assert row["failed"] == 0
        if row["agreement"] is not None:  # a bar is a promise about the long run, not about 600 records
            assert row["agreement_interval"][1] >= (0.90 if row["node"] == "continue-or-stop" else 0.95)
        if row["settled"]:
            assert row["usd_per_1000"] < row["always_teacher"]["usd_per_1000"]
    # Logged as sent: what is held out, and so what settles, hangs on the order.
    store = open_traffic(load_config(Path(result["config"])))
    for node in rows:
        told = sorted(store.training_records(node), key=lambda record: record.time or 0.0)
        history = [record["label"] for record in sample(f"{node}.jsonl")]
        assert [record.output for record in told][N_MEASURED:][: len(history)] == history
    store.close()
    live, bad = result["story"]["rollout"], result["story"]["bad_bundle"]
    assert live["failed"] == bad["failed"] == 0, bad["errors"]
    assert [event["what"] for event in live["events"]][:2] == ["start", "promote"]
    assert bad["caught"], bad
    assert bad["serving_after"] == [live["bundle"]]
