"""A node's contract: what a valid answer is.

The commonest contract is a set of labels; the general one is a JSON Schema. Schemas are compiled by
jsonschema-rs with remote references refused and with its linear-time regular expression engine, so that
neither a schema nor an answer can make the server fetch a URL or hang.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jsonschema_rs

from cascade.errors import ConfigError
from cascade.json_value import why_unsendable

JsonValue = Any
"""A JSON value as `json.loads` gives it."""

MAX_LABEL = 200
"""Longest label, in characters, that is taken where labels come from traffic."""


def _refuse_remote(uri: str) -> Any:
    raise ValueError(f"remote references are refused: {uri}")


@dataclass(frozen=True)
class Contract:
    """What a valid answer of a node is.

    Parameters
    ----------
    labels : tuple of str
        The labels of a label contract; empty for a schema contract.
    schema : dict, optional
        The JSON Schema of a schema contract.
    open_labels : bool
        Labels that only traffic knows: any short, non-empty string is an answer.

    Raises
    ------
    ConfigError
        Not exactly one of the three is given, a label is empty or repeated, or the schema is not valid.

    Examples
    --------
    >>> contract = Contract(labels=("continue", "stop"))
    >>> contract.check("stop") is None
    True
    >>> contract.check("pause")
    "'pause' is not one of the 2 labels"
    """

    labels: tuple[str, ...] = ()
    schema: dict[str, Any] | None = field(default=None, hash=False)
    open_labels: bool = False

    def __post_init__(self) -> None:
        if bool(self.labels) + (self.schema is not None) + self.open_labels != 1:
            raise ConfigError("a contract needs either labels or a schema")
        if len(set(self.labels)) != len(self.labels) or not all(self.labels):
            raise ConfigError("the labels of a contract must be distinct and not empty")
        if self.schema is not None:
            _ = self._validator

    @property
    def is_labels(self) -> bool:
        """Whether this is a label contract."""
        return self.schema is None

    @cached_property
    def _label_set(self) -> frozenset[str]:
        return frozenset(self.labels)

    @cached_property
    def _validator(self) -> Any:
        try:
            return jsonschema_rs.validator_for(
                self.schema or {},
                retriever=_refuse_remote,
                pattern_options=jsonschema_rs.RegexOptions(),
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise ConfigError(f"the contract's JSON Schema is not valid: {error}") from error

    def check(self, value: JsonValue, choices: Collection[str] = ()) -> str | None:
        """Say why `value` breaks the contract.

        Parameters
        ----------
        value : JSON value
            The answer.
        choices : collection of str
            The labels that are allowed now; empty for all.

        Returns
        -------
        str or None
            The reason, or None where the contract holds.
        """
        if self.schema is None:
            if not isinstance(value, str):
                return f"a label is a string, not {type(value).__name__}"
            if self.open_labels:
                if not value.strip() or len(value) > MAX_LABEL:
                    return f"a label has 1 to {MAX_LABEL} characters"
                if (unsendable := why_unsendable(value)) is not None:
                    return unsendable
            elif value not in self._label_set:
                return f"{value[:80]!r} is not one of the {len(self.labels)} labels"
            if choices and value not in choices:
                return f"{value[:80]!r} is not one of the request's choices"
            return None
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            at = "/".join(str(part) for part in error.instance_path)
            return f"at /{at}: {error.message[:200]}"
        except ValueError as error:
            return f"not a JSON value: {str(error)[:200]}"
        return why_unsendable(value)

    def check_each(self, values: Sequence[JsonValue], choices: Sequence[Collection[str]]) -> list[str | None]:
        """Say the same of several values, each with the labels that are allowed for it."""
        known = self._label_set
        if self.open_labels:  # many answers, few labels
            said = {value for value in values if type(value) is str}
            known = frozenset([value for value in said if self.check(value) is None])
        return [
            None if type(value) is str and value in known and not allowed else self.check(value, allowed)
            for value, allowed in zip(values, choices, strict=True)
        ]

    def answer_schema(self, choices: Collection[str] = ()) -> dict[str, Any]:
        """Give the JSON Schema that a chat rung's structured output is asked to follow.

        Labels are wrapped in an object, because the OpenAI API's `response_format` takes objects only.
        """
        if self.schema is not None:
            return self.schema
        allowed = [label for label in self.labels if not choices or label in choices] or list(choices)
        return {
            "type": "object",
            "properties": {"label": {"type": "string"} | ({"enum": allowed} if allowed else {})},
            "required": ["label"],
            "additionalProperties": False,
        }

    def parse(self, text: str) -> JsonValue:
        """Read a chat rung's reply.

        Raises
        ------
        ValueError
            The reply is not what the contract asks for: not JSON, where a schema wants JSON.
        """
        text = text.strip()
        if self.schema is not None:
            return json.loads(text)
        if text.startswith("{"):
            reply = json.loads(text)
            if isinstance(reply, dict) and isinstance(reply.get("label"), str):
                return reply["label"]
            raise ValueError("the reply is a JSON object without a string 'label'")
        return text.strip('"`')

    def to_json(self) -> dict[str, Any]:
        """Give the contract as the bundle's manifest stores it."""
        if self.open_labels:
            return {"open_labels": True}
        return {"schema": self.schema} if self.schema is not None else {"labels": list(self.labels)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Contract:
        """Read what `to_json` wrote."""
        return cls(tuple(data.get("labels", ())), data.get("schema"), bool(data.get("open_labels", False)))
