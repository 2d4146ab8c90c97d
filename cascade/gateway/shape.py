"""The shape of an answer: how a node's value stands in a chat completion, and how it is read from one.

A node knows values, labels mostly; an agent knows completions: a tool call, a JSON text, a plain text. What a
request offers (`tools`, `response_format`) says which of them it waits for, so that the teacher's completion
can be read as a value and a locally settled value be given in the shape that the agent expects.

For a label contract the value is

- of a tool call: the one argument, where one tool is offered that takes one text; else the tool's name where
  it is called without arguments, and `name({"argument": "value"})` where it is not;
- of a JSON text under a schema with one property that is a text: that text; else the compact JSON;
- of a plain text: the text without white space around it.

For a JSON Schema contract it is the JSON value itself; of a tool call, the arguments where one tool is
offered, else `{"name": ..., "arguments": ...}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from cascade.code_fence import unfenced
from cascade.contract import Contract, JsonValue
from cascade.errors import ConfigError

NO_TOOL, SEVERAL_TOOLS = "(no tool)", "(several tools)"
"""Labels of the teacher's completions that no local answer can give: where one is predicted, the call goes up
the ladder. Leaving such calls out of the truth instead would make the certificate blind to them."""

_CALL = re.compile(r"([\w.-]{1,128})(?:\((\{.*\})\))?", re.DOTALL)
_OTHER_SHAPE = ("functions", "function_call", "audio")
_FRONTIER_ONLY = ("web_search_options", "logprobs", "top_logprobs")
"""What only the frontier can do, whose answer looks like any other for it."""


class Unfit(ValueError):
    """A value or a completion does not have the shape that the request asks for."""


class UnfitRequest(Unfit):
    """A request asks for what no answer of a node looks like. `field` is what asks for it."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class Wordless(Unfit):
    """A completion says nothing at all."""


