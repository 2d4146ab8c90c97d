"""The background of rollouts: a rollback elsewhere waits for one look of the guard at most."""

from types import SimpleNamespace
from typing import Any

import pytest

from cascade.policy.alarms import Place
from cascade.rollout import watch as module
from cascade.rollout.choice import Plan
from cascade.rollout.watch import Watch


@pytest.mark.parametrize(("seconds_a_look", "follows"), [(0.01, 1), (0.3, 2), (5.0, 4)])
def test_the_shared_state_is_read_on_time_however_many_nodes_are_judged(
    monkeypatch: pytest.MonkeyPatch, seconds_a_look: float, follows: int
) -> None:
    clock = SimpleNamespace(now=0.0)
    done: list[str] = []

    def look(node: str, *_: Any) -> list[Any]:
        done.append(node)
        clock.now += seconds_a_look
        return []

    def poll() -> set[str]:
        done.append("follow")
        return set()

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    nothing: Any = lambda *_: ""  # noqa: E731
    parts: Any = SimpleNamespace(
        follower=SimpleNamespace(poll=poll, known=True, state=lambda _: SimpleNamespace(barred=())),
        judge=SimpleNamespace(look=look),
        alarms=SimpleNamespace(look=lambda *_: {}),
        board=SimpleNamespace(tell=nothing),
        servings={node: SimpleNamespace(bundles={}, plan=Plan()) for node in "abcd"},
    )
    Watch(
        parts.follower, parts.judge, parts.alarms, parts.board, parts.servings, nothing, nothing, nothing,
        nothing, 0.5,
    ).round()  # fmt: skip
    assert [node for node in done if node != "follow"] == list("abcd")
    assert done[0] == "follow"
    assert done.count("follow") == follows
    if follows == 4:
        assert done == ["follow", "a", "follow", "b", "follow", "c", "follow", "d"]


def places(**spare: Any) -> dict[str, Place]:
    """Say what two bundles are to a node, of which the one that could take the other's place is so."""
    good = {"certified": True, "too_dear": False, "fence": ""}

    def bundle(version: str, certified: bool, too_dear: bool, fence: str) -> Any:
        return SimpleNamespace(
            version=version,
            policy=SimpleNamespace(certified=certified, too_dear=too_dear),
            fences=SimpleNamespace(reason=fence),
        )

    bundles = {"2": bundle("2", **good), "1": bundle("1", **good | spare)}
    servings: Any = {"n": SimpleNamespace(bundles=bundles, plan=Plan(stable="2", spare="1"))}
    nothing: Any = None
    watch = Watch(
        nothing, nothing, nothing, nothing, servings, nothing, nothing, nothing, nothing, 0.5
    )  # fmt: skip
    return watch._places("n")


def test_a_bundle_is_replaceable_by_one_that_settles_something_only() -> None:
    assert places() == {"2": Place.REPLACEABLE, "1": Place.REPLACEABLE}
    # An alarm would pull a good bundle back, and the teacher would answer all.
    for spare in ({"fence": "the traffic changed"}, {"certified": False}, {"too_dear": True}):
        assert places(**spare)["2"] is Place.ALONE, spare
