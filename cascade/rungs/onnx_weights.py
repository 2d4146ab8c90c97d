"""Reads the weights of a linear model's ONNX file without the `onnx` package, which serving has not.

Only what `training.linear.export` writes is understood: Gather, Cast, MatMul, Add and Softmax, with the two
initializers `weights` and `bias` as raw data. The fields' numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_OPERATORS = ["Gather", "Cast", "MatMul", "Add", "Softmax"]
_TYPES = {1: "<f4", 10: "<f2"}
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_OPERATOR = 4
_DIMS, _TYPE, _NAME, _RAW = 1, 2, 8, 9


def linear_weights(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Give weights of shape (n_columns, n_labels) and bias of shape (n_labels,).

    None where the file holds any other model, or cannot be read: then onnxruntime is to run it, or to say
    what is wrong with it.
    """
    try:
        graph = next(
            value for field, value in _fields(memoryview(path.read_bytes())) if field == _MODEL_GRAPH
        )
        operators: list[str] = []
        found: dict[str, NDArray[np.float32]] = {}
        for field, value in _fields(_message(graph)):
            if field == _GRAPH_NODE:
                named = dict(_fields(_message(value)))
                operators.append(bytes(_message(named[_NODE_OPERATOR])).decode())
            elif field == _GRAPH_INITIALIZER:
                name, array = _tensor(_message(value))
                found[name] = array
        weights, bias = found["weights"], found["bias"]
    except (OSError, ValueError, KeyError, IndexError, StopIteration):
        return None
    if operators != _OPERATORS or weights.ndim != 2 or bias.shape != weights.shape[1:]:
        return None
    return weights, bias


def _tensor(raw: memoryview) -> tuple[str, NDArray[np.float32]]:
    shape: list[int] = []
    kind, name, data = 0, "", memoryview(b"")
    for field, value in _fields(raw):
        if field == _DIMS:
            if isinstance(value, int):
                shape.append(value)
            else:  # packed
                at = 0
                while at < len(value):
                    number, at = _varint(value, at)
                    shape.append(number)
        elif field == _TYPE and isinstance(value, int):
            kind = value
        elif field == _NAME:
            name = bytes(_message(value)).decode()
        elif field == _RAW:
            data = _message(value)
    return name, np.frombuffer(data, dtype=_TYPES[kind]).reshape(shape).astype(np.float32)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _fields(raw: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Give number and value of each field of a protobuf message."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(raw, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(raw, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(raw):
            raise ValueError("cut short")
        yield tag >> 3, raw[at : at + size]
        at += size


def _varint(raw: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
