"""A certificate is about all held-out traffic, also what no local rung can be right about."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle import load_bundle
from cascade.config import Config
from cascade.errors import RetrainRefused
from cascade.traffic import TrainingRecord
from tests.conftest import NODE
from training.node_rungs import encoders_of
from training.retrain import RetrainResult, retrain

LABELS = ("order", "refund", "parcel", "login")
WORDS = {label: [f"{label}{i}" for i in range(25)] for label in LABELS}
ODD = [f"odd{i}" for i in range(40)]
FILLER = [f"filler{i}" for i in range(40)]
BAR = 0.9


def traffic(n: int, seed: int, share: float = 0.25, told_apart: bool = True) -> list[TrainingRecord]:
    """One text a second; for a share of them the teacher coins a label that no other record has.

    Told apart, these have words of their own; else those of any other label.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = LABELS[rng.integers(len(LABELS))]
        odd = rng.random() < share
        words = [*rng.choice(ODD if odd and told_apart else WORDS[label], 4), *rng.choice(FILLER, 3)]
        told = f"other: {seed} {i}" if odd else label
        rows.append(
            TrainingRecord(f"{seed}-{i:05d}", " ".join(words), None, told, "import", None, 1000.0 + i)
        )
    return rows


@pytest.fixture
def train(configure: Callable[..., Config]) -> Callable[..., tuple[RetrainResult, Config]]:
    def run(records: list[TrainingRecord], labels: object = "from-traffic") -> tuple[RetrainResult, Config]:
        bar = {"agreement": BAR, "confidence": 0.9}
        config = configure(
            node={"ladder": ["linear", "frontier"], "bar": bar, "contract": {"labels": labels}}
        )
        return retrain(NODE, config, records, encoders_of(config)), config

    return run


def fresh_agreement(result: RetrainResult, config: Config, told_apart: bool) -> tuple[int, float]:
    """How many of 2,000 new records of the same kind settle, and the share of them that agree."""
    bundle = load_bundle(config.models_path / NODE / result.version, encoders_of(config), NODE)
    new = traffic(2000, seed=99, told_apart=told_apart)
    seen: dict[str, np.ndarray] = dict(bundle.ladder.run_all([record.text for record in new]))
    settled = np.flatnonzero(seen["confidence"][:, 0] >= bundle.policy.rungs[0].threshold)
    right = [bundle.contract.labels[seen["answer"][i, 0]] == new[i].output for i in settled]
    return len(settled), float(np.mean(right))


def is_learnable(record: TrainingRecord) -> bool:
    return record.output in LABELS


def test_without_its_rare_labels_traffic_is_certified_that_breaks_the_bar(
    train: Callable[..., tuple[RetrainResult, Config]],
) -> None:
    """What the others are about: this is how a certificate is false that leaves such records out."""
    result, config = train([record for record in traffic(1200, 0) if is_learnable(record)])
    assert result.certificate.valid
    assert fresh_agreement(result, config, told_apart=True)[1] < BAR - 0.1


def test_rare_labels_are_left_to_the_teacher_and_what_settles_keeps_the_bar(
    train: Callable[..., tuple[RetrainResult, Config]],
) -> None:
    result, config = train(traffic(1200, 0))
    assert result.certificate.valid, result.certificate.reason
    n, agreement = fresh_agreement(result, config, told_apart=True)
    assert n > 1000
    assert agreement >= BAR
    bare = result.statement["without_right_answer"]
    assert bare["trained"] + bare["held_out"] == sum(not is_learnable(r) for r in traffic(1200, 0))
    assert 40 < bare["held_out"] < 110
    assert bare["settled"] <= result.certificate.n_wrong


def test_rare_labels_that_look_like_any_other_are_held_out_as_wrong_and_refuse_the_bar(
    train: Callable[..., tuple[RetrainResult, Config]],
) -> None:
    result, _ = train(traffic(1200, 0, told_apart=False))
    assert not result.certificate.valid
    report = result.report.read_text()
    assert "**No: " in report
    assert f"{result.statement['without_right_answer']['held_out']} of them were held out as wrong" in report


def test_answers_off_a_closed_contract_count_as_well(
    train: Callable[..., tuple[RetrainResult, Config]],
) -> None:
    result, _ = train(traffic(1200, 0, told_apart=False), list(LABELS))
    assert not result.certificate.valid
    (line,) = result.caveats
    assert line.startswith("Off the contract: of 1,200 distinct records")
    assert "import it with --replace" in line


def test_the_report_names_them_in_its_first_lines_and_only_where_there_are_some(
    train: Callable[..., tuple[RetrainResult, Config]],
) -> None:
    result, _ = train(traffic(1200, 0))
    top = result.report.read_text().split("## ")[0]
    assert "Rare labels: of 1,200 distinct records, no local rung can be right about " in top
    clean, _ = train(traffic(700, 0, share=0))
    assert clean.caveats == []
    assert "Rare labels" not in clean.report.read_text().split("## ")[0]


def test_too_few_records_that_can_be_learned_are_refused(
    train: Callable[..., tuple[RetrainResult, Config]],
) -> None:
    records = [record for record in traffic(2000, 0) if not is_learnable(record)] + traffic(20, 1, share=0)
    with pytest.raises(RetrainRefused, match=r"20 usable records \(\d+ records have an answer that no other"):
        train(records)


def big_sessions(n: int, seed: int, names: range) -> list[TrainingRecord]:
    """Whose session it is decides the answer, and nothing else in the text does."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        who = names[rng.integers(len(names))]
        text = f"user{who} says " + " ".join(rng.choice(FILLER, 6))
        label = LABELS[who % 2]
        rows.append(TrainingRecord(f"{seed}-{i:05d}", text, None, label, "import", f"s{who}", 1000.0 + i))
    return rows


def test_sessions_that_stand_on_both_sides_are_named_beside_the_verdict(
    train: Callable[..., tuple[RetrainResult, Config]], tmp_path: Path
) -> None:
    result, _ = train(big_sessions(1000, 0, range(8)))
    assert result.certificate.valid
    (line,) = result.caveats
    assert line.startswith("8 sessions hold 100.0% (")
    assert "this says nothing about new sessions" in line
    measured = result.statement["new_sessions"]
    assert measured["seen"] > 0.95
    assert measured["new"] < 0.65
    assert f"about {measured['new']:.1%} where it has seen no other record of the session" in line
    assert line in result.report.read_text().split("## ")[0]
    small, _ = train(big_sessions(1000, 0, range(60)))
    assert small.caveats == []


def test_a_second_try_on_the_same_held_out_records_is_named_and_one_after_a_certificate_is_not(
    train: Callable[..., tuple[RetrainResult, Config]],
) -> None:
    hopeless, good = traffic(600, 0, told_apart=False), traffic(700, 0, share=0)
    first, _ = train(hopeless)
    assert not any("This was try" in line for line in first.caveats)
    second, _ = train(hopeless)
    assert "This was try 2 on held-out records that may overlap" in second.report.read_text().split("## ")[0]
    third, _ = train(good)
    assert third.certificate.valid
    assert [line[:15] for line in third.caveats] == ["This was try 3 "]
    again, _ = train(good)
    assert again.version == third.version  # it is not part of what a bundle is named after
    assert again.caveats == []
