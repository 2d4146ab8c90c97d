"""Flags: what they say about a request, what is cached, and what a bad source costs."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openfeature.contrib.tools.flagd.core.targeting import targeting
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import GeneralError
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from cascade.errors import ConfigError
from cascade.flags import UNSET, FlagdFileProvider, Flags, NodeFlags, open_flags
from cascade.flags.named import FlagsNamed, named_in_file, named_in_force
from cascade.flags.targeting import dependencies_of
from tests.soon import comes

MODE, BUNDLE = "cascade.node.mode", "cascade.node.bundle"


def flag(*values: str, default: str | None = None, rule: Any = None, **more: Any) -> dict[str, Any]:
    made = {"state": "ENABLED", "variants": {value: value for value in values}, **more}
    made["defaultVariant"] = default if default is not None or rule is not None else values[0]
    return made | ({"targeting": rule} if rule is not None else {})


class File:
    """A flag file, and the flags opened on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.flags: Flags | None = None

    def write(self, **flags: Any) -> None:
        self.write_text(json.dumps({"flags": {key.replace("_", "."): value for key, value in flags.items()}}))

    def write_text(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.path)
        if self.flags is not None:
            self.look()

    def open(self) -> Flags:
        self.flags = open_flags(self.path, ["node", "other"], seconds=0)
        self.told = 1  # that the provider is ready
        self.quiet()
        return self.flags

    def look(self) -> bool:
        assert self.flags is not None
        assert isinstance(self.flags.provider, FlagdFileProvider)
        recovers = bool(self.flags.provider.problem)
        changed = self.flags.provider.look()
        self.told += changed + (changed and recovers)
        self.quiet()
        return changed

    def quiet(self) -> None:
        """Wait until the SDK has told of everything, which it does in threads of its own."""
        assert self.flags is not None
        counts = self.flags.counts
        assert comes(lambda: counts.changes >= self.told)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    made = File(tmp_path / "flags.json")
    yield made
    if made.flags is not None:
        made.flags.close()


def test_without_a_file_no_flag_says_anything_and_one_that_appears_is_taken(file: File) -> None:
    flags = file.open()
    assert flags.of("node", {}, "a") == UNSET
    file.write(cascade_node_mode=flag("shadow"))
    assert flags.of("node", {}, "a") == NodeFlags("shadow", None)
    assert flags.of("other", {}, "a") == UNSET


def test_a_flag_targets_tenant_session_and_any_key_of_the_context(file: File) -> None:
    rule = {
        "if": [
            {"==": [{"var": "tenant"}, "acme"]}, "live",
            {"==": [{"var": "session"}, "s-1"]}, "shadow",
            {"starts_with": [{"var": "region"}, "eu-"]}, "shadow",
        ]
    }  # fmt: skip
    file.write(
        cascade_node_mode=flag("live", "shadow", "passthrough", default="passthrough", rule=rule),
        cascade_node_bundle=flag("0001-aaaaaaaa"),
    )
    flags = file.open()

    def mode(**context: str) -> str | None:
        return flags.of("node", context, "key").mode

    assert mode(tenant="acme") == "live"
    assert mode(tenant="other", session="s-1") == "shadow"
    assert mode(region="eu-west") == "shadow"
    assert mode(region="us") == mode() == "passthrough"
    assert flags.of("node", {"tenant": "acme"}, "key").bundle == "0001-aaaaaaaa"
    assert flags.bundles("node") == {"0001-aaaaaaaa"}


def test_percentages_are_sticky_by_the_targeting_key_and_about_right(file: File) -> None:
    file.write(
        cascade_node_mode=flag(
            "live", "passthrough", default="passthrough",
            rule={"fractional": [["live", 25], ["passthrough", 75]]},
        )
    )  # fmt: skip
    flags = file.open()
    first = [flags.of("node", {"n": str(i)}, f"session-{i}").mode for i in range(800)]
    again = [flags.of("node", {"n": "x"}, f"session-{i}").mode for i in range(800)]
    assert first == again
    assert 140 < first.count("live") < 260


def test_a_constant_flag_is_evaluated_once_and_a_targeted_one_once_for_what_it_depends_on(file: File) -> None:
    file.write(cascade_node_mode=flag("live"))
    flags = file.open()
    asked = flags.counts.evaluated
    for i in range(50):
        flags.of("node", {"tenant": f"t{i}"}, f"k{i}")
    assert flags.counts.evaluated == asked
    rule = {"if": [{"in": [{"var": "tenant"}, ["t1", "t2"]]}, "live"]}
    file.write(cascade_node_mode=flag("live", "passthrough", default="passthrough", rule=rule))
    asked = flags.counts.evaluated
    for i in range(60):
        expected = "live" if i % 3 else "passthrough"
        assert flags.of("node", {"tenant": f"t{i % 3}", "noise": f"{i}"}, f"k{i}").mode == expected
    assert flags.counts.evaluated == asked + 3


