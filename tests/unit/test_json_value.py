"""JSON values survive the way through `google.protobuf.Value`."""

from __future__ import annotations

import pytest
from google.protobuf.struct_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from cascade.json_value import from_message, to_message

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_round_trip(value):
    assert from_message(Value.FromString(to_message(value).SerializeToString())) == value


@pytest.mark.parametrize("value", [{}, [], [[]], {"a": {}}, ""])
def test_empty_values_stay_what_they_are(value):
    assert from_message(to_message(value)) == value


def test_whole_numbers_are_int():
    assert type(from_message(to_message(3))) is int
    assert type(from_message(to_message(3.5))) is float


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_json_lacks_is_refused(number):
    with pytest.raises(ValueError, match="not a JSON number"):
        from_message(Value(number_value=number))


def test_an_empty_message_is_refused():
    with pytest.raises(ValueError, match="no value"):
        from_message(Value())
    with pytest.raises(TypeError, match="set"):
        to_message([set()])
