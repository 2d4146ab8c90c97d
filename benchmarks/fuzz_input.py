"""Hostile input: strange texts, messages filled at random, mangled bytes. A part of `benchmarks.fuzz`."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

ROOT = Path(__file__).resolve().parents[1]
NODE = "support-intent"

TEXTS = (
    "", " ", "\0", "a", "\n", "\u202e", "\ud7ff", "é" * 50, "😀", "{{ 7*7 }}", "${jndi:x}", "../../x",
    "x" * 5000, "'; DROP TABLE decisions; --", "null", "NaN", "-1", "1e999", "\x1b[31m", NODE, "user", "tool",
)  # fmt: skip

Case = Callable[[random.Random], str]
"""Runs one case and names its outcome; raises where something must not happen."""


def some_text(rng: random.Random) -> str:
    """Give a text that is often strange."""
    if rng.random() < 0.6:
        return rng.choice(TEXTS)
    kinds = ((32, 127), (0, 0xD7FF))
    return "".join(chr(rng.randrange(*rng.choice(kinds))) for _ in range(rng.randrange(40)))


def fill(message: Message, rng: random.Random, depth: int = 0) -> Message:
    """Set fields of a message at random, by its descriptor."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.45:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(rng.randrange(4)):
                key, value = some_text(rng), some_text(rng)
                into = getattr(message, field.name)
                if field.message_type.fields_by_name["value"].message_type is None:
                    into[key] = value
                elif depth < 6:
                    fill(into[key], rng, depth + 1)
        elif field.is_repeated:
            for _ in range(rng.randrange(4)):
                into = getattr(message, field.name)
                if field.message_type is None:
                    into.append(_scalar(field, rng))
                elif depth < 6:
                    fill(into.add(), rng, depth + 1)
        elif field.message_type is None:
            setattr(message, field.name, _scalar(field, rng))
        elif depth < 6:
            inner = getattr(message, field.name)
            inner.SetInParent()
            fill(inner, rng, depth + 1)
    return message


def _scalar(field: Any, rng: random.Random) -> Any:
    if field.type == field.TYPE_BYTES:
        return some_text(rng).encode() if rng.random() < 0.7 else rng.randbytes(rng.randrange(40))
    if field.cpp_type == field.CPPTYPE_STRING:
        return some_text(rng)
    if field.cpp_type == field.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return rng.choice((0.0, -1.5, 1e308, float("inf"), float("nan"), rng.random()))
    if field.cpp_type == field.CPPTYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    bits = 32 if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 64
    if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        return rng.choice((0, 1, 2**bits - 1, rng.randrange(2**bits)))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return rng.choice((0, 1, -1, low, high, rng.randrange(low, high)))


def mangle(raw: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat or insert some bytes."""
    out = bytearray(raw)
    for _ in range(rng.randrange(1, 6)):
        kind, at = rng.randrange(5), rng.randrange(len(out) + 1)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 2:
            del out[at : at + rng.randrange(1, 20)]
        elif kind == 3:
            out[at:at] = out[at : at + rng.randrange(1, 40)]
        else:
            del out[at:]
    return bytes(out)
