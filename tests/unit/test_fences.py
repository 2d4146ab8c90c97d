"""Which changes of the configuration fence a bundle off."""

from collections.abc import Callable
from typing import Any

import pytest

from cascade.config import Config
from cascade.fences import Fences, Teacher, teacher_fence, teacher_of
from tests.conftest import NODE

OLD = Teacher("big-1", "a" * 64, "c" * 64)


@pytest.mark.parametrize(
    ("now", "word"),
    [
        (Teacher("big-2", OLD.prompt, OLD.contract), "the model was big-1 and is big-2"),
        (Teacher("big-1", "b" * 64, OLD.contract), "the prompt is another one"),
        (Teacher("big-1", OLD.prompt, "d" * 64), "the labels or the schema of the contract changed"),
        (OLD, ""),
    ],
)
def test_a_changed_model_prompt_or_contract_is_named(now: Teacher, word: str) -> None:
    reason = teacher_fence({"teacher": OLD.to_json()}, now)
    assert word in reason
    assert bool(reason) == bool(word)


def test_a_bundle_that_names_no_teacher_is_fenced() -> None:
    assert "names no teacher" in teacher_fence({"valid": True}, OLD)


def test_the_order_of_labels_is_no_change_and_another_label_is(configure: Callable[..., Config]) -> None:
    def of(contract: Any) -> Teacher:
        return teacher_of(configure(node={"contract": contract}), NODE)

    assert of({"labels": ["a", "b"]}) == of({"labels": ["b", "a"]})
    assert of({"labels": ["a", "b"]}) != of({"labels": ["a", "b", "c"]})
    assert of({"labels": ["a", "b"]}) != of({"labels": "from-traffic"})


def test_fences_go_up_and_down_on_their_own() -> None:
    fences = Fences()
    fences.set("teacher", "the teacher changed")
    fences.set("traffic", "the traffic changed")
    assert fences.reason == "the teacher changed; the traffic changed"
    fences.set("teacher", "")
    assert fences.reason == "the traffic changed"
    assert fences.has("traffic")
    assert not fences.has("teacher")
