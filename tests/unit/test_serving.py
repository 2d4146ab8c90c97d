"""Each request is served by what its own flags and its own place in the rollout say."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cascade.flags import open_flags
from cascade.flags.values import UNSET, NodeFlags
from cascade.rollout.choice import Plan
from cascade.rollout.serving import Serving

OLD, NEW, NAMED = "0001-aaaaaaaa", "0002-bbbbbbbb", "0003-cccccccc"
BUNDLES = {v: SimpleNamespace(version=v, policy=SimpleNamespace(certified=True)) for v in (OLD, NEW, NAMED)}
FLAGS = {
    "": UNSET, "off": NodeFlags("passthrough"), "named": NodeFlags(None, NAMED),
    "live": NodeFlags("live", OLD), "beside": NodeFlags("shadow", NAMED),
}  # fmt: skip


@pytest.fixture
def serving() -> Serving:
    def flags_of(node: str, context: Mapping[str, str], key: str) -> NodeFlags:
        return FLAGS[context.get("flags", "")]

    shelf: Any = SimpleNamespace(versions=lambda: list(BUNDLES), get=BUNDLES.get)
    flags: Any = SimpleNamespace(of=flags_of)
    return Serving("node", shelf, flags)


def served(serving: Serving, flags: str, key: str = "k") -> tuple[str, str | None, str | None]:
    found = serving.of({"flags": flags}, key)
    named = [None if each is None else each.version for each in (found.bundle, found.shadow)]
    return found.mode, named[0], named[1]


def test_requests_of_different_flags_take_turns_and_each_gets_its_own(serving: Serving) -> None:
    serving.adopt(Plan(stable=OLD))
    for _ in range(2):
        assert served(serving, "") == ("live", OLD, None)
        assert served(serving, "off") == ("passthrough", None, None)
        assert served(serving, "named") == ("live", NAMED, None)
        assert served(serving, "live") == ("live", OLD, None)
        assert served(serving, "beside") == ("shadow", None, NAMED)


def test_keys_inside_and_outside_a_candidates_share_get_different_bundles(serving: Serving) -> None:
    serving.adopt(Plan(stable=OLD, candidate=NEW, share=0.5))
    first = [served(serving, "", f"key-{i}")[1] for i in range(50)]
    assert set(first) == {OLD, NEW}
    assert [served(serving, "", f"key-{i}")[1] for i in range(50)] == first
    serving.adopt(Plan(stable=OLD, candidate=NEW, share=1.0))
    assert {served(serving, "", f"key-{i}")[1] for i in range(50)} == {NEW}


BY_PLAN = {"if": [{"==": [{"var": "plan"}, "gold"]}, "live", "passthrough"]}
BY_KEY = {"fractional": [["live", 50], ["passthrough", 50]]}


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize(
    ("rule", "by"),
    [(None, ()), (BY_PLAN, ("plan",)), (BY_KEY, None)],
    ids=["for all", "by context", "by key"],
)
def test_requests_of_a_batch_are_served_as_each_would_be_alone(
    tmp_path: Path, rule: dict[str, Any] | None, by: tuple[str, ...] | None, share: float
) -> None:
    variants = {"live": "live", "passthrough": "passthrough"}
    mode = {"state": "ENABLED", "variants": variants, "defaultVariant": "live"}
    path = tmp_path / "flags.json"
    path.write_text(
        json.dumps({"flags": {"cascade.node.mode": mode | ({} if rule is None else {"targeting": rule})}})
    )
    flags = open_flags(path, ["node"], seconds=0)
    try:
        assert flags.decided_by("node") == by
        shelf: Any = SimpleNamespace(versions=lambda: list(BUNDLES), get=BUNDLES.get)
        serving = Serving("node", shelf, flags)
        serving.adopt(Plan(stable=OLD, candidate=NEW, share=share))
        batch = [({"plan": "gold" if i % 3 else "free"}, f"key-{i}") for i in range(30)]
        alone = [serving.of(*each) for each in batch]
        contexts, keys = zip(*batch, strict=True)
        assert serving.of_each(contexts, keys.__getitem__) == alone
        kinds = {(each.mode, each.bundle and each.bundle.version) for each in alone}
        assert len(kinds) == (1 if rule is None else 2) + (share == 0.5)
    finally:
        flags.close()


def test_a_batch_in_which_flags_begin_to_hang_on_the_context_is_asked_for_each(serving: Serving) -> None:
    serving.adopt(Plan(stable=OLD))
    for before, after in (((), ("flags",)), (("plan",), ("flags",)), (("plan",), None)):
        says = iter([before, after])
        serving.flags.decided_by = lambda _, says=says: next(says)  # type: ignore[method-assign,misc]
        found = serving.of_each([{"flags": "off"}, {"flags": "live"}], "key-{}".format)
        assert [each.mode for each in found] == ["passthrough", "live"]


def test_a_batch_in_which_a_candidate_gets_a_share_is_asked_for_each(serving: Serving) -> None:
    def decided_by(_: str) -> tuple[str, ...]:
        serving.adopt(Plan(stable=OLD, candidate=NEW, share=0.5))
        return ()

    serving.adopt(Plan(stable=OLD))
    serving.flags.decided_by = decided_by  # type: ignore[method-assign]
    found = serving.of_each([{}] * 50, "key-{}".format)
    assert {each.bundle and each.bundle.version for each in found} == {OLD, NEW}
