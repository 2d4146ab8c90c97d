"""A contract says exactly which answers are valid."""

import pytest

from cascade.contract import Contract
from cascade.errors import ConfigError

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
