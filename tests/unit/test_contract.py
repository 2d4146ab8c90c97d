"""A contract says exactly which answers are valid."""

from typing import Any

import pytest

from cascade.ask import Decided
from cascade.contract import Contract
from cascade.errors import ConfigError
from cascade.json_value import DEEPEST, from_message
from cascade.server.responses import batch_response
from cascade.v1 import decision_pb2 as pb

LABELS = Contract(labels=("continue", "stop", "ask_user"))


@pytest.mark.parametrize("value", ["Stop", "", None, 3, ["stop"], {"label": "stop"}])
def test_only_its_labels_satisfy_a_label_contract(value: object) -> None:
    assert LABELS.check("stop") is None
    assert LABELS.check(value) is not None


def test_choices_narrow_a_label_contract() -> None:
    assert LABELS.check("stop", choices=("stop",)) is None
    reason = LABELS.check("stop", choices=("continue",))
    assert reason is not None
    assert "choices" in reason


def test_a_schema_contract_names_the_place_that_is_wrong() -> None:
    contract = Contract(
        schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    )
    assert contract.check({"n": 3}) is None
    reason = contract.check({"n": "3"})
    assert reason is not None
    assert "/n" in reason


def test_a_schema_may_not_fetch_anything() -> None:
    with pytest.raises(ConfigError):
        Contract(schema={"$ref": "http://127.0.0.1:9/schema.json"})


@pytest.mark.parametrize("labels", [(), ("a", "a"), ("a", "")])
def test_bad_label_sets_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        Contract(labels=labels)


def test_replies_of_a_chat_rung_are_read_in_the_forms_models_give() -> None:
    assert LABELS.parse('{"label": "stop"}') == "stop"
    assert LABELS.parse(' "stop"\n') == "stop"
    with pytest.raises(ValueError, match="label"):
        LABELS.parse('{"lable": "stop"}')


def test_contracts_survive_a_round_trip() -> None:
    for contract in (LABELS, Contract(schema={"type": "object"})):
        assert Contract.from_json(contract.to_json()) == contract


def nested(levels: int) -> dict[str, Any]:
    value: Any = "x"
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return {"a": value}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"a": "x\ud800"}, "surrogate"),
        ({"x\ud800": 1}, "surrogate"),
        ({"a": [float("nan")]}, "number"),
        ({"a": 10**400}, "number"),
        (nested(DEEPEST), "nested"),
    ],
)
def test_what_cannot_be_sent_breaks_every_contract(value: Any, why: str) -> None:
    assert why in str(Contract(schema={"type": "object"}).check(value))
    assert Contract(schema={"type": "object"}).check({"a": "\U0001f600", "b": [1.5, None, True]}) is None


def test_half_a_surrogate_pair_is_no_label() -> None:
    assert "surrogate" in str(Contract(open_labels=True).check("card\ud83d"))
    assert Contract(open_labels=True).check("card\U0001f600") is None


def test_what_is_nested_as_deep_as_may_be_can_be_read_out_of_a_batch() -> None:
    value: Any = "x"
    for _ in range(DEEPEST):
        value = {"a": value}
    assert Contract(schema={"type": "object"}).check(value) is None
    decided = Decided("d", value, "linear", 0.9, "b", "live", ())
    sent = batch_response([decided], [pb.DecideRequest()])
    assert from_message(pb.BatchDecideResponse.FromString(sent).results[0].response.output) == value
