"""`cascade rollout plan` as a person types it: on the traffic of a real store and a shipped bundle."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from cascade.cli import app
from cascade.traffic import open_store
from tests.conftest import NODE
from tests.traffic_records import decision

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, models: Path) -> Run:
    document = {
        "store": "sqlite:///traffic.db",
        "models": str(models),
        "rungs": {
            "frontier": {
                "kind": "chat", "base_url": "http://127.0.0.1:9/v1", "model": "m",
                "price": {"input": 1.0, "output": 1.0},
            }
        },
        "nodes": {
            NODE: {
                "prompt": "{{ text }}",
                "bar": {"agreement": 0.9, "confidence": 0.95},
                "ladder": ["linear", "frontier"],
            }
        },
    }  # fmt: skip
    (tmp_path / "cascade.yaml").write_text(yaml.safe_dump(document))

    def command(*arguments: str) -> Result:
        given = ["rollout", "plan", NODE, "--rollouts", "20", *arguments]
        return CliRunner().invoke(app, [*given, "--config", str(tmp_path / "cascade.yaml")])

    return command


def traffic(folder: Path, n: int, hours: float) -> None:
    now = time.time()
    store = open_store(f"sqlite:///{folder}/traffic.db")
    for k in range(n):
        by_teacher = k % 2 == 0
        age = 3600 * hours * (k + 1) / n
        store.record(decision(f"d{k}", node=NODE, time=now - age, by_teacher=by_teacher, usd=0.002))
    store.close()


def test_it_plans_at_the_traffic_of_the_last_day(run: Run, tmp_path: Path) -> None:
    traffic(tmp_path, 480, hours=48)
    found = run("--agreement", "0.97", "--json")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    # 480 decisions in two days are 240 a day
    assert said["traffic"]["per_second"] == pytest.approx(240 / 86_400, rel=0.02)
    assert said["traffic"]["usd_per_audit"] == pytest.approx(0.002)
    (plan,) = said["plans"]
    assert plan["to_full"] == 1.0
    assert [step["share"] for step in plan["steps"]] == [0, 1, 5, 25]


def test_a_young_log_is_not_taken_for_a_whole_day(run: Run, tmp_path: Path) -> None:
    traffic(tmp_path, 120, hours=1)
    said = json.loads(run("--agreement", "0.99", "--json").stdout)
    assert said["traffic"]["per_second"] == pytest.approx(120 / 3600, rel=0.02)


def test_without_traffic_it_asks_how_much_is_expected(run: Run) -> None:
    found = run()
    assert found.exit_code == 1
    assert "--per-day" in found.stderr


def test_the_table_has_a_line_for_each_agreement(run: Run) -> None:
    found = run("--per-day", "50000", "--agreement", "0.99", "--agreement", "0.8")
    assert found.exit_code == 0, found.output
    assert "0.99" in found.stdout
    assert "100%" in found.stdout
    assert "50,000 requests a day" in found.stdout


@pytest.mark.parametrize(
    ("option", "value"), [("--agreement", "1.5"), ("--per-day", "0"), ("--settled", "1.2")]
)
def test_impossible_values_are_refused_by_name(run: Run, option: str, value: str) -> None:
    found = run(option, value)
    assert found.exit_code == 1
    assert option in found.stderr
