"""The guard: what it decides, that it is monotone, replayable and small."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.policy.guard import (
    Action,
    AuditRecord,
    GuardSettings,
    GuardState,
    Raised,
    ReportedBlock,
    decide,
    new_guard,
    observe,
    reported_evidence,
)
from cascade.policy.guard_settings import ALL

SETTINGS = GuardSettings(bar=0.95, slices=("a", "b"))


def audits(
    agrees: list[bool], step: int = 0, slices: tuple[str, ...] = (), first: int = 0
) -> list[AuditRecord]:
    return [
        AuditRecord(first + n, right, propensity=0.5, slices=slices, step=step)
        for n, right in enumerate(agrees)
    ]


def after(records: list[AuditRecord], of: GuardSettings = SETTINGS) -> GuardState:
    state = new_guard(of)
    for record in records:
        state = observe(of, state, record)
    return state


def as_json(state: GuardState) -> dict[str, Any]:
    return state.to_json(SETTINGS)


record_lists = st.lists(
    st.builds(
        lambda agrees, propensity, share, slices, step: (
            agrees, propensity, propensity * share, tuple(sorted(slices)), step,
        ),
        st.booleans(), st.floats(0.01, 1.0), st.floats(0.05, 1.0), st.sets(st.sampled_from(["a", "b", "x"])),
        st.integers(0, 4),
    ),
    max_size=40,
).map(lambda rows: [AuditRecord(n, *row) for n, row in enumerate(rows)])  # fmt: skip


def test_audits_without_a_verdict_blame_nobody_and_prove_nothing() -> None:
    good = audits([True] * 300)
    unjudged = [replace(record, seq=1000 + record.seq, verdict=False) for record in audits([False] * 60)]
    state = after(good + unjudged)
    proven, alone = after(good), after(unjudged)
    assert decide(SETTINGS, proven, step=0).action is Action.PROMOTE
    # However many there are, nothing is held against the bundle ...
    assert (state.evidence, state.peak) == (proven.evidence, proven.peak)
    assert state.parts[ALL].agreement == 1.0
    assert alone.evidence == 1.0
    # ... and it does not go on either: had they all been wrong, the bar would be broken.
    verdict = decide(SETTINGS, state, step=0)
    assert verdict.action is Action.HOLD
    assert "0 of 360 audits at this step disagreed and 60 had no verdict" in verdict.reason
    # A few of them, in enough others, hold nothing up.
    assert decide(SETTINGS, after(good + unjudged[:2]), step=0).action is Action.PROMOTE
    # What they would have said makes no difference.
    assert as_json(after(good + [replace(r, agrees=True) for r in unjudged])) == as_json(state)
    assert as_json(GuardState.from_json(SETTINGS, as_json(state))) == as_json(state)


def test_many_disagreements_roll_back_and_the_reason_counts_them() -> None:
    verdict = decide(SETTINGS, after(audits([True, False] * 20)), step=0)
    assert verdict.action is Action.ROLL_BACK
    assert "disagreed with the teacher" in verdict.reason
    assert "0.95" in verdict.reason
    assert verdict.evidence >= verdict.needed


def test_agreement_promotes_once_there_are_enough_audits() -> None:
    few, enough = after(audits([True] * 29)), after(audits([True] * 100))
    assert decide(SETTINGS, few, step=0).action is Action.HOLD
    assert decide(SETTINGS, enough, step=0).action is Action.PROMOTE


def test_a_step_is_left_by_its_own_audits_only() -> None:
    state = after(audits([True] * 400))
    assert decide(SETTINGS, state, step=1).action is Action.HOLD
    late = after(
        audits([True] * 100) + audits([True] * 60, step=1, first=100) + audits([True], step=0, first=200)
    )
    assert late.promotion.audits == 60
    assert late.parts[""].audits == 161


def test_the_last_step_leads_nowhere() -> None:
    state = after(audits([True] * 900, step=4))
    assert decide(SETTINGS, state, step=4).action is Action.HOLD


def test_a_bad_slice_rolls_back_where_the_mean_is_fine_and_is_named() -> None:
    draw = random.Random(1)
    records = [
        AuditRecord(
            n, agrees=draw.random() > (0.35 if n % 12 == 0 else 0.01), slices=("a" if n % 12 == 0 else "b",)
        )
        for n in range(1200)
    ]
    state = after(records)
    assert state.parts[""].agreement > 0.95
    verdict = decide(SETTINGS, state, step=0)
    assert verdict.action is Action.ROLL_BACK
    assert "'a'" in verdict.reason


def test_what_goes_bad_late_is_found_soon() -> None:
    draw = random.Random(2)
    state = after(audits([draw.random() > 0.02 for _ in range(3000)]))
    assert decide(SETTINGS, state, step=4).action is Action.HOLD
    taken = 0
    while decide(SETTINGS, state, step=4).action is not Action.ROLL_BACK:
        state = observe(SETTINGS, state, AuditRecord(3000 + taken, draw.random() > 0.25))
        taken += 1
    assert taken < 150
    reason = decide(SETTINGS, state, step=4).reason
    last = int(reason.split("of the last ")[1].split()[0])
    assert last < 2 * taken  # what it says is about the bad time, not about the 3,000 good ones before
    assert f"of {state.peak_audits:,} in all" in reason


def test_a_rollback_is_remembered_when_evidence_falls_again() -> None:
    bad = audits([False] * 20)
    state = after(bad + audits([True] * 2000, first=20))
    assert state.evidence < SETTINGS.audits_needed
    assert decide(SETTINGS, state, step=0).action is Action.ROLL_BACK
    assert state.peak_seq == 19


def test_doubt_about_a_slice_holds_a_promotion_that_the_step_would_allow() -> None:
    agreeing = audits([True] * 150, slices=("a",))
    assert decide(SETTINGS, after(agreeing), step=0).action is Action.PROMOTE
    state = after(agreeing + audits([False, True, False, False], slices=("b",), first=150))
    assert SETTINGS.suspicious <= state.evidence < SETTINGS.audits_needed
    verdict = decide(SETTINGS, state, step=0)
    assert verdict.action is Action.HOLD
    assert "look bad" in verdict.reason


def test_reports_of_wrong_answers_roll_back_and_silence_counts_as_right() -> None:
    quiet = [ReportedBlock(5000, 0)]
    assert decide(SETTINGS, new_guard(SETTINGS), 4, quiet).action is Action.HOLD
    some = [ReportedBlock(5000, 200)]
    assert decide(SETTINGS, new_guard(SETTINGS), 4, some).action is Action.HOLD
    many = [*some, ReportedBlock(500, 80)]
    verdict = decide(SETTINGS, new_guard(SETTINGS), 4, many)
    assert verdict.action is Action.ROLL_BACK
    assert verdict.trigger == "outcomes"
    assert "280 of 5,500" in verdict.reason


def test_reports_alone_never_promote() -> None:
    assert decide(SETTINGS, new_guard(SETTINGS), 0, [ReportedBlock(10_000, 0)]).action is Action.HOLD


def test_an_alarm_acts_and_rolling_back_comes_before_holding() -> None:
    state = after(audits([True] * 100))
    drift = Raised("drift of scores", "scores moved", Action.HOLD)
    storm = Raised("storm", "too much escalates", Action.ROLL_BACK)
    assert decide(SETTINGS, state, 0, raised=[drift]).action is Action.HOLD
    verdict = decide(SETTINGS, state, 0, raised=[drift, storm])
    assert (verdict.action, verdict.trigger) == (Action.ROLL_BACK, "storm")


@given(record_lists, st.data())
@settings(max_examples=60)
def test_one_more_disagreement_never_moves_away_from_rollback(
    records: list[AuditRecord], data: st.DataObject
) -> None:
    agreeing = [n for n, record in enumerate(records) if record.agrees]
    if not agreeing:
        return
    turned = data.draw(st.sampled_from(agreeing))
    old = records[turned]
    worse = [*records]
    worse[turned] = AuditRecord(old.seq, False, old.propensity, old.floor, old.slices, old.step)
    assert after(worse).evidence >= after(records).evidence * (1 - 1e-12)
    assert after(worse).peak >= after(records).peak * (1 - 1e-12)


@given(record_lists, st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=60)
def test_reading_the_log_again_from_anywhere_gives_the_same_state(
    records: list[AuditRecord], crash: int, again: int
) -> None:
    state = after(records[:crash])
    for record in records[min(crash, again) :]:
        state = observe(SETTINGS, state, record)
    assert as_json(state) == as_json(after(records))


@given(record_lists)
@settings(max_examples=60)
def test_a_state_comes_back_exactly_from_json_and_goes_on_the_same(records: list[AuditRecord]) -> None:
    half = len(records) // 2
    text = json.dumps(as_json(after(records[:half])), allow_nan=False)
    state = GuardState.from_json(SETTINGS, json.loads(text))
    for record in records[half:]:
        state = observe(SETTINGS, state, record)
    assert as_json(state) == as_json(after(records))
    assert len(text) < 10_000


def test_order_is_by_commit_number_so_equal_or_jumping_clocks_do_not_matter() -> None:
    # an audit record has no time at all; what came under a lower number than the last is not taken twice
    state = after(audits([True, False, True]))
    assert observe(SETTINGS, state, AuditRecord(2, False)) is state
    assert observe(SETTINGS, state, AuditRecord(0, False)) is state


def test_a_state_made_under_another_bar_is_refused() -> None:
    with pytest.raises(ValueError, match="replay"):
        GuardState.from_json(GuardSettings(bar=0.9), as_json(new_guard(SETTINGS)))


def test_agreement_is_estimated_by_inverse_propensity() -> None:
    # 10 audits at 100 % of which 5 disagree, 10 at 10 % of which none does: 5 of about 110 answers
    records = [AuditRecord(n, n % 2 == 0, propensity=1.0) for n in range(10)]
    records += [AuditRecord(10 + n, True, propensity=0.1) for n in range(10)]
    assert after(records).parts[""].agreement == pytest.approx(1 - 5 / 110)


@pytest.mark.parametrize(("propensity", "floor"), [(0.0, None), (1.2, None), (0.1, 0.2), (0.1, 0.0)])
def test_impossible_propensities_are_refused(propensity: float, floor: float | None) -> None:
    with pytest.raises(ValueError, match="propensity"):
        AuditRecord(0, True, propensity, floor)


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 1)), min_size=1, max_size=12), st.data())
@settings(max_examples=60)
def test_one_more_wrong_report_never_lowers_the_evidence(
    rows: list[tuple[int, float]], data: st.DataObject
) -> None:
    blocks = [ReportedBlock(n, int(n * share)) for n, share in rows]
    open_blocks = [n for n, block in enumerate(blocks) if block.wrong < block.settled]
    if not open_blocks:
        return
    more = data.draw(st.sampled_from(open_blocks))
    worse = [*blocks]
    worse[more] = ReportedBlock(blocks[more].settled, blocks[more].wrong + 1)
    assert reported_evidence(SETTINGS, worse) >= reported_evidence(SETTINGS, blocks) * (1 - 1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bar": 1.0},
        {"bar": 0.9, "delta": 0.0},
        {"bar": 0.9, "margins": (0.0,)},
        {"bar": 0.9, "slices": ("",)},
        {"bar": 0.9, "slices": ("a",), "slice_bars": (0.9, 0.8)},
        {"bar": 0.9, "slices": ("a",), "slice_bars": (1.0,)},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=list(wrong)[-1].rstrip("s")):
        GuardSettings(**wrong)
