"""Who follows the shared state misses nothing of it, whatever one read of it is like."""

from typing import Any

import pytest

from cascade.rollout import follow as module
from cascade.rollout.follow import Follower
from cascade.rollout.state import Event


class Shared:
    """A store whose heads name both nodes; events are those that it is given."""

    def __init__(self, *nodes: str) -> None:
        self.generation = 0
        self.nodes = list(nodes)

    def heads(self) -> dict[str, int]:
        return {"a": 1, "b": 1}

    def events(self, node: str, after: int) -> list[Event]:
        event = Event(node, 1, 1e9, "ada", "start", "because", "0002-b", {"stable": "0001-a"})
        return [event] if node in self.nodes and after == 0 else []


def following(shared: Shared) -> Follower:
    store: Any = shared
    return Follower(store, ["a", "b"])


def test_a_node_whose_events_are_gone_keeps_nobody_from_those_of_the_others() -> None:
    shared = Shared("b")
    follower = following(shared)
    assert follower.poll() == {"a", "b"}, "the first time all are new"
    assert follower.known
    assert [follower.state(node).seq for node in "ab"] == [0, 1]
    assert follower.poll() == set()
    shared.nodes.append("a")
    assert follower.poll() == {"a"}
    assert [follower.state(node).seq for node in "ab"] == [1, 1]


def test_what_was_not_taken_in_to_its_end_is_all_new_to_the_next_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower = following(Shared("a", "b"))

    def broken(*_: Any) -> Any:
        raise RuntimeError("whatever it is")

    with monkeypatch.context() as patched:
        patched.setattr(module, "fold", broken)
        with pytest.raises(RuntimeError):
            follower.poll()
    assert not follower.known
    assert follower.poll() == {"a", "b"}
