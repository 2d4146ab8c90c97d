"""Discovery: kinds of call by their fixed part, contracts from answers, chatter left alone."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from typer.testing import CliRunner

from benchmarks.chatter import chatter
from cascade.cli import app
from cascade.config import load_config
from cascade.gateway.fixed_part import fingerprint
from cascade.gateway.unstated import request_tokens, said_bytes, tokens
from cascade.traffic import Call
from tests.conftest import ROOT
from training.discovery import Discovered, discover
from training.discovery.asked import read_calls
from training.discovery.contracts import infer
from training.discovery.estimate import estimate
from training.discovery.groups import group_by_fixed_part
from training.discovery.names import slug, telling_words
from training.discovery.stanza import stanzas

TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {"x": {}}}},
    }
    for name in ("play_music", "get_weather")
]


def call(id_: str, said: str, answer: str | None, system: str = "", usd: float = 0.001, **more: Any) -> Call:
    messages = [{"role": "system", "content": system}] if system else []
    output = more.pop("output", {"role": "assistant", "content": answer})
    return Call(
        id_, 1.0, None, None, "m", [*messages, {"role": "user", "content": said}], more.get("tools"),
        more.get("response_format"), output, more.get("context", {}), usd, 10, 2,
    )  # fmt: skip


def intents(n: int, system: str = "Name the intent of the shopper's message.", **more: Any) -> list[Call]:
    rng = random.Random(1)
    asked = {"track": "where is my parcel", "refund": "I want my money back", "cancel": "please cancel it"}
    labels = [rng.choice(list(asked)) for _ in range(n)]
    return [
        call(f"i{i}", f"{asked[la]} {rng.randint(1, 99)}", la, system, **more) for i, la in enumerate(labels)
    ]


def talk(n: int, system: str = "You are a helpful assistant.") -> list[Call]:
    return [call(f"t{i}", said, answer, system) for i, (said, answer) in enumerate(chatter(n, 3))]


def tool_calls(n: int) -> list[Call]:
    made = []
    for i in range(n):
        name = ("play_music", "get_weather")[i % 2]
        function = {"name": name, "arguments": json.dumps({"x": i})}
        output = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]}
        said = f"play song {i}" if i % 2 == 0 else f"weather on day {i}"
        made.append(call(f"c{i}", said, None, "Call the right tool.", tools=TOOLS, output=output))
    return made


def by_letters(texts: Sequence[str]) -> NDArray[np.float32]:
    """Stands for an encoder: texts with the same words lie close together."""
    vectors = np.zeros((len(texts), 256), dtype=np.float32)
    for i, text in enumerate(texts):
        for word in text.lower().split():
            if word.isalpha():
                vectors[i, hash_of(word)] += 1
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def hash_of(word: str) -> int:
    return sum(ord(c) * 31**i for i, c in enumerate(word)) % 256


def test_kinds_of_call_are_found_and_chatter_is_left_to_the_teacher() -> None:
    calls = [*intents(120), *tool_calls(80), *talk(100)]
    random.Random(0).shuffle(calls)
    found = discover(calls, by_letters)
    assert [(c.contract.kind, len(c.members)) for c in found.candidates] == [("labels", 120), ("tools", 80)]
    labels, tools = found.candidates
    assert set(labels.contract.labels) == {"track", "refund", "cancel"}
    assert set(tools.contract.labels) == {"play_music", "get_weather"}
    assert {found.calls[i].call_id[0] for i in found.left} == {"t"}
    assert len(found.left) == 100
    assert labels.spend_share == pytest.approx(120 / 300)
    assert labels.settled is not None
    assert labels.settled[0.95] > 0.5
    assert found.left_topics
    assert labels.examples
    assert discover(calls, by_letters).candidates[0].to_json() == labels.to_json()


def test_a_system_prompt_that_is_filled_in_each_time_is_one_kind() -> None:
    calls = []
    for i, each in enumerate(intents(90)):
        system = f"You serve the shop. Today is 2026-01-{i % 28 + 1:02d}. Customer <EMAIL_abcdefg{chr(97 + i % 26)}>. Name it."
        calls.append(call(each.call_id, each.messages[-1]["content"], each.output["content"], system))  # type: ignore[index,call-overload]
    groups = group_by_fixed_part(read_calls(calls), 50)
    assert [len(group.members) for group in groups] == [90]
    assert len(groups[0].fingerprints) > 20


def test_a_prompt_around_the_text_is_found_without_a_system_prompt() -> None:
    calls = [
        call(
            each.call_id,
            f"Name the intent of this message, in one word: {each.messages[-1]['content']}",
            each.output["content"],
        )  # type: ignore[index,call-overload]
        for each in intents(90)
    ]
    found = discover([*calls, *talk(90, system="")], by_letters)
    assert [len(c.members) for c in found.candidates] == [90]
    frame = found.candidates[0].group.frame
    assert frame is not None
    assert frame.before == "Name the intent of this message, in one word: "
    assert len(found.left) == 90


def test_a_kind_that_shares_its_prompt_with_chatter_is_told_by_meaning_and_answers() -> None:
    general = "You are a helpful assistant."
    found = discover([*intents(150, general), *talk(200, general)], by_letters)
    assert [(len(c.members), c.part_of_group) for c in found.candidates] == [(150, True)]
    assert len(found.left) == 200
    assert discover([*intents(150, general), *talk(200, general)], None).candidates == ()


def test_contracts_are_inferred_from_answers() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    asked = infer([call(str(i), "q", json.dumps({"a": i}), response_format=wanted) for i in range(60)])
    assert asked is not None
    assert (asked.kind, asked.schema) == ("schema", schema)
    shown = infer(
        [
            call(str(i), "q", json.dumps({"n": i, "s": "ab"[i % 2], "o": None} | ({"x": 1} if i % 2 else {})))
            for i in range(60)
        ]
    )
    assert shown is not None
    assert shown.schema is not None
    assert sorted(shown.schema["required"]) == ["n", "o", "s"]
    assert shown.schema["properties"]["s"] == {"type": "string", "enum": ["a", "b"]}
    assert infer([call(str(i), "q", f"free text number {i}") for i in range(60)]) is None
    assert infer([call(str(i), "q", "always the same") for i in range(60)]) is None
    tools = infer(tool_calls(60))
    assert tools is not None
    assert tools.schema is not None
    assert {one["properties"]["name"]["const"] for one in tools.schema["oneOf"]} == {
        "play_music",
        "get_weather",
    }


def test_calls_that_failed_or_hold_images_are_counted_and_left_out() -> None:
    failed = Call(
        "f", 1.0, None, None, "m", [{"role": "user", "content": "x"}], None, None, None, error="timeout"
    )
    image = call("g", "x", "y")
    image.messages[0]["content"] = [{"type": "image_url", "image_url": {"url": "data:"}}]
    assert discover([failed, image, *talk(5)], by_letters).unread == 2
    assert discover([], by_letters).candidates == ()


def test_tokens_stand_for_money_where_nothing_has_a_price() -> None:
    found = discover([*intents(60, usd=0.0), *talk(60)], by_letters)
    assert found.priced
    found = discover(
        [call(c.call_id, "q", "x", usd=0.0) for c in talk(60)] + intents(60, usd=0.0), by_letters
    )
    assert not found.priced
    assert found.candidates[0].spend_share == pytest.approx(0.5)


def spends(found: Discovered) -> dict[str, float]:
    return {c.contract.kind: c.spend for c in found.candidates}


def test_calls_without_a_price_count_at_the_dollars_a_token_of_the_others() -> None:
    """Twelve tokens each: 120 labels with a price, 80 tool calls without, 100 chats of another model without."""
    labels, chats = intents(120), [replace(c, usd=0.0, model="other") for c in talk(100)]
    silent = [replace(c, usd=0.0) for c in tool_calls(80)]
    found = discover([*labels, *silent, *chats], None)
    assert found.priced
    assert found.unpriced == 180
    assert spends(found) == pytest.approx({"labels": 0.12, "tools": 0.08})
    assert [c.spend_share for c in found.candidates] == pytest.approx([120 / 300, 80 / 300])


def test_the_price_of_the_same_model_goes_before_that_of_all() -> None:
    small = [replace(c, model="small", usd=0.0 if i % 2 else 0.0001) for i, c in enumerate(tool_calls(80))]
    found = discover([*intents(120), *small], None)
    assert found.unpriced == 40
    assert spends(found) == pytest.approx({"labels": 0.12, "tools": 0.008})


def test_what_the_ladder_answered_cost_nothing_and_is_not_without_a_price() -> None:
    own = [replace(c, usd=0.0, context={"served_by": "ladder"}) for c in tool_calls(80)]
    found = discover([*intents(120), *own], None)
    assert found.unpriced == 0
    assert spends(found) == pytest.approx({"labels": 0.12, "tools": 0.0})


def test_where_no_tokens_were_reported_either_they_are_counted_from_what_was_said() -> None:
    def silent(calls: Sequence[Call]) -> list[Call]:
        return [replace(each, usd=0.0, input_tokens=0, output_tokens=0) for each in calls]

    def share(n: int) -> float:
        return discover(silent([*intents(60), *talk(n)]), by_letters).candidates[0].spend_share

    assert 0.1 < share(120) < share(60) < 0.9
    said = sum(
        request_tokens({"messages": each.messages}) + 2 for each in intents(60)
    )  # of five or six bytes
    rest = sum(
        request_tokens({"messages": each.messages}) + tokens(said_bytes(each.output)) for each in talk(60)
    )
    assert share(60) == pytest.approx(said / (said + rest))


def test_estimates_are_high_for_easy_labels_and_nothing_for_noise() -> None:
    rng = random.Random(0)
    easy = [rng.choice(["red", "blue"]) for _ in range(300)]
    settled = estimate([f"it is {c} today" for c in easy], easy, None)
    assert settled is not None
    assert settled[0.98] > 0.9
    noise = estimate(["it is grey today"] * 300, easy, None)
    assert noise is not None
    assert noise[0.95] == 0.0
    assert estimate(["a"] * 20, ["x", "y"] * 10, None) is None


def test_estimates_rest_on_models_that_were_fitted_to_the_end() -> None:
    """On the sample's texts a fit that ends after a few steps names one intent in six."""
    lines = (ROOT / "examples" / "sample" / "support-intent.jsonl").read_text().splitlines()[:1500]
    records = [json.loads(line) for line in lines]
    settled = estimate([r["text"] for r in records], [r["label"] for r in records], None)
    assert settled is not None
    assert settled[0.95] > 0.2


