"""`cascade simulate NODE`: the log goes through the ladder that serves, and nobody is asked."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from cascade.ask import Ask
from cascade.cli import app
from cascade.config import ChatRungConfig, Config
from cascade.demo.frontier import SimulatedFrontier
from cascade.pointer import POINTER
from cascade.server.engine import Engine
from cascade.server.latency import LatencyRecord
from cascade.server.local import walk_local
from cascade.traffic import Decision, Labelled, TrafficStore, open_store
from cascade.validators import identity
from tests.conftest import NODE, ROOT
from training.evaluate import clopper_pearson
from training.held_out import text_hashes
from training.log import read_log
from training.offline import OfflineNode, open_node
from training.replay import Charges, Replay, Truth, replay
from training.replay_report import notes
from training.simulate import alternatives, known_decisions

N = 80
CHARGES = Charges(cpu_hour=0.05, rung_ms={"linear": 0.5, "encoder": 4.0}, audit_share=0.0)


def write_config(folder: Path, config: Config) -> Path:
    """The configuration as a file; its paths are absolute."""
    node, chat = config.nodes[NODE], config.rungs["frontier"]
    assert isinstance(chat, ChatRungConfig)
    document = {
        "store": config.store_url,
        "models": str(config.models_path),
        "rungs": {
            "encoder": {"kind": "encoder", "model": str(ROOT / "models/encoders/all-MiniLM-L6-v2")},
            "frontier": {
                "kind": "chat", "base_url": chat.base_url, "model": chat.model,
                "price": {"input": chat.price.input, "output": chat.price.output},
            },
        },
        "nodes": {
            NODE: {
                "prompt": node.prompt, "ladder": list(node.ladder), "validators": list(node.validators),
                "bar": {"agreement": node.bar.agreement, "confidence": node.bar.confidence},
            }
        },
    }  # fmt: skip
    path = folder / "cascade.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def config(models: Path, configure: Callable[..., Config]) -> Config:
    (models.parent / "var").mkdir(exist_ok=True)
    return configure()


@pytest.fixture
def store(config: Config) -> Iterator[TrafficStore]:
    opened = open_store(config.store_url)
    yield opened
    opened.close()


def ask(config: Config, store: TrafficStore, records: list[dict[str, Any]]) -> list[Decision]:
    """Decide records with whatever is served, and give what the log says of them."""
    engine = Engine(config, store, refresh_seconds=0)
    try:
        for record in records:
            engine.decide(Ask(NODE, record["text"]))
    finally:
        engine.close()
    assert store.flush(10)
    return list(store.decisions(NODE))


def through(node: OfflineNode, decisions: list[Decision], truths: dict[str, Truth], **rest: Any) -> Replay:
    return replay(decisions, truths, node.bundle, node.contract, node.validators, CHARGES, 0.001, **rest)


@pytest.fixture
def passthrough(
    config: Config, store: TrafficStore, models: Path, unseen: list[dict[str, Any]], shipped: Path
) -> list[Decision]:
    """A log of the time before the bundle: the teacher answered everything."""
    (models / NODE / POINTER).unlink()
    decisions = ask(config, store, unseen[:N])
    assert all(decision.by_teacher for decision in decisions)
    (models / NODE / POINTER).write_text(shipped.name + "\n")
    return decisions


def test_a_replay_settles_what_the_service_then_settles_and_asks_nobody(
    config: Config,
    store: TrafficStore,
    passthrough: list[Decision],
    unseen: list[dict[str, Any]],
    shipped: Path,
    frontier: SimulatedFrontier,
    tmp_path: Path,
) -> None:
    store.close()
    asked = frontier.requests
    done = CliRunner().invoke(
        app, ["simulate", NODE, "--bundle", shipped.name, "-c", str(write_config(tmp_path, config)), "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert frontier.requests == asked
    again = open_store(f"sqlite:///{tmp_path / 'live.db'}")
    try:
        live = ask(config, again, unseen[:N])
    finally:
        again.close()
    settled = [decision for decision in live if not decision.by_teacher]
    assert found["n"] == found["n_known"] == N
    assert found["settled"]["value"] == pytest.approx(len(settled) / N)
    wrong = {example["text"] for example in found["wrong_examples"]}
    truth = {record["text"]: record["label"] for record in unseen}
    assert wrong == {d.text for d in settled if d.text is not None and d.output != truth[d.text]}
    names = [row["name"] for row in found["alternatives"]]
    assert names[0] == "ladder"
    assert {"always teacher", "random mix", "oracle"} < set(names)
    low, high = found["wrong"]["low"], found["wrong"]["high"]
    assert low <= len(wrong) / N <= high


def test_what_would_settle_nothing_as_served_is_said_and_answers_of_another_teacher_are_counted(
    config: Config,
    configure: Callable[..., Config],
    store: TrafficStore,
    passthrough: list[Decision],
    tmp_path: Path,
) -> None:
    store.close()

    def simulate(config: Config) -> dict[str, Any]:
        done = CliRunner().invoke(
            app, ["simulate", NODE, "-c", str(write_config(tmp_path, config)), "--json"]
        )
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    same, other = simulate(config), simulate(configure(chat={"model": "another"}))
    assert (same["fence"], same["n_other_teacher"]) == ("", 0)
    assert other["fence"].startswith("the teacher changed: the model was simulated-frontier and is another;")
    assert other["n_other_teacher"] == N
    assert other["settled"] == same["settled"], "what the ladder does is of interest all the same"
    new = [note for note in other["notes"] if note not in same["notes"]]
    assert new[0].startswith("With this configuration the bundle would settle nothing: the teacher changed")
    assert new[1].startswith(f"{N} of the right answers in this window are of another teacher")


def test_what_it_costs_is_the_teachers_price_of_what_escalates_and_the_rungs_time(
    config: Config, passthrough: list[Decision]
) -> None:
    node = open_node(config, NODE)
    found = through(node, passthrough, {})
    paid = {decision.decision_id: decision.usd for decision in passthrough}
    assert found.always_teacher_usd.value == pytest.approx(1000 * np.mean(list(paid.values())))
    assert found.usd.value < found.always_teacher_usd.value
    assert found.saved.value == pytest.approx(found.always_teacher_usd.value - found.usd.value)
    assert found.saved.low <= found.saved.value <= found.saved.high
    audited = replay(
        passthrough, {}, node.bundle, node.contract, (),
        Charges(0.05, CHARGES.rung_ms, audit_share=0.5, retraining=1e-5), 0.001,
    )  # fmt: skip
    assert audited.saved.value < found.saved.value


def test_of_what_was_settled_locally_nothing_is_known_without_audits_and_that_is_said(
    config: Config, store: TrafficStore, unseen: list[dict[str, Any]]
) -> None:
    decisions = ask(config, store, unseen[:N])
    log = read_log(store, NODE, None, None)
    found = through(open_node(config, NODE), decisions, log.truths)
    assert found.blind == "what was settled locally"
    assert found.n == N
    assert found.n_known == sum(decision.by_teacher for decision in decisions)


def test_audited_decisions_stand_for_all_that_were_settled(
    config: Config, store: TrafficStore, unseen: list[dict[str, Any]]
) -> None:
    decisions = ask(config, store, unseen[:N])
    node = open_node(config, NODE)
    local = [d for d in decisions if not d.by_teacher]
    truths = {d.decision_id: Truth(d.output) for d in decisions if d.by_teacher}
    # of the settled ones every fifth is audited, and half of those are found wrong
    for i, decision in enumerate(local[::5]):
        truths[decision.decision_id] = Truth(decision.output if i % 2 else "other", weight=5.0)
    found = through(node, decisions, truths)
    n_audited = len(local[::5])
    assert found.blind == ""
    assert found.agreement is not None
    assert found.agreement.value == pytest.approx((n_audited // 2) / n_audited)
    assert found.wrong is not None
    share = len(local) / N * (1 - found.agreement.value)
    assert found.wrong.value == pytest.approx(share)


def test_decisions_that_nobody_answered_stand_for_none_that_were(
    config: Config, store: TrafficStore, unseen: list[dict[str, Any]]
) -> None:
    decisions = ask(config, store, unseen[:N])
    truths = {d.decision_id: Truth(d.output) for d in decisions if d.by_teacher}
    for i, decision in enumerate(d for d in decisions if not d.by_teacher):
        truths[decision.decision_id] = Truth(decision.output if i % 2 else "other")
    node = open_node(config, NODE)
    alone = through(node, decisions, truths)
    failed = [
        replace(d, decision_id=f"failed-{d.decision_id}", error="deadline", rung="", by_teacher=False)
        for d in decisions
    ]
    found = through(node, decisions + failed, truths)
    assert found.n == 2 * N
    assert (found.wrong, found.agreement, found.blind) == (alone.wrong, alone.agreement, "")
    assert through(node, failed, {}).blind == ""


def test_texts_that_the_bundle_was_trained_on_are_left_out(
    config: Config, passthrough: list[Decision]
) -> None:
    learned = text_hashes(decision.text or "" for decision in passthrough[:30])
    found = through(open_node(config, NODE), passthrough, {}, trained=learned)
    assert found.n_trained_on >= 30
    assert found.n == N - found.n_trained_on
    assert found.knows_training


def test_the_window_takes_part_of_the_log(
    config: Config, store: TrafficStore, passthrough: list[Decision]
) -> None:
    middle = passthrough[N // 2].time
    log = read_log(store, NODE, middle, None)
    assert {d.decision_id for d in log.decisions(store, NODE)} == {
        d.decision_id for d in passthrough if d.time >= middle
    }
    assert len(log.truths) == len(list(log.decisions(store, NODE)))


def test_wrong_arguments_get_one_clear_line(config: Config, tmp_path: Path) -> None:
    path = str(write_config(tmp_path, config))
    for arguments, text in (
        ([], "give either a NODE"),
        ([NODE, "-c", path, "--from", "yesterdayish"], "neither ISO 8601"),
        ([NODE, "-c", path, "--from", "2026-02-01", "--to", "2026-01-01"], "after --from"),
        ([NODE, "-c", path, "--bundle", "0007-00000000"], "has no such bundle"),
        (["nonode", "-c", path], "no node is named"),
    ):
        done = CliRunner().invoke(app, ["simulate", *arguments])
        assert done.exit_code in {1, 2}
        assert text in done.output
        assert "Traceback" not in done.output


def test_an_empty_log_is_said_to_be_empty(config: Config, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["simulate", NODE, "-c", str(write_config(tmp_path, config))])
    assert done.exit_code == 0, done.output
    assert "nothing to replay" in done.output
    assert os.path.exists(tmp_path / "var")


def picky(ask: Ask, value: Any) -> bool:
    """Refuses short questions, and one label."""
    return len(ask.text) >= 40 and value != "refund_status"


@pytest.mark.parametrize("certified", [False, True])
def test_the_ladder_among_the_alternatives_is_the_one_with_the_nodes_own_validators(
    certified: bool,
    configure: Callable[..., Config],
    config: Config,
    store: TrafficStore,
    passthrough: list[Decision],
) -> None:
    log = read_log(store, NODE, None, None)
    bare = alternatives(config, open_node(config, NODE), log, store, None)
    strict = configure(node={"validators": [f"{__name__}:picky"]})
    node = open_node(strict, NODE)
    if certified:
        node.bundle.manifest["validators"] = [identity(picky)]
    rows = alternatives(strict, node, log, store, None)
    replayed = replay(passthrough, log.truths, node.bundle, node.contract, node.validators, CHARGES, 0.001)
    assert rows[0].name == "ladder"
    assert rows[0].settled == pytest.approx(replayed.settled.value)
    assert rows[0].settled < bare[0].settled - 0.05
    assert replayed.agreement is not None
    assert rows[0].agreement == pytest.approx(replayed.agreement.value)
    assert [row.settled for row in rows[1:3]] == [row.settled for row in bare[1:3]], "no ladder, no validator"


def test_records_of_a_file_go_through_the_ladder_and_nothing_is_stored(
    config: Config, models: Path, unseen: list[dict[str, Any]], tmp_path: Path
) -> None:
    golden = tmp_path / "golden.jsonl"
    lines = [json.dumps({"id": r["id"], "text": r["text"], "label": r["label"]}) for r in unseen[:N]]
    golden.write_text("\n".join(lines) + "\n")
    path, before = write_config(tmp_path, config), sorted(models.parent.rglob("*"))
    done = CliRunner().invoke(app, ["simulate", NODE, "--file", str(golden), "-c", str(path), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["n"], found["n_known"], found["skipped"]) == (N, N, [])
    node = open_node(config, NODE)
    asks = [Ask(NODE, record["text"]) for record in unseen[:N]]
    latency = {rung.name: LatencyRecord() for rung in node.bundle.policy.rungs}
    walks = walk_local(asks, node.bundle, node.contract, node.validators, latency)
    right = {record["text"]: record["label"] for record in unseen}
    wrong = [
        a.text for a, walk in zip(asks, walks, strict=True) if walk.rung and walk.output != right[a.text]
    ]
    assert found["settled"]["value"] == pytest.approx(sum(bool(walk.rung) for walk in walks) / N)
    assert sorted(example["text"] for example in found["wrong_examples"]) == sorted(wrong)
    assert found["wrong"]["value"] == pytest.approx(len(wrong) / N)
    assert sorted(models.parent.rglob("*")) == before, "neither database nor models are touched"


def test_what_settles_wrongly_is_shown_by_label_with_a_text(
    config: Config, unseen: list[dict[str, Any]], tmp_path: Path
) -> None:
    golden = tmp_path / "golden.jsonl"
    lines = [json.dumps({"id": r["id"], "text": r["text"], "label": r["label"]}) for r in unseen[:N]]
    golden.write_text("\n".join([*lines, "not a record"]))
    command = ["simulate", NODE, "--file", str(golden), "-c", str(write_config(tmp_path, config))]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert f"line {N + 1}" in refused.output
    other = next(r["label"] for r in unseen if r["label"] != unseen[0]["label"])
    mislabelled = [{"id": r["id"], "text": r["text"], "label": other} for r in unseen[:N]]
    golden.write_text("\n".join([*map(json.dumps, mislabelled), "not a record"]))
    shown = CliRunner().invoke(app, [*command, "--skip-bad"])
    assert shown.exit_code == 0, shown.output
    assert f"skipped line {N + 1}: " in shown.stdout
    assert f"file: {golden}" in shown.stdout
    assert "settled wrongly:" in shown.stdout
    assert f" where {other!r} is right, such as " in shown.stdout


@pytest.mark.parametrize(
    "arguments", [["--file", "FILE", "--from", "7d"], ["--file", "FILE", "--outcomes", "FILE"]]
)
def test_a_file_takes_the_place_of_the_log(config: Config, tmp_path: Path, arguments: list[str]) -> None:
    file = tmp_path / "file.jsonl"
    file.write_text("")
    given = [str(file) if argument == "FILE" else argument for argument in arguments]
    node = [] if "--outcomes" in arguments else [NODE]
    done = CliRunner().invoke(app, ["simulate", *node, *given, "-c", str(write_config(tmp_path, config))])
    assert done.exit_code != 0
    assert "--file" in done.output


def test_imported_records_are_replayed_with_their_context_and_messages(
    config: Config, store: TrafficStore
) -> None:
    messages = (("user", "where is my parcel?"),)
    store.import_labelled([
        Labelled(NODE, "a", None, messages, "track_order", context={"tier": "gold"})
    ])  # fmt: skip
    (decision,) = read_log(store, NODE, None, None).decisions(store, NODE)
    assert (decision.messages, decision.context) == (messages, {"tier": "gold"})


def test_alternatives_stand_for_the_log_where_only_audits_tell_of_what_was_settled(
    config: Config, store: TrafficStore, unseen: list[dict[str, Any]]
) -> None:
    decisions = ask(config, store, unseen[:N])
    node, right = open_node(config, NODE), {record["text"]: record["label"] for record in unseen}
    local = [decision for decision in decisions if not decision.by_teacher]
    assert len(local) > N / 2
    audited = {each.decision_id: 4.0 for each in local[::4]}
    truths = {
        each.decision_id: Truth(right[each.text or ""], audited.get(each.decision_id, 1.0))
        for each in decisions
        if each.by_teacher or each.decision_id in audited
    }
    log = replace(read_log(store, NODE, None, None), truths=truths)
    known, weight = known_decisions(node, log, store)
    whose = np.array([decision.by_teacher for decision, _ in known])
    assert weight[~whose].sum() == pytest.approx(len(local))
    assert weight[whose].sum() == pytest.approx(N - len(local))
    rows = {row.name.split(" (")[0]: row for row in alternatives(config, node, log, store, None)}
    assert rows["ladder"].settled == pytest.approx(len(local) / N)
    assert rows["always teacher"].settled == 0
    replayed = through(node, decisions, truths)
    assert replayed.agreement is not None
    assert rows["ladder"].agreement == pytest.approx(replayed.agreement.value)
    low, high = rows["ladder"].settled_interval
    uniform = len(known)  # weights count as fewer records than there are
    assert high - low > np.subtract(*clopper_pearson(len(local) / N * uniform, uniform)[::-1])


def test_a_file_is_priced_by_the_nodes_traffic_and_without_that_by_the_price_list(
    config: Config, store: TrafficStore, unseen: list[dict[str, Any]], tmp_path: Path
) -> None:
    golden = tmp_path / "golden.jsonl"
    golden.write_text(
        "\n".join(json.dumps({"id": r["id"], "text": r["text"], "label": r["label"]}) for r in unseen[:N])
    )
    command = ["simulate", NODE, "--file", str(golden), "-c", str(write_config(tmp_path, config)), "--json"]

    def simulated() -> dict[str, Any]:
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        (always,) = [row for row in found["alternatives"] if row["name"] == "always teacher"]
        assert found["always_teacher_usd"]["value"] == pytest.approx(1000 * always["usd"]), "one price"
        return found

    listed = simulated()
    assert listed["price_from"] == "price list"
    assert listed["always_teacher_usd"]["low"] < listed["always_teacher_usd"]["high"], (
        "texts differ in length"
    )
    ask(config, store, unseen[N : 2 * N])
    means = store.teacher_means(NODE)
    assert means is not None
    assert means[0] > 0
    paid = simulated()
    assert paid["price_from"] == "traffic"
    assert paid["always_teacher_usd"]["value"] == pytest.approx(1000 * means[0])


@pytest.mark.parametrize("content", ["", '{"id": "1"}\n'])
def test_a_file_without_a_record_is_refused(config: Config, tmp_path: Path, content: str) -> None:
    file = tmp_path / "file.jsonl"
    file.write_text(content)
    command = ["simulate", NODE, "--file", str(file), "-c", str(write_config(tmp_path, config))]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert ("holds no labelled record" if not content else "nothing was simulated; --skip-bad") in done.output
    skipped = CliRunner().invoke(app, [*command, "--skip-bad"])
    assert skipped.exit_code == 1
    assert "holds no labelled record" in skipped.output


def test_answers_that_no_rung_gives_and_slices_that_were_not_certified_are_named(
    config: Config, unseen: list[dict[str, Any]], store: TrafficStore
) -> None:
    node = open_node(config, NODE)
    store.import_labelled([
        Labelled(NODE, record["id"], record["text"], None, "order_status " if i < 3 else record["label"])
        for i, record in enumerate(unseen[:N])
    ])  # fmt: skip
    log = read_log(store, NODE, None, None)
    found = replay(
        log.decisions(store, NODE), log.truths, node.bundle, node.contract, node.validators, CHARGES, 0.001
    )
    assert found.n_unknown_label == 3
    assert notes(replace(found, price_from="traffic"))[2].startswith("3 of the right answers are none that")
    rules = replace(node.bundle.policy.slices, known={"language": frozenset({"en"})})
    fenced = replace(node.bundle, policy=replace(node.bundle.policy, slices=rules))
    none = replay(log.decisions(store, NODE), log.truths, fenced, node.contract, (), CHARGES, 0.001)
    assert none.settled.value == 0
    assert dict(none.reasons)["uncertified: slice language="] > 0
