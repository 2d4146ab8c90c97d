"""JSON values as `google.protobuf.Value` messages, and back.

The server and the client share this, so it imports nothing but protobuf.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, Value

_EXACT = 2.0**53

DEEPEST = 30
"""How deep objects and lists may stand in each other: protobuf reads no message that is nested deeper than
100, and each of them takes up to three levels of it."""


def to_message(value: Any) -> Value:
    """Write a JSON value as a message. Numbers become doubles, because the message has no others.

    Raises
    ------
    TypeError
        It is no JSON value.
    """
    if isinstance(value, str):
        return Value(string_value=value)
    message = Value()
    _fill(message, value)
    return message


def _fill(message: Value, value: Any) -> None:
    if isinstance(value, str):
        message.string_value = value
    elif value is None:
        message.null_value = NULL_VALUE
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int | float):
        message.number_value = value
    elif isinstance(value, dict):
        message.struct_value.SetInParent()
        fields = message.struct_value.fields
        for name, item in value.items():
            _fill(fields[name], item)
    elif isinstance(value, list | tuple):
        message.list_value.SetInParent()
        items = message.list_value.values
        for item in value:
            _fill(items.add(), item)
    else:
        raise TypeError(f"not a JSON value: {type(value).__name__}")


def why_unsendable(value: Any, depth: int = 0) -> str | None:
    """Say why a value that JSON's parser gave cannot be sent so that all can read it; None where it can."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "it holds half of a surrogate pair"
    elif isinstance(value, int | float):
        try:
            finite = isfinite(value)
        except OverflowError:  # of an integer
            finite = False
        if not finite:
            return "it holds a number that is none of JSON's, or too large"
    elif isinstance(value, dict | list):
        if depth == DEEPEST:
            return f"it is nested deeper than {DEEPEST}"
        for each in [*value, *value.values()] if isinstance(value, dict) else value:
            why = why_unsendable(each, depth + 1)
            if why is not None:
                return why
    return None


def from_message(message: Value) -> Any:
    """Read a JSON value. Whole numbers that a double holds exactly become int.

    Raises
    ------
    ValueError
        Somewhere no value is set, or a number is NaN or infinite, which JSON does not have.
    """
    kind = message.WhichOneof("kind")
    if kind == "string_value":
        return message.string_value
    if kind == "number_value":
        number = message.number_value
        if not isfinite(number):
            raise ValueError(f"{number} is not a JSON number")
        return int(number) if number.is_integer() and abs(number) <= _EXACT else number
    if kind == "bool_value":
        return message.bool_value
    if kind == "struct_value":
        return {name: from_message(item) for name, item in message.struct_value.fields.items()}
    if kind == "list_value":
        return [from_message(item) for item in message.list_value.values]
    if kind == "null_value":
        return None
    raise ValueError("holds no value")
