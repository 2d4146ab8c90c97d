"""The loop on real traffic: due, trained, compared, rolled out or told why not."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cascade.config import Config
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.state import Event
from cascade.rollout.verbs import Verbs
from cascade.server.node import Encoders
from cascade.traffic import TrafficStore, open_store
from cascade.traffic.records import Labelled
from tests.conftest import NODE, ROOT

sklearn = pytest.importorskip("sklearn", reason="the extra train is not installed")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TrafficStore]:
    opened = open_store(f"sqlite:///{tmp_path}/traffic.db")
    yield opened
    opened.close()


def labelled(n: int, first: int = 0) -> list[Labelled]:
    import json

    lines = (ROOT / "examples" / "sample" / f"{NODE}.jsonl").read_text().splitlines()[first : first + n]
    found = [json.loads(line) for line in lines]
    base = time.time() - 86_400
    return [
        Labelled(NODE, r["id"], r.get("text"), None, r["label"], None, base + first + i)
        for i, r in enumerate(found)
    ]


def test_a_node_is_trained_when_due_and_its_rollout_begins_once(
    configure: Callable[..., Config], store: TrafficStore, tmp_path: Path
) -> None:
    from training.loop import turn, why_due

    node = {"ladder": ["linear", "frontier"], "bar": {"agreement": 0.75, "confidence": 0.9}}
    config = configure(node=node, loop={"new_records": 100, "percent": 5})
    assert why_due(config, store, NODE, time.time()) == []
    store.import_labelled(labelled(600))
    (why,) = why_due(config, store, NODE, time.time())
    assert why.startswith("first: 600")
    done = turn(config, store, NODE)
    assert done.started, done.why
    assert done.smallest == ("linear",)
    assert done.sizes[0].bytes > 10_000
    verbs = Verbs(config, DatabaseRolloutStore(store))
    found = verbs.describe(NODE)
    assert (found["candidate"], found["percent"]) == (done.version, 5)
    assert verbs.history(NODE)[-1].who == "loop"
    # Nothing new: nothing is done.
    again = turn(config, store, NODE)
    assert (again.due, again.started, again.why) == ([], False, "nothing is due")
    # More traffic: trained anew and compared with what is on its way.
    fresh = [Labelled(r.node, r.id, r.text, None, r.output, None, time.time() + i / 1e3)
             for i, r in enumerate(labelled(150, 600))]  # fmt: skip
    store.import_labelled(fresh)
    (why,) = why_due(config, store, NODE, time.time())
    assert why.startswith("new: 150")
    more = turn(config, store, NODE)
    assert more.comparison is not None
    assert more.comparison.n > 50
    assert more.version != done.version
    assert not more.started  # either no better, or another rollout is under way: both say so
    assert "chance" in more.why or "worse" in more.why or "is under way" in more.why


def test_a_bundle_whose_traffic_changed_is_due_for_another_and_counts_as_settling_nothing(
    configure: Callable[..., Config], store: TrafficStore
) -> None:
    from training.loop import turn, why_due

    node = {"ladder": ["linear", "frontier"], "bar": {"agreement": 0.75, "confidence": 0.9}}
    config = configure(node=node, loop={"new_records": 100_000, "percent": 100})
    store.import_labelled(labelled(600))
    serving = turn(config, store, NODE).version
    rollouts = DatabaseRolloutStore(store)
    assert why_due(config, store, NODE, time.time()) == []
    seq = Verbs(config, rollouts).state(NODE).seq
    assert rollouts.append(Event(NODE, seq + 1, time.time(), "live", "fence", "the traffic changed", serving))
    config = configure(node=node, loop={"new_records": 400, "percent": 100})
    store.import_labelled(
        [Labelled(r.node, r.id, r.text, None, r.output, None, time.time() + i / 1e3)
         for i, r in enumerate(labelled(150, 600))]
    )  # fmt: skip
    (why,) = why_due(config, store, NODE, time.time())
    assert why.startswith("fence: the traffic changed")
    done = turn(config, store, NODE)
    assert done.comparison is not None
    assert done.comparison.settled_before == 0.0
    assert done.why.startswith("better: ")


def test_several_nodes_share_one_encoder(configure: Callable[..., Config]) -> None:
    open_encoder = Encoders(configure())
    assert open_encoder("encoder")[0] is open_encoder("encoder")[0]
