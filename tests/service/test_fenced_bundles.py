"""Every fence fires: what a certificate does not speak about is not settled, and the reason is seen."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.ask import Ask, Decided
from cascade.config import Config
from cascade.errors import RolloutRefused
from cascade.manifest import MANIFEST, content_hash
from cascade.pointer import POINTER
from cascade.policy.slices import SliceRules
from cascade.rollout.verbs import Verbs
from cascade.rungs.breaker import CircuitBreaker
from cascade.server import exchangeability
from cascade.server.engine import Engine
from cascade.standing import standing
from cascade.traffic import TrafficStore, open_store
from tests.conftest import NODE

Start = Callable[..., Engine]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TrafficStore]:
    opened = open_store(f"sqlite:///{tmp_path}/traffic.db")
    yield opened
    opened.close()


@pytest.fixture
def start(models: Path, configure: Callable[..., Config], store: TrafficStore) -> Iterator[Start]:
    engines: list[Engine] = []

    def make(**overrides: Any) -> Engine:
        engines.append(Engine(configure(**overrides), store, refresh_seconds=0))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def decide(engine: Engine, unseen: list[dict[str, Any]], n: int = 30, **more: Any) -> list[Decided]:
    return [engine.decide(Ask(NODE, record["text"], **more)) for record in unseen[:n]]


def loaded(engine: Engine) -> Any:
    bundle = engine.nodes[NODE].bundle
    assert bundle is not None
    return bundle


def fence_slices(engine: Engine, rules: SliceRules) -> None:
    bundle = loaded(engine)
    object.__setattr__(bundle, "policy", replace(bundle.policy, slices=rules))


def assert_fenced(engine: Engine, decided: list[Decided], words: str) -> None:
    """The bundle is loaded, nothing settles from it, and attempts and start lines say why."""
    assert words in loaded(engine).fences.reason
    assert words in engine.nodes[NODE].trouble
    assert {d.rung for d in decided} == {"frontier"}
    for d in decided:
        local = [a for a in d.attempts if a.rung != "frontier"]
        assert [a.rung for a in local] == ["linear", "encoder"]
        assert all(a.reason.startswith("uncertified: ") and words in a.reason for a in local)


def test_with_nothing_changed_no_fence_is_up(start: Start, unseen: list[dict[str, Any]]) -> None:
    engine = start()
    assert loaded(engine).fences.reason == ""
    assert engine.nodes[NODE].trouble == ""
    assert {d.rung for d in decide(engine, unseen)} > {"linear"}


def test_a_changed_teacher_model_fences_the_bundle_off(start: Start, unseen: list[dict[str, Any]]) -> None:
    engine = start(chat={"model": "another-frontier"})
    words = "the model was simulated-frontier and is another-frontier"
    assert_fenced(engine, decide(engine, unseen), words)


def test_a_changed_prompt_fences_the_bundle_off(start: Start, unseen: list[dict[str, Any]]) -> None:
    engine = start(node={"prompt": "Say which intent this is: {{ text }}"})
    assert_fenced(engine, decide(engine, unseen), "the teacher changed: the prompt is another one")


def test_a_changed_label_set_fences_the_bundle_off(
    start: Start, shipped: Path, unseen: list[dict[str, Any]]
) -> None:
    labels = json.loads((shipped / MANIFEST).read_text())["contract"]["labels"]
    engine = start(node={"contract": {"labels": [*labels, "something_new"]}})
    assert_fenced(engine, decide(engine, unseen), "the labels or the schema of the contract changed")


def test_a_bundle_that_names_no_teacher_is_fenced_off(
    start: Start, models: Path, shipped: Path, unseen: list[dict[str, Any]]
) -> None:
    manifest = json.loads((shipped / MANIFEST).read_text())
    del manifest["certificate"]["teacher"]
    manifest["version"] = f"0009-{content_hash(manifest)[:8]}"
    folder = models / NODE / manifest["version"]
    shutil.copytree(shipped, folder)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (models / NODE / POINTER).write_text(folder.name + "\n")
    engine = start()
    assert_fenced(engine, decide(engine, unseen), "the bundle names no teacher")


def test_traffic_that_changed_fences_the_bundle_off_for_all_until_a_person_starts_it_again(
    start: Start, store: TrafficStore, models: Path, configure: Callable[..., Config],
    unseen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(exchangeability, "WINDOW_SECONDS", 1.0)
    monkeypatch.setattr(exchangeability, "MOST_IN_WINDOW", 1000)

    def look(engine: Engine) -> None:
        assert store.flush(10)
        time.sleep(1.0)  # until the window is over
        engine.live_watch.look(time.time() + exchangeability.LATE_SECONDS)

    engine = start()
    decide(engine, unseen, 250)
    look(engine)
    assert loaded(engine).fences.reason == ""  # unseen traffic of the same kind is no change
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnop")
    strange = [" ".join("".join(rng.choice(letters, 6)) for _ in range(4)) for _ in range(400)]
    engine.decide_many([Ask(NODE, text) for text in strange])  # the replayed teacher knows none of them
    look(engine)
    engine.nodes[NODE].teacher.breaker = CircuitBreaker()
    assert_fenced(engine, decide(engine, unseen), "the traffic changed")
    reason = loaded(engine).fences.reason
    other = start()  # before any look of its own, and when another one reads what was written
    assert_fenced(other, decide(other, unseen, 3), reason)
    version, folder = loaded(engine).version, models / NODE / loaded(engine).version
    manifest = json.loads((folder / MANIFEST).read_text())
    config = configure()
    said = standing(config, NODE, folder, manifest, store)
    assert said.fences == (reason,)
    assert said.live is not None
    assert said.live.alarm
    assert f"over {said.live.n:,} live requests" in reason

    verbs = Verbs(config, engine.rollouts.store)
    with pytest.raises(RolloutRefused, match="is fenced off \\(the traffic changed"):
        verbs.start(NODE, "ada", bundle=version, percent=100)
    time.sleep(1.0)  # nothing of the same second is tested again
    verbs.start(NODE, "ada", "new customers, and the audits are fine", version, 100, force=True)
    for each in (engine, other):
        each.refresh()
        look(each)
        each.nodes[NODE].teacher.breaker = CircuitBreaker()
        assert loaded(each).fences.reason == ""
        assert {d.rung for d in decide(each, unseen)} > {"linear"}
    assert loaded(start()).fences.reason == ""
    monkeypatch.setattr("cascade.standing.WINDOW_SECONDS", 1.0)
    assert store.flush(10)
    now = standing(config, NODE, folder, manifest, store)
    assert now.fences == ()
    assert now.live is not None
    assert 0 < now.live.n <= 30 < said.live.n


def test_a_fenced_slice_goes_straight_to_the_teacher(start: Start, unseen: list[dict[str, Any]]) -> None:
    engine = start()
    label = str(next(d.output for d in decide(engine, unseen) if d.rung == "linear"))
    rules = SliceRules(fenced={("label", label): "it breaks the bar"})
    fence_slices(engine, rules)
    seen = 0
    for before, d in zip(decide(start(), unseen, 80), decide(engine, unseen, 80), strict=True):
        if before.rung != "frontier" and before.output == label:
            seen += 1
            assert d.rung == "frontier"
            assert d.attempts[-2].reason == f"uncertified: slice label={label}: it breaks the bar"
            assert d.attempts[-2].rung == before.rung
        else:
            assert (d.rung, d.output) == (before.rung, before.output)
    assert seen


def test_a_value_of_the_context_that_was_never_certified_goes_to_the_teacher(
    start: Start, unseen: list[dict[str, Any]]
) -> None:
    engine = start()
    rules = SliceRules(known={"tenant": frozenset({"a"})})
    fence_slices(engine, rules)
    known, new = (
        decide(engine, unseen, context={"tenant": "a"}),
        decide(engine, unseen, context={"tenant": "z"}),
    )
    assert {d.rung for d in known} > {"linear"}
    assert {d.rung for d in new} == {"frontier"}
    assert any(a.reason.startswith("uncertified: slice tenant=z") for d in new for a in d.attempts)


def test_a_stricter_slice_settles_less(start: Start, unseen: list[dict[str, Any]]) -> None:
    engine = start()
    before = decide(engine, unseen, 80)
    label = str(next(d.output for d in before if d.rung == "linear"))
    rules = SliceRules(strictness={("label", label): 1e-6})
    fence_slices(engine, rules)
    for was, d in zip(before, decide(engine, unseen, 80), strict=True):
        if was.rung != "frontier" and was.output == label:
            assert d.rung == "frontier"
            assert any("is below 1.0000" in a.reason or "is below 0.9999" in a.reason for a in d.attempts)
        else:
            assert d.rung == was.rung


def test_what_the_report_says_of_fences_is_what_is_served(
    configure: Callable[..., Config], models: Path, shipped: Path, store: TrafficStore
) -> None:
    folder = models / NODE / shipped.name
    manifest = json.loads((folder / MANIFEST).read_text())
    now = standing(configure(), NODE, folder, manifest, store)
    assert now.fences == ()
    assert now.lines() == ["no live request of this bundle is in the log yet, so live traffic was not tested"]
    changed = standing(configure(chat={"model": "another"}), NODE, folder, manifest, store)
    assert "the model was simulated-frontier and is another" in changed.to_json()["fences"][0]
    assert changed.lines()[0].startswith("settles nothing: the teacher changed")


def test_the_teachers_answers_say_which_teacher_gave_them(
    start: Start, store: TrafficStore, unseen: list[dict[str, Any]]
) -> None:
    engine = start(chat={"model": "another-frontier"})
    decide(engine, unseen, 5)
    assert store.flush(10)
    records = [r for r in store.training_records(NODE) if r.source == "teacher"]
    assert {r.teacher for r in records} == {engine.nodes[NODE].teacher_named.name}
    assert records[0].teacher.startswith("another-frontier/")