def test_names_are_words_that_tell_and_are_free() -> None:
    words = telling_words(["bank card payment intent", "music player tool", "music weather tool"])
    assert "bank" in words[0]
    assert words[2][0] == "weather"
    assert telling_words(["", "the of"]) == [[], []]
    taken: set[str] = set()
    assert [slug(["Ünïcode", "A b"], taken), slug(["Ünïcode", "A b"], taken), slug([], taken)] == [
        "n-code-a-b", "n-code-a-b-2", "node",
    ]  # fmt: skip


def test_the_stanza_is_a_configuration_that_loads_and_recognises_the_calls(tmp_path: Path) -> None:
    system = "Name the intent. Never say {{ secrets }}."
    calls = [*intents(80, system), *tool_calls(60), *talk(60)]
    found = discover(calls, by_letters)
    text = stanzas(found.candidates, "frontier", tmp_path)
    head = (
        "rungs: {frontier: {kind: chat, base_url: 'http://x/v1', model: m, price: {input: 1, output: 1}}}\n"
    )
    (tmp_path / "cascade.yaml").write_text(head + text)
    config = load_config(tmp_path / "cascade.yaml")
    assert set(config.nodes) == {c.name for c in found.candidates}
    node = config.nodes[found.candidates[0].name]
    assert fingerprint(calls[0].messages) in node.recognise
    assert set(node.contract.labels) == {"track", "refund", "cancel"}
    tools = config.nodes[found.candidates[1].name].contract.load(tmp_path)
    assert tools is not None
    assert tools.check({"name": "play_music", "arguments": {"x": 1}}) is None
    assert tools.check({"name": "rm", "arguments": {}}) is not None
    assert list(yaml.safe_load(stanzas(found.candidates, "frontier"))["nodes"]) == [found.candidates[0].name]
    small = yaml.safe_load(stanzas(found.candidates, "frontier", None, ["linear"], 0.95))["nodes"]
    assert small[found.candidates[0].name]["ladder"] == ["linear", "frontier"]
    assert small[found.candidates[0].name]["bar"]["agreement"] == 0.95


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_log_is_told_to_be_empty_and_not_to_be_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.jsonl").write_text(text)
    done = CliRunner().invoke(
        app, ["discover", "--from", str(tmp_path / "e.jsonl"), "-c", str(ROOT / "cascade.yaml")]
    )
    assert done.exit_code == 1
    assert f"{tmp_path / 'e.jsonl'} is empty" in done.output.replace("\n", "")
