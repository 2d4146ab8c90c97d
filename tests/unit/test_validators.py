"""How a certificate names a node's own validators, and what it says when they change."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from cascade.ask import Ask
from cascade.errors import ConfigError
from cascade.validators import _code_of, identity, import_validators, validators_fence
from training.own_validators import Refusals, refusals


class Polite:
    """A validator that is an object."""

    def __call__(self, ask: Ask, value: object) -> bool:
        return "please" in ask.text


def module_of(folder: Path, name: str, code: str) -> types.ModuleType:
    (folder / f"{name}.py").write_text(code)
    sys.modules.pop(name, None)
    _code_of.cache_clear()
    import importlib
    import linecache

    importlib.invalidate_caches()
    linecache.clearcache()
    return importlib.import_module(name)


def test_a_validator_is_named_by_place_and_code_and_comments_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    first = identity(module_of(tmp_path, "rules_a", "def polite(ask, value):\n    return True\n").polite)
    assert first.startswith("rules_a:polite@")
    commented = "# why\ndef polite(ask, value):\n    return True  # always\n"
    assert identity(module_of(tmp_path, "rules_a", commented).polite) == first
    changed = module_of(tmp_path, "rules_a", "def polite(ask, value):\n    return False\n").polite
    assert identity(changed) != first
    assert "rules_a:polite, which is gone or has changed" in validators_fence([first], [changed])


def test_an_object_is_named_by_its_class() -> None:
    assert identity(Polite()).startswith(f"{__name__}:Polite@")


def test_one_that_came_later_is_no_fence_and_one_that_is_gone_is() -> None:
    known = identity(Polite())
    assert validators_fence([], [Polite()]) == ""
    assert validators_fence([known], [Polite()]) == ""
    assert "gone or has changed" in validators_fence([known], [])
    assert "which are gone or have changed" in validators_fence([known, "x:y@1"], [])


def test_what_is_no_validator_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match="'json:nothing'"):
        import_validators("n", ["json:nothing"])
    with pytest.raises(ConfigError, match="is not callable"):
        import_validators("n", ["json:__name__"])


def test_refusals_are_those_of_serving_and_the_same_answer_is_asked_about_once() -> None:
    asked: list[tuple[str, str]] = []

    def no_b(ask: Ask, value: object) -> str | None:
        asked.append((ask.text, str(value)))
        if value == "c":
            raise KeyError(value)
        return "not b" if value == "b" else None

    answers = np.array([[0, 1], [1, 1], [2, -1], [1, 0]])
    asks = [Ask("n", "please"), Ask("n", "please"), Ask("n", "x"), None]
    found = refusals([no_b, Polite()], asks, answers, ["a", "b", "c"])
    assert found.names == ("no_b", "Polite")
    assert found.stops[:, :, 0].tolist() == [[False, True], [True, True], [True, False], [False, False]]
    assert found.stops[:, :, 1].tolist() == [[False, False], [False, False], [True, False], [False, False]]
    assert found.any.tolist() == [[False, True], [True, True], [True, False], [False, False]]
    assert asked == [("please", "a"), ("please", "b"), ("please", "b"), ("x", "c")]
    assert all(micros > 0 for micros in found.micros)


def test_the_first_validator_that_refuses_decides_between_the_next_rung_and_the_teacher() -> None:
    #                      neither         both           the first       the second
    stops = np.array([[[False, False]], [[True, True]], [[True, False]], [[False, True]]])
    found = Refusals(("one", "two"), stops, (0.0, 0.0))
    next_rung, to_teacher = found.by_certificate([True, False])
    assert next_rung[:, 0].tolist() == [False, True, True, False]
    assert to_teacher[:, 0].tolist() == [False, False, False, True]
    next_rung, to_teacher = found.by_certificate([False, True])
    assert next_rung[:, 0].tolist() == [False, False, False, True]
    assert to_teacher[:, 0].tolist() == [False, True, True, False]
    none = Refusals((), stops[:, :, :0], ())
    assert not any(found.any() for found in none.by_certificate([]))
