"""docs/on-call.md quotes what the system says; each quotation must still be what it says."""

import re

import pytest

from cascade.policy import alarms, drift
from cascade.policy.guard import AuditRecord, GuardSettings, ReportedBlock, decide, new_guard, observe
from cascade.rollout.alarm_book import _VALUES, INPUTS, SCORES
from tests.conftest import ROOT

PAGE = " ".join((ROOT / "docs" / "on-call.md").read_text("utf-8").replace("\n> ", " ").split())
SETTINGS = GuardSettings(0.95)


def said(agrees: list[bool], step: int = 0, blocks: tuple[ReportedBlock, ...] = ()) -> str:
    state = new_guard(SETTINGS)
    for seq, right in enumerate(agrees):
        state = observe(SETTINGS, state, AuditRecord(seq, right, step=step))
    return decide(SETTINGS, state, step, blocks).reason


def shape(sentence: str) -> str:
    """A pattern of the sentence with any numbers."""
    return re.sub(r"(\\?[\d.,]|\\?-)+(e\\\+\d+)?", r"[\\d.,]+", re.escape(sentence))


@pytest.mark.parametrize(
    "sentence",
    [
        said([True] * 400 + [False] * 8, step=4),
        said([], blocks=(ReportedBlock(5500, 350),)),
        said([True] * 12),
        said([True] * 40 + [False, True], step=1),
        said([False] * 2 + [True] * 2),
        said([True] * 200, step=4),
    ],
)
def test_the_guards_sentences_are_on_the_page(sentence: str) -> None:
    assert re.search(shape(sentence), PAGE), sentence


@pytest.mark.parametrize(
    "settings",
    [
        alarms.storm(0.19),
        alarms.errors(),
        alarms.latency(50),
        drift.drift(SCORES, _VALUES[SCORES], [0.5, 0.5], ["a", "b"]),
        drift.drift(INPUTS, _VALUES[INPUTS], [0.5, 0.5], ["a", "b"]),
    ],
)
def test_the_alarms_words_are_on_the_page(settings: alarms.AlarmSettings) -> None:
    assert settings.what in PAGE


def test_the_log_lines_are_in_the_code() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "cascade").rglob("*.py"))
    for line in (
        "which was rolled back", "which is not there", "the last good bundle serves",
        "the last good flags stay",
        "is good again", "the rollouts' state cannot be read; what is known holds",
        "the guard cannot see its evidence; nothing changes meanwhile", "audits wait for the store",
        "gave up after", "cannot be reached (", "did not answer in", "had not answered after",
        "when its caller left",
        "sent no chat completion", "sent an empty answer", "refused to answer", "cannot be read: ",
        "times in a row: the circuit breaker is open, and nothing is asked of it for", "is not asked for now",
        "answers again after", "the circuit breaker is closed", "check the key in the environment variable",
    ):  # fmt: skip
        assert line in PAGE, line
        assert line in code, line


def test_the_metrics_are_in_the_code() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "cascade" / "observe").glob("*.py"))
    named = set(re.findall(r"`(cascade_\w+)`", PAGE))
    assert named
    for name in named:
        assert f'"{name.removesuffix("_total")}"' in code, name
