"""Who serves a request: the guard before flags, flags before the rollout."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cascade.flags import MODES, UNSET, NodeFlags
from cascade.rollout.choice import Choice, Plan, bucket, choose

OLD, NEW, OTHER = "0001-aaaaaaaa", "0002-bbbbbbbb", "0003-cccccccc"
ALL = frozenset({OLD, NEW, OTHER})
CANARY = Plan(stable=OLD, candidate=NEW, share=0.25)


def test_without_rollout_and_flags_the_stable_bundle_serves_all_and_without_one_the_teacher() -> None:
    assert choose(Plan(stable=OLD), UNSET, ALL, 0.5) == Choice("live", OLD)
    assert choose(Plan(), UNSET, ALL, 0.5) == Choice("passthrough")
    assert choose(Plan(stable=OLD), UNSET, frozenset(), 0.5) == Choice("passthrough")


def test_a_canary_gets_its_share_and_the_stable_bundle_the_rest() -> None:
    assert choose(CANARY, UNSET, ALL, 0.2499) == Choice("live", NEW)
    assert choose(CANARY, UNSET, ALL, 0.25) == Choice("live", OLD)
    assert choose(replace(CANARY, stable=""), UNSET, ALL, 0.25) == Choice("passthrough")


def test_in_shadow_the_candidate_runs_beside_whoever_answers() -> None:
    shadow = Plan(stable=OLD, candidate=NEW, shadow=True)
    assert choose(shadow, UNSET, ALL, 0.0) == Choice("live", OLD, NEW)
    assert choose(replace(shadow, stable=""), UNSET, ALL, 0.0) == Choice("shadow", shadow=NEW)


def test_an_explicit_flag_wins_over_the_rollout() -> None:
    assert choose(CANARY, NodeFlags("passthrough"), ALL, 0.0) == Choice("passthrough")
    assert choose(CANARY, NodeFlags("shadow"), ALL, 0.0) == Choice("shadow", shadow=NEW)
    assert choose(CANARY, NodeFlags("shadow", OTHER), ALL, 0.0) == Choice("shadow", shadow=OTHER)
    assert choose(CANARY, NodeFlags(None, OTHER), ALL, 0.0) == Choice("live", OTHER)
    assert choose(CANARY, NodeFlags("live", OLD), ALL, 0.0) == Choice("live", OLD)
    assert choose(Plan(candidate=NEW, shadow=True), NodeFlags("live"), ALL, 0.0) == Choice("live", NEW)


def test_the_guard_wins_over_flags() -> None:
    pulled = Plan(stable=OLD, barred=frozenset({NEW}))
    choice = choose(pulled, NodeFlags("live", NEW), ALL, 0.0)
    assert (choice.mode, choice.bundle) == ("live", OLD)
    assert "rolled back" in choice.overruled
    nothing_left = Plan(barred=frozenset({NEW}))
    assert choose(nothing_left, NodeFlags("live", NEW), ALL, 0.0).mode == "passthrough"


def test_a_flag_that_names_a_bundle_that_is_not_there_leaves_the_last_good_one() -> None:
    choice = choose(CANARY, NodeFlags("live", "0009-ffffffff"), ALL, 0.9)
    assert (choice.mode, choice.bundle) == ("live", OLD)
    assert "not there" in choice.overruled


def test_until_the_shared_state_is_known_the_teacher_answers_whatever_flags_say() -> None:
    for mode in MODES:
        assert choose(Plan(known=False, stable=OLD), NodeFlags(mode, NEW), ALL, 0.0) == Choice("passthrough")


VERSIONS = st.sampled_from(["", OLD, NEW, OTHER])
PLANS = st.builds(
    Plan, VERSIONS, VERSIONS, st.sampled_from([0.0, 0.01, 0.25, 1.0]), st.booleans(),
    st.frozensets(st.sampled_from([OLD, NEW, OTHER])), st.just(""), st.just(0), st.booleans(),
)  # fmt: skip
FLAGS = st.builds(NodeFlags, st.sampled_from([None, *MODES]), st.sampled_from([None, OLD, NEW, OTHER, "x"]))


@given(PLANS, FLAGS, st.frozensets(st.sampled_from([OLD, NEW, OTHER])), st.floats(0, 1, exclude_max=True))
def test_whatever_happens_only_what_is_there_and_not_barred_is_run(
    plan: Plan, flags: NodeFlags, available: frozenset[str], place: float
) -> None:
    choice = choose(plan, flags, available, place)
    for version in (choice.bundle, choice.shadow):
        assert version == "" or (version in available and version not in plan.barred)
    assert (choice.mode == "live") == bool(choice.bundle)
    assert choice.mode != "shadow" or choice.shadow
    if flags.mode in ("passthrough", "shadow"):
        assert not choice.bundle


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_with_a_rising_share_a_key_that_is_on_the_candidate_stays_on_it(key: str, a: float, b: float) -> None:
    low, high = sorted((a, b))
    place = bucket("node", NEW, key)
    assert 0 <= place < 1
    assert not (place < low and not place < high)


def test_buckets_are_even_and_other_candidates_deal_anew() -> None:
    one = [bucket("node", NEW, f"session-{i}") for i in range(4000)]
    assert abs(sum(p < 0.25 for p in one) / 4000 - 0.25) < 0.03
    other = [bucket("node", OTHER, f"session-{i}") for i in range(4000)]
    both = sum(p < 0.25 and q < 0.25 for p, q in zip(one, other, strict=True)) / 4000
    assert abs(both - 0.0625) < 0.02
