"""Dashboard, alerts and the manual ask only for metrics that exist."""

import json
import re

import yaml

from cascade.observe.metrics import Metrics
from tests.conftest import ROOT
from tests.unit.test_observe import decision

ALERTS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "cascade.yaml").read_text())["groups"][0]["rules"]
ERRORS = "".join((ROOT / "cascade" / each).read_text() for each in ("errors.py", "server/gone.py"))
MANUAL = (ROOT / "docs" / "operations.md").read_text()


def known_metrics() -> set[str]:
    metrics = Metrics()
    metrics.saw(decision())
    metrics.saw(decision(error="X: y"))
    known = set(re.findall(r"^# TYPE (\w+)", metrics.page().decode(), re.MULTILINE))
    source = (ROOT / "cascade" / "observe" / "rollouts.py").read_text()
    known |= {name + suffix for name in re.findall(r'"(cascade_\w+)"', source) for suffix in ("", "_total")}
    return known


def test_every_expression_names_a_metric_with_its_labels() -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "cascade.json").read_text())
    known = known_metrics()
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) >= 10
    for expression in asked:
        for name in re.findall(r"cascade_\w+", expression):
            assert name.removesuffix("_bucket") in known, name


def test_every_alert_is_of_metrics_that_exist_and_is_in_the_manual_with_what_to_do() -> None:
    known = known_metrics()
    for alert in ALERTS:
        names = re.findall(r"cascade_\w+", alert["expr"]) or ["up"]
        assert all(name in known | {"up"} for name in names), names
        assert len(alert["annotations"]["do"]) > 40
        (row,) = [line for line in MANUAL.splitlines() if line.startswith(f"| `{alert['alert']}` |")]
        assert len(row.split("|")[2]) > 40


def test_the_reasons_that_alert_are_reasons_that_decisions_fail_for() -> None:
    (fails,) = [alert["expr"] for alert in ALERTS if alert["alert"] == "CascadeFails"]
    (reasons,) = re.findall(r'reason=~"([^"]+)"', fails)
    there = {name.lower() for name in re.findall(r'reason(?:: ClassVar\[str\])? = "(\w+)"', ERRORS)}
    assert set(reasons.split("|")) <= there
    (gone,) = [alert["expr"] for alert in ALERTS if alert["alert"] == "CascadeCallersGiveUp"]
    assert set(re.findall(r'reason="([^"]+)"', gone)) <= there


def test_the_manual_names_metrics_that_exist() -> None:
    named = set(re.findall(r"`(cascade_\w+)`", MANUAL))
    assert named
    assert named <= known_metrics()
