"""The contract that a group's answers follow: labels, a set of tools, a JSON Schema, or none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cascade.contract import Contract, JsonValue
from cascade.gateway.shape import NO_TOOL, SEVERAL_TOOLS, Unfit, shape_of
from cascade.traffic import Call

MIN_TIMES = 2
"""A label occurs at least so often; what occurs once is noise or free text."""

COVERED = 0.9
"""Share of the calls that the labels must cover."""

MAX_LABELS = 500
MAX_DISTINCT = 0.35
"""Free text is nearly all distinct; labels recur."""

_LONGEST_LABEL = 120
_OPEN = Contract(open_labels=True)


@dataclass(frozen=True, slots=True)
class Inferred:
    """A contract, as far as answers show it.

    Attributes
    ----------
    kind : {"labels", "tools", "schema"}
    labels : tuple of str
        The labels, or the names of the tools, the commonest first.
    schema : JSON Schema or None
        Of the answers, where they are JSON.
    values : tuple of (str or None)
        The label of each call, or the name of the tool it calls; None where it has none of them.
    """

    kind: Literal["labels", "tools", "schema"]
    labels: tuple[str, ...]
    schema: dict[str, Any] | None
    values: tuple[str | None, ...]


def infer(calls: Sequence[Call]) -> Inferred | None:
    """Infer the contract of calls of one kind; None where their answers are open."""
    read = [_read(call) for call in calls]
    texts = [value if isinstance(value, str) else None for value in read]
    labels = _closed(texts)
    if labels is not None:
        known = set(labels)
        return Inferred("labels", labels, None, tuple(t if t in known else None for t in texts))
    names = [_tool(call) for call in calls]
    tools = _closed(names)
    if tools is not None:
        values = tuple(name if name in tools else None for name in names)
        return Inferred("tools", tools, _call_schema(calls, tools), values)
    schema = _schema(calls)
    return Inferred("schema", (), schema, tuple([None] * len(calls))) if schema is not None else None


def _read(call: Call) -> JsonValue:
    body = {"tools": call.tools, "response_format": call.response_format}
    try:
        return shape_of({k: v for k, v in body.items() if v}, _OPEN).read(call.output)
    except Unfit:
        return None


def _closed(values: Sequence[str | None]) -> tuple[str, ...] | None:
    """Give the labels where values come from a closed set."""
    n = len(values)
    counts = Counter(value for value in values if value is not None)
    recurring = [(value, count) for value, count in counts.most_common() if count >= MIN_TIMES]
    real = [value for value, _ in recurring if value not in (NO_TOOL, SEVERAL_TOOLS)]
    covered = sum(count for _, count in recurring)
    if len(real) < 2 or len(real) > MAX_LABELS or covered < COVERED * n or len(counts) > MAX_DISTINCT * n:
        return None
    if any(len(value) > _LONGEST_LABEL or "\n" in value for value in real):
        return None
    return tuple(real)


def _tool(call: Call) -> str | None:
    output = call.output if isinstance(call.output, Mapping) else {}
    calls = output.get("tool_calls") or []
    if not call.tools:
        return None
    if len(calls) != 1:
        return SEVERAL_TOOLS if calls else NO_TOOL
    function = calls[0].get("function") if isinstance(calls[0], Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None


def _call_schema(calls: Sequence[Call], tools: Sequence[str]) -> dict[str, Any]:
    """Give the schema of `{"name", "arguments"}` for the tools that were called, as they were offered."""
    offered: dict[str, Any] = {}
    for call in calls:
        for tool in call.tools or []:
            function = tool.get("function") if isinstance(tool, Mapping) else None
            if isinstance(function, Mapping) and function.get("name") in tools:
                offered.setdefault(str(function["name"]), function.get("parameters") or {"type": "object"})
    return {
        "oneOf": [
            {
                "type": "object", "additionalProperties": False, "required": ["name", "arguments"],
                "properties": {"name": {"const": name}, "arguments": offered.get(name, {"type": "object"})},
            }
            for name in tools
        ]
    }  # fmt: skip


def _schema(calls: Sequence[Call]) -> dict[str, Any] | None:
    """Give the schema that is asked for, or that the answers follow."""
    wanted = [
        (c.response_format or {}).get("json_schema") for c in calls if isinstance(c.response_format, dict)
    ]
    asked = [w["schema"] for w in wanted if isinstance(w, dict) and isinstance(w.get("schema"), dict)]
    if len(asked) >= COVERED * len(calls):
        return dict(asked[0])
    objects = []
    for call in calls:
        content = call.output.get("content") if isinstance(call.output, Mapping) else None
        try:
            value = json.loads(content) if isinstance(content, str) else None
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and value:
            objects.append(value)
    if len(objects) < COVERED * len(calls):
        return None
    keys = Counter(key for each in objects for key in each)
    always = [key for key, count in keys.items() if count == len(objects)]
    if not always:
        return None
    properties = {key: _type_of([each[key] for each in objects if key in each]) for key in keys}
    return {"type": "object", "required": always, "properties": properties}


def _type_of(values: Sequence[JsonValue]) -> dict[str, Any]:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    kinds = sorted({names.get(type(value), "null") for value in values})
    found: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    texts = [value for value in values if isinstance(value, str)]
    labels = _closed(texts) if len(texts) == len(values) else None
    return found | {"enum": sorted(labels)} if labels and len(set(texts)) == len(labels) else found
