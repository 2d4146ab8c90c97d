"""JSON values as they stand in columns: compact, and of many values at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

import pydantic_core

from cascade.contract import JsonValue

# One encoder for all: `json.dumps` with options builds a new one at each call, which about doubles the time.
_encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def to_json(value: JsonValue) -> str:
    """Write a JSON value. Raises ValueError, TypeError or RecursionError for what is none."""
    if not value and (empty := _EMPTY.get(type(value))):
        return empty  # commonest; the encoder takes 20 times as long
    return _encoder.encode(value)


_EMPTY: dict[type, str] = {dict: "{}", list: "[]", tuple: "[]"}


def values_as_json(values: Sequence[JsonValue]) -> list[str]:
    """Write of each value what reads back as what `to_json` writes of it, in a sixth of the time.

    For contexts and attempts, whose texts nobody compares: escapes and the spelling of numbers differ.
    """
    among: list[JsonValue] = [_BETWEEN] * (2 * len(values) - 1)
    among[::2] = values
    with suppress(ValueError):  # as below
        text = pydantic_core.to_json(among).decode()
        texts = text[1:-1].split(_WRITTEN_BETWEEN)
        if len(texts) == len(values) and _all_numbers(text):
            return texts
    return list(map(_value_as_json, values))


# Stands between values that are written together; one that holds the same makes them more, and is noticed.
_BETWEEN = "\x1e"
_WRITTEN_BETWEEN = ',"\\u001e",'


def _value_as_json(value: JsonValue) -> str:
    if not value:
        return to_json(value)
    try:
        text = pydantic_core.to_json(value).decode()
    except ValueError:  # half of a surrogate pair, which `to_json` escapes
        return to_json(value)
    return text if _all_numbers(text) else to_json(value)


def _all_numbers(text: str) -> bool:
    # What is no number is written as these words, which `to_json` refuses. A letter is found, or found not to
    # be there, in a fiftieth of the time.
    return not ("N" in text and "NaN" in text) and not ("I" in text and "Infinity" in text)


def texts_as_json(values: Sequence[str] | Sequence[tuple[str, ...]]) -> list[str]:
    """Write each value as `to_json` does, where few of them differ, as of labels and choices."""
    texts = {value: to_json(value) for value in set(values)}
    return [texts[value] for value in values]