def test_a_rule_on_the_time_is_asked_each_time(file: File) -> None:
    rule = {"if": [{">": [{"var": "$flagd.timestamp"}, 0]}, "live"]}
    file.write(cascade_node_mode=flag("live", "passthrough", default="passthrough", rule=rule))
    flags = file.open()
    asked = flags.counts.evaluated
    assert [flags.of("node", {}, "k").mode for _ in range(3)] == ["live"] * 3
    assert flags.counts.evaluated == asked + 3


def test_no_more_evaluations_are_kept_than_the_limit(file: File) -> None:
    rule = {"if": [{"==": [{"var": "tenant"}, "a"]}, "live"]}
    file.write(cascade_node_mode=flag("live", "passthrough", default="passthrough", rule=rule))
    provider = FlagdFileProvider(file.path, lambda _: None, seconds=0)
    flags = Flags(provider, ["node"], size=10)
    assert comes(lambda: flags.counts.changes == 1)  # that the provider is ready: all evaluations begin anew
    for i in range(100):
        flags.of("node", {"tenant": f"t{i}"}, "k")
    assert len(flags._view.kept) == 10
    flags.close()


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "",
        "[]",
        '{"flags": 3}',
        json.dumps({"flags": {MODE: flag("lvie")}}),
        json.dumps({"flags": {MODE: flag("live") | {"state": "ON"}}}),
        json.dumps({"flags": {BUNDLE: flag("a") | {"variants": {"a": 7}}}}),
        json.dumps({"flags": {MODE: flag("live", default="nowhere")}}),
    ],
)
def test_a_garbled_file_leaves_the_last_good_flags_and_is_loud(
    file: File, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    file.write(cascade_node_mode=flag("shadow"))
    flags = file.open()
    file.write_text(bad)
    assert flags.of("node", {}, "k").mode == "shadow"
    assert isinstance(flags.provider, FlagdFileProvider)
    assert flags.provider.failures == 1
    assert flags.provider.problem in caplog.text
    assert not file.look()
    assert flags.provider.failures == 1, "one bad file is one failure"
    file.write(cascade_node_mode=flag("live"))
    assert flags.provider.problem == ""
    assert flags.of("node", {}, "k").mode == "live"


def test_a_file_that_is_not_there_and_flags_that_are_taken_are_told(
    file: File, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file.open()
    assert f"there is no flag file {file.path}: no flags" in caplog.text
    file.write(cascade_node_mode=flag("shadow"))
    assert f"{file.path}: these flags are in force: {MODE}" in caplog.text


def test_a_disabled_flag_is_not_called_in_force(file: File, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    file.write(cascade_node_mode=flag("shadow", state="DISABLED"))
    assert file.open().of("node", {}, "k").mode != "shadow"
    assert f"flag file {file.path}: these flags are in force: none" in caplog.text


def test_a_flag_of_a_misspelt_node_is_warned_of_and_not_called_in_force(
    file: File, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file.write(cascade_node_mode=flag("shadow"), cascade_nde_mode=flag("passthrough"), other_thing=flag("x"))
    flags = file.open()
    assert flags.of("node", {}, "k").mode == "shadow"
    assert f"these flags are in force: {MODE}, other.thing\n" in caplog.text
    said = f"cascade.nde.mode is no flag of a node here; did you mean {MODE!r}?"
    (warned,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert said in warned.getMessage()
    nodes = ["node", "other"]
    for found in (named_in_file(file.path, nodes, "node"), named_in_force(flags.provider, "node")):  # type: ignore[arg-type]
        assert found == FlagsNamed([MODE], f"{file.path}: {said}")
    file.write(cascade_node_mode=flag("shadow"))
    assert named_in_force(flags.provider, "node").problem == ""  # type: ignore[arg-type]


def test_a_pipe_in_the_place_of_the_file_stops_nobody(file: File) -> None:
    file.write(cascade_node_mode=flag("shadow"))
    flags = open_flags(file.path, ["node"], seconds=0.02)
    try:
        assert isinstance(flags.provider, FlagdFileProvider)
        file.path.unlink()
        os.mkfifo(file.path)
        assert comes(lambda: "no regular file" in flags.provider.problem)  # type: ignore[union-attr]
        assert "no regular file" in named_in_file(file.path, ["node"], "node").problem
        assert flags.of("node", {}, "k").mode == "shadow"
        file.write(cascade_node_mode=flag("live"))
        assert comes(lambda: flags.of("node", {}, "k").mode == "live")
    finally:
        flags.close()


def test_a_file_that_goes_away_leaves_the_last_good_flags(file: File) -> None:
    file.write(cascade_node_mode=flag("shadow"))
    flags = file.open()
    file.path.unlink()
    assert not file.look()
    assert flags.of("node", {}, "k").mode == "shadow"
    assert isinstance(flags.provider, FlagdFileProvider)
    assert flags.provider.problem == "the file is gone"
    file.write(cascade_node_mode=flag("shadow"))
    assert flags.provider.problem == ""


def test_a_changed_file_is_noticed_without_being_asked(file: File) -> None:
    file.write(cascade_node_mode=flag("shadow"))
    flags = open_flags(file.path, ["node"], seconds=0.02)
    try:
        assert flags.of("node", {}, "k").mode == "shadow"
        file.write(cascade_node_mode=flag("live"))
        assert comes(lambda: flags.of("node", {}, "k").mode == "live")
    finally:
        flags.close()


def vendor() -> InMemoryProvider:
    return InMemoryProvider(
        {MODE: InMemoryFlag("on", {"on": "shadow"}), BUNDLE: InMemoryFlag("v", {"v": "0002-bbbbbbbb"})}
    )


def no_provider() -> str:
    return "nothing"


def broken() -> None:
    raise RuntimeError("no licence")


def test_a_vendors_provider_is_named_in_the_configuration(tmp_path: Path) -> None:
    flags = open_flags(tmp_path / "none.json", ["node"], f"{__name__}:vendor")
    assert comes(lambda: flags.of("node", {}, "k") == NodeFlags("shadow", "0002-bbbbbbbb"))
    assert flags.bundles("node") == {"0002-bbbbbbbb"}
    assert flags.of("node", {}, "k") == NodeFlags("shadow", "0002-bbbbbbbb")
    flags.close()


@pytest.mark.parametrize(
    ("named", "why"),
    [("no_provider", "no OpenFeature provider"), ("broken", "no licence"), ("missing", "missing")],
)
def test_a_provider_that_is_none_is_refused_at_the_start(tmp_path: Path, named: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        open_flags(tmp_path / "none.json", ["node"], f"{__name__}:{named}")


class Flaky(InMemoryProvider):
    down = False

    def resolve_string_details(self, *args: Any, **kwargs: Any) -> FlagResolutionDetails[str]:
        if self.down:
            raise GeneralError("connection refused")
        return super().resolve_string_details(*args, **kwargs)


def test_a_vendor_that_fails_gives_each_request_its_last_good_value_or_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = Flaky(vendor()._flags)
    flags = Flags(provider, ["node"], vendor_seconds=0.0)
    assert comes(lambda: flags.of("node", {"tenant": "a"}, "k").mode == "shadow")
    provider.down = True
    failed = flags.counts.failed
    assert flags.of("node", {"tenant": "a"}, "k").mode == "shadow"
    assert flags.of("node", {"tenant": "never seen"}, "k") == UNSET
    assert flags.counts.failed == failed + 2
    assert "connection refused" in caplog.text
    flags.close()


NAMES = st.sampled_from(["tenant", "session", "plan", "targetingKey"])
LEAVES = st.one_of(
    st.sampled_from(["a", "b", "live"]),
    st.builds(lambda name: {"var": name}, NAMES),
    st.builds(lambda name: {"var": [name, "a"]}, NAMES),
    st.just({"fractional": [["a", 1], ["b", 1]]}),
    st.builds(lambda name: {"fractional": [{"cat": [{"var": name}, "x"]}, ["a", 1], ["b", 2]]}, NAMES),
)  # fmt: skip
RULES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a, b, c: {"if": [{"==": [a, b]}, c, a]}, inner, inner, inner),
        st.builds(lambda a, b: {"and": [a, b]}, inner, inner),
        st.builds(lambda a: {"in": [a, ["a", "b"]]}, inner),
        st.builds(lambda a, b: {"cat": [a, b]}, inner, inner),
    ),
    max_leaves=8,
)
VALUES = st.dictionaries(st.sampled_from(["tenant", "session", "plan"]), st.sampled_from(["a", "b", "c"]))


@given(RULES, VALUES, VALUES, st.sampled_from(["k1", "k2", "k3"]), st.sampled_from(["k1", "k2", "k3"]))
@settings(max_examples=300)
def test_requests_that_agree_on_what_a_rule_depends_on_get_the_same_value(
    rule: Any, one: dict[str, str], two: dict[str, str], key_one: str, key_two: str
) -> None:
    depends = dependencies_of(rule)
    if not depends.all_keys:
        two = two | {k: one[k] for k in depends.keys & one.keys()}
        two = {k: v for k, v in two.items() if k not in depends.keys or k in one}
    else:
        two = one
    if depends.targeting_key:
        key_two = key_one
    if not isinstance(rule, dict):
        return
    first = targeting("flag", rule, EvaluationContext(key_one, dict(one)))
    assert first == targeting("flag", rule, EvaluationContext(key_two, dict(two)))
