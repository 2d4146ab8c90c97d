"""Out of scope: a detector learned from held-out labels, and limits chosen before the proof."""

from dataclasses import replace

import numpy as np
import pytest

from cascade.policy.walk import LadderPolicy, LocalRung
from cascade.scope import ANSWER_NAMES, ENCODER_NAMES, HEAD_NAMES, ScopeDetector, scope_features
from training.scope import ScopeFit, choose_limits
from training.thresholds import no_looser


def fitted(n: int, seed: int = 0, gap: float = 3.0) -> tuple[ScopeFit, np.ndarray, np.ndarray]:
    """Make one rung's scores: `gap` is how far in-scope traffic stands above held-out labels."""
    rng = np.random.default_rng(seed)
    right = rng.random((n, 1)) < 0.96
    confidence = np.where(right, rng.beta(12, 1, (n, 1)), rng.beta(4, 2, (n, 1)))
    inside = 1 / (1 + np.exp(-rng.normal(gap, 1, (n, 1))))
    outside = 1 / (1 + np.exp(-rng.normal(0, 1, (n, 1))))
    said = rng.beta(5, 2, (n, 1))
    detector = ScopeDetector((np.zeros(len(ANSWER_NAMES)),), (0.0,))
    return ScopeFit(detector, (0.98,), inside, outside, said), confidence, right


def test_no_share_draws_no_line() -> None:
    fit, confidence, right = fitted(500)
    limits = choose_limits(fit, confidence, right, (1.0,), 0.0, 0.95)
    assert limits.at_least == (0.0,)
    assert limits.level == -np.inf
    assert choose_limits(None, confidence, right, (1.0,), 0.2, 0.95).at_least == (0.0,)


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_with_the_limits_the_bar_holds_on_the_mixture_they_were_chosen_for(share: float) -> None:
    fit, confidence, right = fitted(4000)
    limits = choose_limits(fit, confidence, right, (1.0,), share, 0.95)
    settles = (fit.inside >= limits.at_least) & (confidence >= limits.level)
    lets_in = (fit.outside >= limits.at_least) & (fit.outside_confidence >= limits.level)
    good = (1 - share) * (settles & right).mean()
    assert good / ((1 - share) * settles.mean() + share * lets_in.mean()) >= 0.95
    assert limits.agreement >= 0.95
    assert settles.mean() > 0.5


def test_more_out_of_scope_traffic_settles_less() -> None:
    fit, confidence, right = fitted(4000)
    settled = []
    for share in (0.01, 0.1, 0.3):
        limits = choose_limits(fit, confidence, right, (1.0,), share, 0.95)
        settled.append(((fit.inside >= limits.at_least) & (confidence >= limits.level)).mean())
    assert settled == sorted(settled, reverse=True)
    assert settled[0] > settled[-1]


def test_where_no_limits_keep_the_bar_the_best_are_taken_and_say_so() -> None:
    fit, confidence, right = fitted(1000, gap=0.0)
    sure = replace(fit, outside_confidence=np.ones((1000, 1)))
    limits = choose_limits(sure, confidence, right, (1.0,), 0.8, 0.99)
    assert limits.agreement < 0.99


def test_levels_looser_than_the_limit_settle_nothing() -> None:
    levels = np.array([[0.9, 0.2], [0.5, 0.8]])
    assert no_looser(levels, 0.6).tolist() == [[0.9, -np.inf], [-np.inf, 0.8]]
    assert no_looser(levels, -np.inf).tolist() == levels.tolist()


def test_the_policy_refuses_with_its_own_word_and_as_training_saw_it() -> None:
    policy = LadderPolicy((LocalRung("linear", 0.5, 0.0, 0.3),), certified=True)
    reason = policy.accepts(0, 0.9, in_scope=0.2)
    assert reason is not None
    assert reason.startswith("out-of-scope: ")
    assert policy.accepts(0, 0.9, in_scope=0.3000001) is None
    in_scope = np.array([[0.2], [0.3000001]], dtype=np.float32)
    assert policy.admits(in_scope)[:, 0].tolist() == [False, True]


def test_features_name_their_columns() -> None:
    rng = np.random.default_rng(0)
    request = rng.random((3, 12)).astype(np.float32)
    scores = rng.dirichlet(np.ones(4), 3).astype(np.float32)
    head = rng.random((3, len(HEAD_NAMES))).astype(np.float32)
    assert scope_features(request, scores).shape == (3, len(ANSWER_NAMES))
    assert scope_features(request, scores, scores, head).shape == (3, len(ENCODER_NAMES))


def test_a_texts_value_does_not_depend_on_its_batch_and_survives_the_manifest() -> None:
    rng = np.random.default_rng(1)
    detector = ScopeDetector((rng.normal(size=len(ANSWER_NAMES)), np.empty(0)), (0.3, 0.0))
    detector = ScopeDetector.from_json(detector.to_json())
    request = rng.random((9, 12)).astype(np.float32)
    scores = rng.dirichlet(np.ones(4), 9).astype(np.float32)
    together = detector.in_scope(0, request, scores)
    alone = [detector.in_scope(0, request[i : i + 1], scores[i : i + 1])[0] for i in range(9)]
    assert together.tolist() == alone
    assert detector.in_scope(1, request, scores).tolist() == [1.0] * 9
