"""The background of rollouts: a rollback elsewhere waits for one look of the guard at most."""

from types import SimpleNamespace
from typing import Any

import pytest

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
