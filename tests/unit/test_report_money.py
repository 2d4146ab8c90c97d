"""What a report says of money: one price of the teacher in all its tables, and the harm of wrong answers."""

from dataclasses import replace

import numpy as np
import pytest

from cascade.manifest import read_manifest
from cascade.pointer import serving_version
from cascade.standing import Standing
from tests.conftest import NODE, ROOT
from training.document import Facts, Quote, Rows, Text
from training.evaluate import Scored
from training.held_out import HeldOut
from training.node_report import Confusion, NodeReport
from training.report_money import money
from training.report_quality import confusions
from training.report_verdict import headline


@pytest.fixture(scope="module")
def report() -> NodeReport:
    version = serving_version(ROOT / "models", NODE)
    assert version is not None
    manifest = read_manifest(ROOT / "models" / NODE / version)
    assert manifest["economy"]["teacher_price_from"] == "price list"
    return NodeReport(NODE, version, manifest, [], None, [], [], [], {}, Standing((), None), [])


def expected(report: NodeReport) -> tuple[dict[str, float], str]:
    """Give the table of what is expected, and the rest as text."""
    blocks = money(report)
    rows = next(block for block in blocks if isinstance(block, Rows))
    text = "\n".join(block.text for block in blocks if isinstance(block, Text))
    return {name: float(usd) for name, usd in rows.rows}, text


def test_without_another_price_it_is_what_the_retraining_worked_out(report: NodeReport) -> None:
    table, text = expected(report)
    stored = report.manifest["economy"]["cost"]
    assert table["teacher calls spared"] == pytest.approx(1000 * stored["spared"], rel=1e-3)
    assert table["net"] == pytest.approx(1000 * stored["net"], rel=1e-3)
    assert "no answer of it with a price was in the traffic" in text
    assert "the retraining took it" not in text
    assert not any("harm" in name for name in table)


def test_the_share_of_audits_is_said_to_be_an_assumption_whatever_the_traffic_tells(
    report: NodeReport,
) -> None:
    _, text = expected(replace(report, teacher_call=(1e-3, "traffic")))
    assert "by assumption (costs.audit_share," in text
    assert "2% of what settles is audited" in text


def test_once_the_traffic_tells_the_teachers_price_all_tables_use_it(report: NodeReport) -> None:
    before, _ = expected(report)
    then = report.manifest["economy"]["prices"]["teacher_call"]
    now = replace(report, teacher_call=(then / 2, "traffic"))
    table, text = expected(now)
    assert table["teacher calls spared"] == pytest.approx(before["teacher calls spared"] / 2, rel=1e-3)
    assert table["audits"] == pytest.approx(before["audits"] / 2, rel=1e-3)
    assert table["retraining"] == before["retraining"]
    assert f"is taken at ${then / 2:.4g}, from what it cost in this traffic" in text
    assert f"the retraining took it at ${then:.4g}, from its price per token" in text
    facts = next(block for block in headline(now) if isinstance(block, Facts))
    (saved,) = [number for number, what in facts.facts if what.startswith("saved per 1,000")]
    assert float(saved.lstrip("$")) == pytest.approx(table["net"], rel=1e-3)


def test_a_teacher_that_became_cheap_is_told_to_make_the_ladder_too_dear(report: NodeReport) -> None:
    table, text = expected(replace(report, teacher_call=(1e-9, "traffic")))
    assert table["net"] < 0
    assert "At today's price of the teacher it does not pay" in text


def test_wrong_answers_that_have_a_price_are_counted(report: NodeReport) -> None:
    table, _ = expected(replace(report, wrong_answer=0.02))
    certificate = report.manifest["certificate"]
    harm = 1000 * 0.02 * certificate["n_wrong"] / certificate["n_held_out"]
    assert harm > 0
    assert table["harm of wrong answers, $0.02 each"] == pytest.approx(-harm, rel=1e-3)
    assert table["net of that harm"] == pytest.approx(table["net"] - harm, rel=1e-2)


def test_two_examples_of_one_confusion_do_not_bear_its_count_each(report: NodeReport) -> None:
    scored = Scored(
        np.ones((6, 1)), np.zeros((6, 1), dtype=bool), np.ones((6, 1)), np.ones((6, 1)),
        np.ones((6, 1), dtype=bool), np.zeros(6, dtype=np.int64), np.ones((6, 1), dtype=np.int64),
        ("linear",), np.zeros(1), np.zeros(1), 0.0, 0.0,
    )  # fmt: skip
    held_out = HeldOut(np.zeros(6, dtype=np.uint64), scored)
    found = [Confusion("refund", "return", 6, ("where is my money", "pay me back", "refund"))]
    quotes = [
        block.about
        for block in confusions(replace(report, held_out=held_out, confusions=found, thresholds=[0.5]))
        if isinstance(block, Quote)
    ]
    assert quotes == [
        "teacher: refund · answered: return · 6 records of this pair",
        "teacher: refund · answered: return · another of them",
    ]
