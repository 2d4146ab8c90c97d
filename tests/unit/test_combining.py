"""Flat combining: callers who wait are served together, and each gets its own part or the error."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cascade.rungs.combining import Combining
from cascade.rungs.protocol import NobodyWaits


class Model:
    """Gives the length of each text; can be held up, and keeps the sizes of its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.entered, self.go = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        self.batches.append(len(texts))
        self.entered.set()
        assert self.go.wait(10)
        if "bad" in texts:
            raise ValueError("bad")
        return np.array([len(text) for text in texts])


def crowd(model: Model, combined: Combining[NDArray[np.int64]], asked: list[list[str]]) -> list[object]:
    """Ask once the model is held up by a first caller, so that all the others wait; give what each got."""
    model.go.clear()

    def ask(texts: list[str]) -> object:
        try:
            return combined(texts).tolist()
        except (ValueError, NobodyWaits) as error:
            return error

    with ThreadPoolExecutor(len(asked) + 1) as pool:
        first = pool.submit(ask, ["first"])
        assert model.entered.wait(10)
        futures = [pool.submit(ask, texts) for texts in asked]
        while len(combined._queue) < len(asked):
            threading.Event().wait(0.001)
        model.go.set()
        assert first.result() == [5]
        return [future.result() for future in futures]


def test_who_asks_an_idle_model_is_served_alone() -> None:
    model = Model()
    combined = Combining(model)
    assert combined(["a", "bb"]).tolist() == [1, 2]
    assert combined(["ccc"]).tolist() == [3]
    assert model.batches == [2, 1]


def test_those_who_wait_are_served_together_and_each_gets_its_own() -> None:
    model = Model()
    asked = [["x" * n] * (n % 3 + 1) for n in range(1, 9)]
    got = crowd(model, Combining(model), asked)
    assert got == [[len(text) for text in texts] for texts in asked]
    assert model.batches == [1, sum(map(len, asked))]


def test_a_batch_has_at_most_so_many_texts_unless_one_caller_brings_more() -> None:
    model = Model()
    got = crowd(model, Combining(model, max_batch=4), [["a"] * 3, ["b"] * 3, ["c"] * 9, ["d"]])
    assert got == [[1] * 3, [1] * 3, [1] * 9, [1]]
    assert sorted(model.batches) in ([1, 1, 3, 3, 9], [1, 3, 4, 9])


def test_what_nobody_waits_for_any_more_when_its_turn_comes_is_left_out() -> None:
    model = Model()
    combined = Combining(model)

    class Asking:
        """Asks as a rung does; of some texts nobody waits for the answer."""

        _queue = combined._queue

        def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
            places, results = combined.of_awaited(texts, lambda place: texts[place] not in ("bb", "x"))
            assert [texts[place] for place in places] == [text for text in texts if text not in ("bb", "x")]
            return results

    asking: Any = Asking()
    got = crowd(model, asking, [["a", "ccc"], ["bb", "dddd", "x"], ["bb"], ["eeeee"]])
    assert got[:2] == [[1, 3], [4]]
    assert isinstance(got[2], NobodyWaits)
    assert got[3] == [5]
    assert model.batches == [1, 4]
    with pytest.raises(NobodyWaits):
        combined.of_awaited(["x"], lambda _: False)
    assert model.batches == [1, 4]


def test_an_error_reaches_everybody_of_the_batch_and_nobody_after_it() -> None:
    model = Model()
    combined = Combining(model)
    got = crowd(model, combined, [["bad"], ["good"]])
    assert all(isinstance(each, ValueError) for each in got)
    assert combined(["good"]).tolist() == [4]
    with pytest.raises(ValueError, match="bad"):
        combined(["bad"])
