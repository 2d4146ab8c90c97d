"""Files that are no configuration at all: whatever is in them, the error is clear."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.config import load_config
from cascade.errors import ConfigError
from tests.config_texts import DESIGN, MINIMAL, load, problems

FILES: list[tuple[str | bytes, str]] = [
    ("", "cascade.yaml:1: the file is empty"),
    ("# only a comment\n", "cascade.yaml:1: the file is empty"),
    ("- a\n- b\n", "cascade.yaml:1: expected keys and values at the top, found a list"),
    ("hello", "expected keys and values at the top, found 'hello'"),
    (b"a: 1\nb: \xff\n", "cascade.yaml:2: not UTF-8"),
    ("a: 1\nb: [1\nc: 2\n", "cascade.yaml:3: not valid YAML: column 2"),
    ("a: b: c\n", "cascade.yaml:1: not valid YAML: column 5: mapping values are not allowed here"),
    ("\ta: 1", "cascade.yaml:1: not valid YAML"),
    ("a: 1\nb: \x07", "cascade.yaml:2: not valid YAML: the character U+0007 is not allowed"),
    ('a: "\\UFFFFFFFF"', "cascade.yaml:1: not valid YAML"),
    ("a: 1\n---\nb: 2\n", "not valid YAML"),
    ("a: &x 1\nb: *x\n", "cascade.yaml:2: aliases are not allowed (*x); write the value out"),
    ("a: " + "[" * 60, "nested deeper than 50 levels"),
    ("a: " + "9" * 5000, "a: cannot be read as int"),
    ('models: "\\uD800"\n', "models: holds half of a surrogate pair"),
    ("#" * 1_100_000, "larger than"),
    ("models: m\n", "cascade.yaml:1: nodes: this key is required"),
    ("nodes: {}\n", "nodes: this key is required"),
    ("nodes: {a: }\n", "nodes.a: expected keys and values, found nothing"),
    ("rungs: \nnodes: 1\n", "rungs: expected keys and values, found nothing"),
]


@pytest.mark.parametrize(("text", "fragment"), FILES, ids=range(len(FILES)))
def test_unreadable_files(tmp_path: Path, text: str | bytes, fragment: str) -> None:
    assert fragment in "\n".join(problems(tmp_path, text))


def test_a_missing_file_says_where_and_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "gone" / "cascade.yaml")
    for part in (str(tmp_path / "gone" / "cascade.yaml"), "cascade.yaml in the working folder", "--config"):
        assert part in caught.value.message
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        load_config(tmp_path)


def test_a_hostile_prompt_costs_nothing_to_check(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL.replace("{{ text }}", "{{ 9**9**9 }}"))
    assert (
        "unknown_filter"
        in problems(tmp_path, MINIMAL.replace("{{ text }}", "{{ text | unknown_filter }}"))[0]
    )


fuzz = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


LINE = re.compile(r"cascade\.yaml:\d+: .+")


def only_config_errors(tmp_path: Path, text: str | bytes) -> None:
    try:
        load(tmp_path, text)
        lines = []
    except ConfigError as error:
        lines = error.message.split("\n")
    assert [line for line in lines if not LINE.fullmatch(line)] == []


yamlish = st.text(alphabet=st.sampled_from("ab10:-?[]{},&*!|>%@`'\"#\\U. \n\tn~<=_+e"), max_size=60)


@fuzz
@given(text=st.one_of(st.text(alphabet=st.characters(codec="utf-8")), yamlish, st.binary()))
def test_arbitrary_text_raises_only_config_errors(tmp_path: Path, text: str | bytes) -> None:
    only_config_errors(tmp_path, text)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    return found


PLACES = places(yaml.safe_load(DESIGN))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=8),
    yamlish,
    st.dates(),
)


anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@fuzz
@given(place=st.sampled_from(PLACES), value=anything)
def test_any_value_at_any_key_raises_only_config_errors(
    tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    data = yaml.safe_load(DESIGN)
    section = data
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    only_config_errors(tmp_path, yaml.dump(data))
