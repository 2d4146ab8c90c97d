"""What a report's first lines claim: only what holds now."""

from dataclasses import replace
from typing import Any

import pytest

from cascade.manifest import read_manifest
from cascade.pointer import serving_version
from cascade.standing import Standing
from tests.conftest import NODE, ROOT
from training.document import Facts, Text
from training.node_report import NodeReport
from training.report_verdict import headline, safety
from training.rollout_place import PulledBack

CHANGED = "the traffic changed: retrain"
NOBODY = PulledBack("guard", "18 of 18 audited answers disagreed with the teacher")


@pytest.fixture(scope="module")
def report() -> NodeReport:
    models = ROOT / "models"
    version = serving_version(models, NODE)
    assert version is not None
    manifest = read_manifest(models / NODE / version)
    assert manifest["certificate"]["valid"]
    return NodeReport(NODE, version, manifest, [], None, [], [], [], {}, Standing((), None), [])


def refused(report: NodeReport) -> NodeReport:
    certificate = report.manifest["certificate"] | {
        "valid": False, "n_settled": 0, "n_wrong": 0, "agreement_lower": 0.0, "reason": "it cannot be proven",
        "end_to_end": {"n": 497, "n_disagreed": 0, "disagreement": 0.0, "low": 0.0, "high": 0.007},
    }  # fmt: skip
    manifest: dict[str, Any] = {**report.manifest, "certificate": certificate}
    del manifest["economy"]
    return replace(report, manifest=manifest)


def claims(report: NodeReport) -> tuple[str, dict[str, str]]:
    """Give the verdict, and what the large numbers say by their words."""
    verdict, *_, facts = headline(report)
    assert isinstance(verdict, Text)
    assert isinstance(facts, Facts)
    return verdict.text, {what: number for number, what in facts.facts}


def said(report: NodeReport) -> str:
    return "\n".join(block.text for block in safety(report) if isinstance(block, Text))


def test_a_bundle_that_settles_is_told_what_it_settles_and_what_is_proven(report: NodeReport) -> None:
    verdict, facts = claims(report)
    assert verdict.startswith("Yes, within what was proven")
    assert facts["agreement proven, at confidence 95%"] == "95.0%"
    assert facts["of requests answered locally"] == "84%"
    assert "From that follows" in said(report)


def test_a_refused_report_claims_no_proof(report: NodeReport) -> None:
    verdict, facts = claims(refused(report))
    assert verdict.startswith("No: it cannot be proven")
    assert facts == {"of requests answered locally": "0%", "is the bar, not proven": "95.0%"}
    text = said(refused(report))
    assert "the bar of 95.0% could not be proven" in text
    for empty in ("From that follows", "0.00%", "Over everything", "It holds while"):
        assert empty not in text


@pytest.mark.parametrize(
    ("changed", "begins"),
    [
        ({"standing": Standing((CHANGED,), None)}, "Not now: the traffic changed: retrain. The teacher"),
        ({"pulled_back": NOBODY}, "No: the guard pulled it back: 18 of 18 audited answers disagreed"),
        ({"pulled_back": PulledBack("ada", "wrong refunds")}, "Not now: ada pulled it back: wrong refunds."),
        ({"pulled_back": PulledBack("ada", "")}, "Not now: ada pulled it back."),
        ({"pulled_back": NOBODY, "standing": Standing((CHANGED,), None)}, "No: the guard pulled it back"),
    ],
)
def test_what_does_not_settle_now_claims_nothing_in_the_present(
    report: NodeReport, changed: dict[str, Any], begins: str
) -> None:
    verdict, facts = claims(replace(report, **changed))
    assert verdict.startswith(begins)
    assert facts["of requests answered locally now"] == "0%"
    assert facts["of the held-out records it would have answered locally"] == "84%"
    assert all(" was " in what or "would" in what or what.endswith("now") for what in facts)


def test_a_bundle_that_does_not_pay_settles_nothing_either(report: NodeReport) -> None:
    economy = report.manifest["economy"] | {"too_dear": "it spends more"}
    verdict, facts = claims(replace(report, manifest={**report.manifest, "economy": economy}))
    assert verdict.startswith("It is proven, but it does not pay")
    assert facts["of requests answered locally now"] == "0%"