@dataclass(frozen=True)
class AnswerShape:
    """How the answer to one request looks.

    Attributes
    ----------
    kind : {"text", "json", "tool"}
    labels : bool
        Whether the node has a label contract.
    tools : mapping of str to JSON Schema
        The parameters of each tool that may be called.
    forced : bool
        Whether the request demands a tool call.
    schema : JSON Schema, optional
        What a JSON text has to follow.
    """

    kind: Literal["text", "json", "tool"]
    labels: bool
    tools: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    forced: bool = False
    schema: dict[str, Any] | None = None

    @property
    def says_json(self) -> bool:
        """Whether a text says its value as JSON."""
        return self.kind == "json" or (self.kind == "text" and not self.labels)

    @property
    def _only_argument(self) -> str | None:
        return _only_text(next(iter(self.tools.values()))) if len(self.tools) == 1 else None

    def read(self, message: Mapping[str, Any]) -> JsonValue:
        """Read an assistant's message as the node's value.

        Raises
        ------
        Unfit
            It has no value of this shape.
        """
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list):
            raise Unfit("the completion's tool calls are no list")
        if calls and self.kind != "tool":
            raise Unfit("the completion calls a tool that was not offered")
        if self.kind == "tool":
            return self._read_calls(calls)
        content = message.get("content")
        if not isinstance(content, str) or not content.strip():
            raise Wordless("the completion has no text")
        if not self.says_json:
            return content.strip()
        value = _loads(unfenced(content), "text")
        if not self.labels:
            return value
        said = _only_value(value, _only_text(self.schema))
        return _dumps(value) if said is None else said

    def _read_calls(self, calls: list[Any]) -> JsonValue:
        if len(calls) != 1:
            if not self.labels:
                raise Unfit(f"the completion calls {len(calls)} tools")
            return SEVERAL_TOOLS if calls else NO_TOOL
        function = calls[0].get("function") if isinstance(calls[0], Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise Unfit("the completion's tool call is no call of a function")
        name = function["name"]
        arguments = _loads(function.get("arguments") or "{}", "arguments")
        if not isinstance(arguments, dict):
            raise Unfit("the arguments of the tool call are no JSON object")
        if self.labels:
            said = _only_value(arguments, self._only_argument)
            if said is not None:
                return said
            return f"{name}({_dumps(arguments)})" if arguments else name
        return arguments if len(self.tools) == 1 else {"name": name, "arguments": arguments}

    def message(self, value: JsonValue, call_id: str) -> dict[str, Any]:
        """Give the assistant's message that says `value`.

        Parameters
        ----------
        value : JSON value
            Satisfies the node's contract.
        call_id : str
            The id of the tool call, where it is one.

        Raises
        ------
        Unfit
            The value cannot be said in this shape, or not under this request's schema.
        """
        said: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        if self.kind == "tool":
            name, arguments = self._call(value)
            function = {"name": name, "arguments": _dumps(arguments)}
            said["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
        elif self.kind == "text":
            said["content"] = value if isinstance(value, str) else _dumps(value)
        else:
            said["content"] = _dumps(self._json(value))
        return said

    def _json(self, value: JsonValue) -> JsonValue:
        if self.labels:
            name = _only_text(self.schema)
            value = {name: value} if name is not None else _loads(value, "label")
        if self.schema is not None:
            _fits(value, self.schema)
        elif not isinstance(value, dict):
            raise Unfit("the response format is a JSON object")
        return value

    def _call(self, value: JsonValue) -> tuple[str, dict[str, Any]]:
        if value in (NO_TOOL, SEVERAL_TOOLS):
            raise Unfit("no local answer can be that")
        only = self._only_argument if self.labels else None
        if only is not None:
            name, arguments = next(iter(self.tools)), {only: value}
        elif self.labels:
            match = _CALL.fullmatch(value) if isinstance(value, str) else None
            if match is None:
                raise Unfit(f"{str(value)[:80]!r} is no call of one tool")
            name, arguments = match[1], _loads(match[2] or "{}", "arguments")
        elif len(self.tools) == 1:
            name, arguments = next(iter(self.tools)), value
        else:
            value = value if isinstance(value, dict) else {}
            name, arguments = value.get("name"), value.get("arguments")
        if name not in self.tools or not isinstance(arguments, dict):
            raise Unfit(f"the tool {str(name)[:80]!r} is not offered")
        _fits(arguments, self.tools[name])
        return name, arguments

    def refuses(self, value: JsonValue) -> str | None:
        """Say why a value cannot be given as this request's answer; None where it can."""
        try:
            self.message(value, "")
        except Unfit as error:
            return str(error)
        return None


def shape_of(body: Mapping[str, Any], contract: Contract, by_ladder: bool = True) -> AnswerShape:
    """Give the shape of the answer that a chat completion request waits for.

    Parameters
    ----------
    body : JSON object
        The request.
    contract : Contract
        The node's.
    by_ladder : bool
        Whether a local answer must be able to have it; else only the frontier's is to be read.

    Raises
    ------
    UnfitRequest
        No local answer can have it: several choices, log probabilities, audio, tools that are no functions.
    """
    if body.get("n") not in (None, 1):
        raise UnfitRequest("n", "the request wants several choices")
    for name in _OTHER_SHAPE + (_FRONTIER_ONLY if by_ladder else ()):
        if body.get(name):
            raise UnfitRequest(name, f"the request has {name!r}")
    if (body.get("modalities") or ["text"]) != ["text"]:
        raise UnfitRequest("modalities", "the request wants more than text")
    choice = body.get("tool_choice")
    if body.get("tools") and choice != "none":
        tools = _tools(body["tools"], choice)
        return AnswerShape("tool", contract.is_labels, tools, forced=choice not in (None, "auto"))
    wanted = body.get("response_format")
    if not wanted or not isinstance(wanted, Mapping) or wanted.get("type") == "text":
        return AnswerShape("text", contract.is_labels)
    if wanted.get("type") == "json_object":
        return AnswerShape("json", contract.is_labels)
    described = wanted.get("json_schema")
    schema = described.get("schema") if isinstance(described, Mapping) else None
    if wanted.get("type") != "json_schema" or not isinstance(schema, dict):
        raise UnfitRequest("response_format", "the response format is none that is known")
    return AnswerShape("json", contract.is_labels, schema=schema)


def _only_text(schema: Mapping[str, Any] | None) -> str | None:
    """Give the name of a schema's only property, where that is a text."""
    properties = (schema or {}).get("properties")
    if not isinstance(properties, dict) or len(properties) != 1:
        return None
    name, kind = next(iter(properties.items()))
    if not isinstance(kind, dict):
        return None
    allowed = kind.get("enum", [0])
    is_text = kind.get("type") == "string" or (
        "type" not in kind and all(isinstance(v, str) for v in allowed)
    )
    return str(name) if is_text else None


def _only_value(value: JsonValue, name: str | None) -> str | None:
    """Give the text that stands alone in an object under that name."""
    if name is None or not isinstance(value, dict) or list(value) != [name]:
        return None
    return value[name] if isinstance(value[name], str) else None


def _tools(offered: Any, choice: Any) -> dict[str, dict[str, Any]]:
    tools: dict[str, dict[str, Any]] = {}
    for tool in offered if isinstance(offered, list) else [None]:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise UnfitRequest("tools", "a tool is no function")
        parameters = function.get("parameters")
        tools[function["name"]] = parameters if isinstance(parameters, dict) else {}
    if isinstance(choice, Mapping):
        function = choice.get("function") if choice.get("type") == "function" else None
        named = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(named, str) or named not in tools:
            raise UnfitRequest("tool_choice", "the tool choice names no function that is offered")
        return {named: tools[named]}
    return tools


def _fits(value: JsonValue, schema: dict[str, Any]) -> None:
    try:
        contract = _compiled(_dumps(schema))
    except ConfigError as error:
        raise Unfit("the request's JSON Schema is not valid") from error
    broken = contract.check(value)
    if broken is not None:
        raise Unfit(f"the request's schema: {broken}")


@lru_cache(maxsize=512)
def _compiled(schema: str) -> Contract:
    return Contract(schema=json.loads(schema))


def _loads(text: Any, what: str) -> JsonValue:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise Unfit(f"the {what} is not JSON") from None


def _dumps(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
