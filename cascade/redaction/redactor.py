"""Replaces personal data and secrets by placeholders that are the same for the same value of one tenant."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from cascade.contract import JsonValue
from cascade.redaction.engine import Engine, PatternEngine, Span
from cascade.redaction.lately import Lately
from cascade.redaction.screening import hints_at
from cascade.redaction.secret_names import SECRET_HINT, names_secret
from cascade.text import flatten_messages

PLACEHOLDER = re.compile(r"<([A-Z][A-Z0-9_]{0,31})_[a-z]{8}>")
"""What stands in the place of a value: `<EMAIL_qhfkzzpa>`. Letters only, so that no detector finds it."""

# W3C trace context as it is written by us; whatever else a caller calls by its name is redacted.
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_PASSES = 8
_LATELY, _SHORT = 1024, 2048
"""So many texts are remembered with what was found in them, each of at most so many characters."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"

Messages = tuple[tuple[str, str], ...]


class Redactor:
    """Replaces what an engine and custom patterns find.

    The same value of the same tenant gets the same placeholder, so that a value that an answer copies from
    its question is still the same in both; other tenants' placeholders differ. What is redacted already stays
    as it is.

    Parameters
    ----------
    key : bytes
        The secret of the placeholders; at least 16 bytes.
    engine : Engine, optional
        The built-in detectors by default.
    custom : mapping of str to str
        Regular expressions by kind (`A-Z`, digits and `_`); they win over the engine. Where one has a group,
        the first group is the value.
    label_nodes : callable, optional
        Says whether a node's outputs are labels, which are never redacted.
    """

    def __init__(
        self,
        key: bytes,
        engine: Engine | None = None,
        custom: Mapping[str, str] | None = None,
        label_nodes: Callable[[str], bool] = lambda _: False,
    ) -> None:
        if len(key) < 16:
            raise ValueError("the key of the placeholders needs at least 16 bytes")
        self._key = key
        self._engine = engine or PatternEngine()
        self._custom = [(kind, re.compile(text)) for kind, text in (custom or {}).items()]
        self._label_nodes = label_nodes
        built_in = self._engine if isinstance(self._engine, PatternEngine) else None
        self._by_name = built_in is None or "SECRET" in built_in.kinds
        # Only they are known to find nothing in most texts.
        self._patterns = None if self._custom else built_in
        # What a request's rungs read is logged a moment later.
        self._clean = Lately()
        self._found_lately = lru_cache(maxsize=_LATELY)(self._found)
        self._tenant_key = lru_cache(maxsize=4096)(self._make_tenant_key)
        self.fingerprint = fingerprint(self._engine.name, custom or {})
        """Hash of what decides which texts change; a bundle records it. The key is not part of it."""

    def find(self, text: str) -> Sequence[Span]:
        """Give the values in a text, in order, without overlaps."""
        return self._found_lately(text) if len(text) <= _SHORT else self._found(text)

    def _found(self, text: str) -> Sequence[Span]:
        spans: list[Span] = []
        for span in self._all(text) if self._custom else self._engine.find(text):
            if span.start < span.end and not any(s.start < span.end and span.start < s.end for s in spans):
                spans.append(span)
        if spans and "<" in text:
            kept = [m.span() for m in PLACEHOLDER.finditer(text)]
            spans = [s for s in spans if not any(a < s.end and s.start < b for a, b in kept)]
        return tuple(sorted(spans, key=lambda span: span.start))

    def text(self, text: str, tenant: str = "") -> str:
        """Redact a text."""
        if self._patterns is not None and not hints_at(text):
            return text
        return self._replaced(text, lambda span: self.placeholder(span.kind, span.value, tenant))

    def texts(self, texts: Sequence[str], tenants: Sequence[str]) -> list[str]:
        """Redact several texts, each of a tenant."""
        redacted = list(texts)
        for i in self._clean.others(texts):
            redacted[i] = self.text(texts[i], tenants[i])
        return redacted

    def _replaced(self, text: str, by: Callable[[Span], str]) -> str:
        # Again until nothing is found: what stood close to a value may be one itself once that is gone, and a
        # text that is stored and redacted again must come out as one that is redacted once.
        for _ in range(_MAX_PASSES):
            spans = self.find(text)
            if not spans:
                break
            parts: list[str] = []
            at = 0
            for span in spans:
                parts += (text[at : span.start], by(span))
                at = span.end
            text = "".join(parts) + text[at:]
        return text

    def messages(self, messages: Messages, tenant: str = "") -> Messages:
        """Redact the contents of a chat."""
        return tuple((role, self.text(content, tenant)) for role, content in messages)

    def question(self, text: str, messages: Messages) -> tuple[str, Messages]:
        """Give what rungs below the teacher read of a question: its text, or its chat and the text of that.

        They read each value's kind only, `<EMAIL>`: which value it is says nothing about the answer, and a
        bundle must not depend on the key of the placeholders.
        """
        if messages:
            chat = tuple((role, self.kinds(content)) for role, content in messages)
            return flatten_messages(chat), chat
        return self.kinds(text), messages

    def questions(self, texts: Sequence[str], chats: Sequence[Messages]) -> tuple[list[str], list[Messages]]:
        """Give the same of several questions, each a text and the chat that it is of, if it is of one."""
        changed: Iterable[int] = range(len(texts))
        if self._patterns is not None and len(texts) > 1:  # one alone is sooner read by itself
            plain = ["" if chat else text for text, chat in zip(texts, chats, strict=True)]
            new = self._clean.others(plain)
            holding = {new[k] for k in self._patterns.holding([plain[i] for i in new])}
            self._clean.add([plain[i] for i in new if i not in holding])
            changed = [i for i, text in enumerate(plain) if "<" in text or i in holding or chats[i]]
        read, read_chats = list(texts), list(chats)
        for i in changed:
            read[i], read_chats[i] = self.question(texts[i], chats[i])
        return read, read_chats

    def kinds(self, text: str) -> str:
        """Replace each value, and each placeholder that is there already, by its kind."""
        if self._patterns is not None and "<" not in text and not hints_at(text):
            return text
        text = self._replaced(text, lambda span: f"<{span.kind}_anyvalue>")
        return PLACEHOLDER.sub(r"<\1>", text) if "<" in text else text

    def value(self, value: JsonValue, tenant: str = "") -> JsonValue:
        """Redact the texts in a JSON value; keys, numbers and the rest stay.

        What stands under the name of a secret, such as `password`, is one, whatever it looks like, as are all
        texts in a list or an object there; also in a text that is JSON itself, as a tool call's `arguments`.
        """
        if isinstance(value, str):
            return self.text(self._json_text(value, tenant), tenant)
        if isinstance(value, list | tuple):
            return [self.value(each, tenant) for each in value]
        if isinstance(value, dict):
            return {key: self._named(key, each, tenant) for key, each in value.items()}
        return value

    def output(self, node: str | None, value: JsonValue, tenant: str = "") -> JsonValue:
        """Redact an answer of a node; a label stays."""
        if isinstance(value, str) and node is not None and self._label_nodes(node):
            return value
        return self.value(value, tenant)

    def outputs(
        self, nodes: Sequence[str], values: Sequence[JsonValue], tenants: Sequence[str]
    ) -> Sequence[JsonValue]:
        """Redact answers of nodes, each for a tenant."""
        labels = {node: self._label_nodes(node) for node in set(nodes)}
        if all(labels.values()) and set(map(type, values)) == {str}:
            return values
        return [
            value if isinstance(value, str) and labels[node] else self.value(value, tenant)
            for node, value, tenant in zip(nodes, values, tenants, strict=True)
        ]

    def context(self, context: Mapping[str, str], tenant: str | None = None) -> dict[str, str]:
        """Redact a request's context.

        The tenant's name stays, since its records are found and kept by it; so does a `traceparent`, which
        names a trace by numbers drawn at random, a few of which would pass for an account's. Names of secrets
        are as in `value`.
        """
        whose = context.get("tenant", "") if tenant is None else tenant
        return {
            key: value if key == "tenant" or _is_trace(key, value) else str(self._named(key, value, whose))
            for key, value in context.items()
        }

    def contexts(self, contexts: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
        """Redact several requests' contexts."""
        some = [context for context in contexts if context]
        # Commonest: there is nothing in them but traces.
        if all(len(context) == 1 for context in some) and _are_traces([c.get("traceparent") for c in some]):
            return contexts
        return [self.context(context) if context else context for context in contexts]

    def _named(self, name: str, value: JsonValue, tenant: str) -> JsonValue:
        if self._by_name and names_secret(name):
            return self._secrets(value, tenant)
        return self.value(value, tenant)

    def _json_text(self, text: str, tenant: str) -> str:
        if not (self._by_name and text.lstrip()[:1] in ("{", "[") and SECRET_HINT.search(text)):
            return text
        try:
            found = json.loads(text)
            redacted = self.value(found, tenant)
        except (ValueError, RecursionError):  # it only looked like JSON
            return text
        # An escaped half of a surrogate pair, which no database takes, stays escaped.
        return text if redacted == found else json.dumps(redacted, ensure_ascii="\\u" in text)

    def _secrets(self, value: JsonValue, tenant: str) -> JsonValue:
        if isinstance(value, str):
            kept = not value or PLACEHOLDER.fullmatch(value)
            return value if kept else self.placeholder("SECRET", value, tenant)
        if isinstance(value, list | tuple):
            return [self._secrets(each, tenant) for each in value]
        if isinstance(value, dict):
            return {key: self._secrets(each, tenant) for key, each in value.items()}
        return value

    def placeholder(self, kind: str, value: str, tenant: str = "") -> str:
        """Give the placeholder of a value, `value` as `Span.value` has it."""
        digest = hmac.digest(self._tenant_key(tenant), f"{kind}:{value}".encode("utf-8", "replace"), "sha256")
        number = int.from_bytes(digest[:8], "big")
        letters = []
        for _ in range(8):
            number, letter = divmod(number, 26)
            letters.append(_LETTERS[letter])
        return f"<{kind}_{''.join(letters)}>"

    def _all(self, text: str) -> Iterator[Span]:
        for kind, pattern in self._custom:
            for m in pattern.finditer(text):
                group = 1 if pattern.groups and m[1] is not None else 0
                yield Span(m.start(group), m.end(group), kind, m[group])
        yield from self._engine.find(text)

    def _make_tenant_key(self, tenant: str) -> bytes:
        return hmac.digest(self._key, b"tenant:" + tenant.encode("utf-8", "replace"), "sha256")


def _is_trace(key: str, value: str) -> bool:
    return key == "traceparent" and _TRACE.fullmatch(value) is not None


def _are_traces(values: Sequence[str | None]) -> bool:
    """Say whether `_TRACE` matches each of them, in a sixth of the time."""
    if None in values:
        return False
    joined = "".join(cast("Sequence[str]", values))
    n = len(values)
    return (
        set(map(len, cast("Sequence[str]", values))) <= {55}
        and joined.isascii()
        and all(joined[at::55] == "-" * n for at in (2, 35, 52))
        and joined.encode().translate(None, b"0123456789abcdef") == b"---" * n
    )


def fingerprint(engine: str, custom: Mapping[str, str]) -> str:
    """Give the hash of what decides how texts are redacted."""
    rules = json.dumps([engine, sorted(custom.items())], ensure_ascii=True)
    return hashlib.sha256(rules.encode()).hexdigest()[:16]


def holds_placeholder(value: Any) -> bool:
    """Say whether a JSON value holds a placeholder, so that it is not what was said."""
    if isinstance(value, str):
        return "<" in value and PLACEHOLDER.search(value) is not None
    if isinstance(value, list | tuple):
        return any(map(holds_placeholder, value))
    return isinstance(value, dict) and any(map(holds_placeholder, value.values()))
