"""The Grafana dashboard asks only for metrics that exist."""

import json
import re

from cascade.observe.metrics import Metrics
from tests.conftest import ROOT
from tests.unit.test_observe import decision


def test_every_expression_names_a_metric_with_its_labels() -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "cascade.json").read_text())
    metrics = Metrics()
    metrics.saw(decision())
    metrics.saw(decision(error="X: y"))
    known = set(re.findall(r"^# TYPE (\w+)", metrics.page().decode(), re.MULTILINE))
    source = (ROOT / "cascade" / "observe" / "rollouts.py").read_text()
    known |= {name + suffix for name in re.findall(r'"(cascade_\w+)"', source) for suffix in ("", "_total")}
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) >= 10
    for expression in asked:
        for name in re.findall(r"cascade_\w+", expression):
            assert name.removesuffix("_bucket") in known, name
