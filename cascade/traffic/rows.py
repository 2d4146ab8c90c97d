"""How records become rows of the traffic database, and rows become records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any, cast

from cascade.contract import JsonValue
from cascade.errors import StoreError
from cascade.redaction.redactor import Redactor
from cascade.traffic.cipher import Cipher
from cascade.traffic.compact_json import texts_as_json, to_json, values_as_json
from cascade.traffic.database import Row
from cascade.traffic.decision_columns import DecisionColumns
from cascade.traffic.records import Call, Decision, Labelled, Messages, Outcome
from cascade.traffic.redacted import (
    Said,
    redacted_call,
    redacted_labelled,
    redacted_outcome,
    redacted_said,
)

CALL_COLUMNS = (
    "call_id, time, tenant, node, model, messages, tools, response_format, output, context, usd, "
    "input_tokens, output_tokens, latency_ms, error"
)
INSERT_CALL = (
    f"INSERT INTO calls ({CALL_COLUMNS}) VALUES ({', '.join('?' * 15)}) ON CONFLICT (call_id) DO NOTHING"
)
INSERT_OUTCOME = (
    "INSERT INTO outcomes (outcome_id, decision_id, time, output, is_right) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (outcome_id) DO NOTHING"
)
LABELLED_COLUMNS = "node, id, text, messages, output, session, time, tenant, context"
INSERT_LABELLED = (
    "INSERT INTO labelled (node, id, text, messages, output, session, time, imported_at, tenant, context) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node, id) DO NOTHING"
)


class Rows:
    """Makes records rows, and rows records.

    What was said (texts, chats, outputs, contexts, reasons) is redacted on the way where there is a redactor,
    and encrypted where there is a cipher. A value that was stored without encryption is read as it is, so
    that it can be switched on later.

    Parameters
    ----------
    cipher : Cipher, optional
    redactor : Redactor, optional
    """

    def __init__(self, cipher: Cipher | None = None, redactor: Redactor | None = None) -> None:
        self._cipher = cipher
        self.redactor = redactor

    def decisions(self, decisions: Sequence[Decision]) -> DecisionColumns:
        """Decisions as they are written, at least one. Raises like `to_json`."""
        ids, nodes = [of.decision_id for of in decisions], [of.node for of in decisions]
        times, choices = [of.time for of in decisions], [of.choices for of in decisions]
        if not all(map(isfinite, times)):
            raise _not_finite(next(time for time in times if not isfinite(time)))
        n = len(ids)
        said: Said = (
            [of.text for of in decisions],
            [of.messages for of in decisions],
            [of.context for of in decisions],
            [of.output for of in decisions],
            [of.attempts for of in decisions],
            [of.error for of in decisions],
        )
        if self.redactor is not None:
            said = redacted_said(said, nodes, self.redactor)
        texts, chats, contexts, outputs, attempts, errors = said
        in_words = set(map(type, outputs)) == {str}
        own: dict[str, Sequence[Any]] = {
            "decision_id": ids,
            "output": texts_as_json(cast(Any, outputs)) if in_words else list(map(to_json, outputs)),
            "attempts": values_as_json(attempts),
        }
        asked: dict[str, Sequence[Any]] = {
            "node": nodes,
            "choices": texts_as_json(choices) if any(choices) else ["[]"] * n,
            "bundle_version": [of.bundle_version for of in decisions],
            "mode": [of.mode for of in decisions],
        }
        answered: dict[str, Sequence[Any]] = {
            "rung": [of.rung for of in decisions],
            "by_teacher": [1 if of.by_teacher else 0 for of in decisions],
            "usd": [of.usd for of in decisions],
            "input_tokens": [of.input_tokens for of in decisions],
            "output_tokens": [of.output_tokens for of in decisions],
        }
        timed: dict[str, Sequence[Any]] = {
            "time": times,
            "latency_ms": [of.latency_ms for of in decisions],
        }
        shared: dict[str, Any] = {}
        for columns in (asked, answered, timed):  # not each by itself: every other choice is a statement
            if all(values.count(values[0]) == n for values in columns.values()):
                shared.update({name: values[0] for name, values in columns.items()})
            else:
                own.update(columns)
        if any(contexts) or self._cipher is not None:
            own["context"] = values_as_json(contexts)
            tenants = [context.get("tenant") for context in contexts]
            if tenants.count(None) < n:
                own["tenant"] = tenants
        else:
            shared["context"] = "{}"
        if chats.count(None) < n:
            own["messages"] = [_optional_json(chat) for chat in chats]
        for name, values in (
            ("text", texts), ("confidence", [of.confidence for of in decisions]),
            ("request_id", [of.request_id for of in decisions]), ("error", errors),
        ):  # fmt: skip
            if values.count(None) < n:
                own[name] = values
        for name in _SAID if self._cipher is not None else _SAID_AS_TEXT:
            if name in own and (self._cipher is not None or _MARK in "".join(filter(None, own[name]))):
                own[name] = [self._seal(text, name, id_) for text, id_ in zip(own[name], ids, strict=True)]
        return DecisionColumns(shared, own)

    def decision_of(self, row: Row) -> Decision:
        """The decision in a row that begins with `DECISION_COLUMNS`."""
        id_ = row[0]
        return Decision(
            decision_id=id_,
            node=row[1],
            time=row[2],
            text=self.opened(row[3], "text", id_),
            choices=tuple(json.loads(row[4])),
            context=self.value_of(row[5], "context", id_),
            output=self.value_of(row[6], "output", id_),
            rung=row[7],
            by_teacher=bool(row[8]),
            confidence=row[9],
            bundle_version=row[10],
            mode=row[11],
            attempts=self.value_of(row[12], "attempts", id_),
            usd=row[13],
            input_tokens=row[14],
            output_tokens=row[15],
            latency_ms=row[16],
            request_id=row[17],
            messages=self.messages_of(row[19], id_),
            error=self.opened(row[20], "error", id_),
        )

    def call_row(self, call: Call) -> Row:
        """The values of `INSERT_CALL`. Raises like `to_json`."""
        if self.redactor is not None:
            call = redacted_call(call, self.redactor)
        id_ = call.call_id
        return (
            id_,
            _finite(call.time),
            call.tenant,
            call.node,
            call.model,
            self._seal(to_json(call.messages), "messages", id_),
            _optional_json(call.tools),
            _optional_json(call.response_format),
            self._seal(_optional_json(call.output), "output", id_),
            self._seal(to_json(call.context), "context", id_),
            _finite(call.usd),
            call.input_tokens,
            call.output_tokens,
            _finite(call.latency_ms),
            self._seal(call.error, "error", id_),
        )

    def call_of(self, row: Row) -> Call:
        """The call in a row that begins with `CALL_COLUMNS`."""
        id_ = row[0]
        return Call(
            call_id=id_,
            time=row[1],
            tenant=row[2],
            node=row[3],
            model=row[4],
            messages=self.value_of(row[5], "messages", id_),
            tools=None if row[6] is None else json.loads(row[6]),
            response_format=None if row[7] is None else json.loads(row[7]),
            output=self.value_of(row[8], "output", id_),
            context=self.value_of(row[9], "context", id_),
            usd=row[10],
            input_tokens=row[11],
            output_tokens=row[12],
            latency_ms=row[13],
            error=self.opened(row[14], "error", id_),
        )

    def outcome_row(self, outcome: Outcome) -> Row:
        """The values of `INSERT_OUTCOME`. Raises like `to_json`."""
        if self.redactor is not None:
            outcome = redacted_outcome(outcome, self.redactor)
        return (
            outcome.outcome_id,
            outcome.decision_id,
            _finite(outcome.time),
            self._seal(_optional_json(outcome.output), "output", outcome.outcome_id),
            None if outcome.right is None else int(outcome.right),
        )

    def labelled_row(self, record: Labelled, now: float) -> Row:
        """The values of `INSERT_LABELLED`. Raises like `to_json`."""
        if self.redactor is not None:
            record = redacted_labelled(record, self.redactor)
        id_ = record.id
        return (
            record.node,
            id_,
            self._seal(record.text, "text", id_),
            self._seal(_optional_json(record.messages), "messages", id_),
            self._seal(to_json(record.output), "output", id_),
            record.session,
            record.time,
            now,
            record.tenant,
            self._seal(to_json(dict(record.context)), "context", id_) if record.context else None,
        )

    def labelled_of(self, row: Row) -> Labelled:
        """The imported record in a row that begins with `LABELLED_COLUMNS`."""
        id_ = row[1]
        return Labelled(
            node=row[0],
            id=id_,
            text=self.opened(row[2], "text", id_),
            messages=self.messages_of(row[3], id_),
            output=self.value_of(row[4], "output", id_),
            session=row[5],
            time=row[6],
            tenant=row[7],
            context=self.value_of(row[8], "context", id_) or {},
        )

    def opened(self, column: str | None, name: str, id_: str) -> str | None:
        """The text in a column of the row with that id. Raises StoreError where it cannot be decrypted."""
        if column is None or not column.startswith(_MARK):
            return column
        if column.startswith(_PLAIN):
            return column[len(_PLAIN) :]
        if self._cipher is None:
            raise StoreError(
                "the traffic is encrypted, and no key is configured: set `encryption` in cascade.yaml"
            )
        return self._cipher.open(column[len(_SEALED) :], f"{name}:{id_}")

    def value_of(self, column: str | None, name: str, id_: str) -> Any:
        """The JSON value in a column; None where there is none."""
        text = self.opened(column, name, id_)
        return None if text is None else json.loads(text)

    def messages_of(self, column: str | None, id_: str) -> Messages | None:
        """The chat in a `messages` column."""
        value = self.value_of(column, "messages", id_)
        return None if value is None else tuple((role, content) for role, content in value)

    def sealed(self, value: JsonValue, name: str, id_: str) -> str:
        """A JSON value as a column holds it: what `value_of` reads. Raises like `to_json`."""
        return self._seal(to_json(value), name, id_) or ""

    def resealed(self, column: str | None, name: str, id_: str) -> str | None:
        """Give a column's value as it is encrypted by the current key; the same where it is already."""
        if column is None or self._cipher is None or column.startswith(f"{_SEALED}{self._cipher.current}:"):
            return column
        return self._seal(self.opened(column, name, id_), name, id_)

    def _seal(self, text: str | None, name: str, id_: str) -> str | None:
        if text is None:
            return None
        if self._cipher is not None:
            return _SEALED + self._cipher.seal(text, f"{name}:{id_}")
        return _PLAIN + text if text.startswith(_MARK) else text


# A stored text that begins with this control character says with the next one what follows. JSON never does.
_MARK = "\x01"
_PLAIN, _SEALED = _MARK + "p", _MARK + "s"
# What a cipher seals, and what of it is no JSON.
_SAID_AS_TEXT = ("text", "error")
_SAID = (*_SAID_AS_TEXT, "messages", "context", "output", "attempts")


def _optional_json(value: JsonValue) -> str | None:
    return None if value is None else to_json(value)


def _finite(value: float) -> float:
    # SQLite makes NaN NULL and PostgreSQL keeps it; neither is a time.
    if not isfinite(value):
        raise _not_finite(value)
    return value


def _not_finite(value: float) -> ValueError:
    return ValueError(f"{value} is not a finite number")
