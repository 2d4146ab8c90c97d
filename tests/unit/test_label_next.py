import numpy as np

from training.label_next import Candidate, choose, pick, usefulness


def test_what_is_nearest_to_a_coin_toss_is_most_useful_and_disagreement_adds() -> None:
    confidence = np.array([[0.99, 0.99], [0.6, 0.6], [0.99, 0.98]])
    answer = np.array([[1, 1], [1, 1], [1, 2]])
    worth = np.ones_like(answer, dtype=bool)
    score, why = usefulness(confidence, answer, worth, np.full(3, -2), [0.9, 0.9])
    assert score[1] > score[2] > score[0]
    assert "disagree" in why[2]
    assert why[0] == "settled, and nobody has said whether it is right: P(right) 0.99"
    assert why[1] == "the ladder is unsure: P(right) 0.60"


def test_the_teachers_answer_is_doubted_only_where_sure_rungs_all_contradict_it() -> None:
    confidence = np.array([[0.99], [0.99], [0.5]])
    answer, known = np.array([[1], [1], [1]]), np.array([1, 2, 2])
    score, why = usefulness(confidence, answer, np.ones((3, 1), dtype=bool), known, [0.9])
    assert score.tolist()[0] == 0
    assert score[1] > 1
    assert score[2] == 0
    assert "teacher says otherwise" in why[1]


def test_copies_of_one_record_are_asked_about_once() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    assert pick(np.array([1.0, 0.99, 0.5, 0.9]), vectors, 4) == [0, 2, 3]


def test_at_most_n_are_chosen_and_none_that_is_worth_nothing() -> None:
    pool = [Candidate(str(i), f"text {i}", None) for i in range(6)]
    seen = {"confidence": np.full((6, 1), 0.7), "answer": np.zeros((6, 1), dtype=np.int64)}
    vectors = np.eye(6, dtype=np.float32)
    worth = np.ones((6, 1), dtype=bool)
    assert len(choose(pool, seen, worth, [0.9], ["a", "b"], vectors, n=4)) == 4
    assert choose([], seen, worth, [0.9], ["a"], vectors) == []
