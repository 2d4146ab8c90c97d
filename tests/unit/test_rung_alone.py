"""A ladder that one of its own rungs beats is told so, and luck is no advice."""

from dataclasses import replace

import numpy as np

from cascade.manifest import read_manifest
from cascade.pointer import serving_version
from cascade.standing import Standing
from tests.conftest import NODE, ROOT
from training.document import Text
from training.evaluate import Scored
from training.held_out import HeldOut
from training.node_report import NodeReport
from training.report_quality import alternatives
from training.rung_alone import rung_alone

THRESHOLDS = [0.5, 0.5]


def scored(n: int, seed: int, first: float, second: float) -> Scored:
    """Two rungs that are sure of everything, and right at these rates."""
    rng = np.random.default_rng(seed)
    right = rng.random((n, 2)) < (first, second)
    sure, yes = np.full((n, 2), 0.9), np.ones((n, 2), dtype=bool)
    zeros = np.zeros(n, dtype=np.int64)
    return Scored(
        sure, right, sure, sure, yes, zeros, np.where(right, 0, 1), ("linear", "encoder"),
        np.array([1e-9, 4e-8]), np.zeros(2), 4e-4, 500.0,
    )  # fmt: skip


def test_a_rung_that_settles_as_much_and_is_right_more_often_is_named() -> None:
    records = scored(750, 0, 0.95, 0.99)
    found = rung_alone(records, THRESHOLDS)
    assert found is not None
    assert found.rung == "encoder"
    assert found.settled == found.ladder_settled == 1.0
    assert (found.ladder_agreement, found.agreement) == tuple(records.right.mean(axis=0))
    assert found.better == (records.right[:, 1] & ~records.right[:, 0]).sum()
    assert found.p_value < 0.025
    assert abs(found.usd - 3.9e-8) < 1e-12


def test_luck_is_no_advice() -> None:
    named = [rung_alone(scored(750, seed, 0.97, 0.97), THRESHOLDS) is not None for seed in range(300)]
    assert sum(named) <= 0.025 * 300 + 3 * np.sqrt(300 * 0.025 * 0.975)


def test_a_rung_that_settles_less_is_not_named_however_right_it_is() -> None:
    records = scored(750, 0, 0.95, 0.99)
    confidence = records.confidence.copy()
    confidence[:10, 1] = 0.1  # ten records that the ladder settles and the encoder would not
    assert rung_alone(replace(records, confidence=confidence), THRESHOLDS) is None
    confidence[3:10, 1] = 0.9
    assert rung_alone(replace(records, confidence=confidence), THRESHOLDS) is not None


def test_a_ladder_of_one_rung_has_nothing_to_be_compared_with() -> None:
    records = scored(750, 0, 0.95, 0.99)
    one = {
        name: getattr(records, name)[:, :1]
        for name in ("confidence", "right", "p_right", "p_top", "worth", "answer")
    }
    alone = replace(records, **one, rungs=("linear",), rung_usd=np.zeros(1), rung_ms=np.zeros(1))
    assert rung_alone(alone, [0.5]) is None


def test_near_copies_do_not_make_a_difference_surer_than_it_is() -> None:
    records = scored(750, 0, 0.95, 0.99)
    assert rung_alone(records, THRESHOLDS, 750) == rung_alone(records, THRESHOLDS)
    assert rung_alone(records, THRESHOLDS, 75) is None


def test_the_report_says_so_with_the_price_and_the_ladder_to_try() -> None:
    version = serving_version(ROOT / "models", NODE)
    assert version is not None
    old = read_manifest(ROOT / "models" / NODE / version)
    manifest = {**old, "dataset": old["dataset"] | {"held_out_groups": 750}}
    held_out = HeldOut(np.zeros(750, dtype=np.uint64), scored(750, 0, 0.95, 0.99))
    report = NodeReport(
        NODE, version, manifest, THRESHOLDS, held_out, [], [], [], {}, Standing((), None), [], teacher="big"
    )
    (said,) = [
        b.text for b in alternatives(report) if isinstance(b, Text) and b.text.startswith("The encoder")
    ]
    assert "for $0.000039 more per 1,000" in said
    assert "`ladder: [encoder, big]`" in said
    same = replace(report, held_out=HeldOut(held_out.texts, scored(750, 1, 0.97, 0.97)))
    assert not [b for b in alternatives(same) if isinstance(b, Text) and "rung alone" in b.text]
    refused = replace(
        report, manifest={**manifest, "certificate": manifest["certificate"] | {"valid": False}}
    )
    assert refused.better_alone is None
    assert report.better_alone is not None
    assert replace(report, manifest=old).better_alone is None, "nobody knows how many groups these are"
