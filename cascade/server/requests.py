"""Request messages become questions, or the caller learns which field is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cascade.ask import Ask
from cascade.config.nearest import suggest
from cascade.config.server import LimitsConfig
from cascade.contract import MAX_LABEL, Contract
from cascade.errors import InvalidInput
from cascade.server.gone import Gone
from cascade.text import flatten_messages

ROLES = ("system", "user", "assistant", "tool", "developer")
MAX_NODE = 64
_NO_DEADLINE = 10 * 365 * 86400.0


def deadline_of(context: Any) -> float | None:
    """Give the `time.monotonic()` at which a call's caller gives up, None where it never does."""
    remaining = context.time_remaining()
    # Without a deadline gRPC gives the time to the end of its clock.
    if remaining is None or remaining > _NO_DEADLINE:
        return None
    return time.monotonic() + float(remaining)


class Asks:
    """Checks requests and makes them questions.

    Parameters
    ----------
    limits : LimitsConfig
    contract_of : callable
        `Deciding.contract`; asked only where a request names choices.
    """

    def __init__(self, limits: LimitsConfig, contract_of: Callable[[str], Contract | None]) -> None:
        self._limits = limits
        self._max_text, self._max_id = limits.max_text_bytes, limits.max_request_id_bytes
        self._contract_of = contract_of

    def ask(
        self,
        request: Any,
        deadline: float | None,
        tenant: str | None = None,
        gone: Gone | None = None,
        on_wait: Callable[[], object] | None = None,
    ) -> Ask:
        """Make a `DecideRequest` a question.

        Parameters
        ----------
        request : DecideRequest
        deadline : float, optional
            `time.monotonic()` at which the caller gives up.
        tenant : str, optional
            The tenant of the caller's key, which takes the place of what the request says.
        gone : Gone, optional
            Tells when the caller goes away.
        on_wait : callable, optional
            See `Ask`.

        Raises
        ------
        InvalidInput
            A field is wrong. Whose message has the request as a part says so by `InvalidInput.within`.
        UnknownNode
            Choices are named for a node that does not exist.
        """
        node, request_id, text = request.node, request.request_id, request.text
        if not node:
            raise InvalidInput("node", "must name the node that is asked")
        if len(node) > MAX_NODE:
            raise InvalidInput("node", f"a node's name has at most {MAX_NODE} characters, found {len(node)}")
        if request_id:
            _bounded("request_id", request_id, self._max_id)
        messages: tuple[tuple[str, str], ...] = ()
        if text:
            _bounded("text", text, self._max_text)
            if text.isspace():
                raise InvalidInput("text", "holds nothing but white space")
        elif request.HasField("messages"):
            messages = self._messages(request.messages.messages, "messages")
            text = flatten_messages(messages)
        elif request.HasField("text"):
            raise InvalidInput("text", "is empty")
        else:
            raise InvalidInput("input", "one of text and messages must be set")
        context: dict[str, str] = {}
        if said := request.context:
            context = dict(said)
            self._check_context(context, "context")
        if tenant is not None:
            context["tenant"] = tenant
        choices: tuple[str, ...] = ()
        if allowed := request.choices:  # to ask is a third of what it takes to make none of them a tuple
            choices = tuple(allowed)
            self._check_choices(choices, self._contract_of(node), "choices")
        return Ask(
            node, text, messages, context, request_id, choices, deadline, gone, None, None, None, on_wait
        )  # fmt: skip

    def _messages(self, messages: Sequence[Any], field: str) -> tuple[tuple[str, str], ...]:
        limits = self._limits
        if not messages:
            raise InvalidInput(field, "holds no message; at least one is needed")
        if len(messages) > limits.max_messages:
            raise InvalidInput(field, f"holds {len(messages)} messages; the limit is {limits.max_messages}")
        size = 0
        chat = []
        for index, message in enumerate(messages):
            role, content = message.role, message.content
            if role not in ROLES:
                known = ", ".join(ROLES)
                raise InvalidInput(
                    f"{field}.messages[{index}].role", f"{role[:40]!r} is not one of the roles: {known}"
                )
            size += _size(content)
            chat.append((role, content))
        if size > limits.max_text_bytes:
            raise InvalidInput(field, f"have {size} bytes of UTF-8; the limit is {limits.max_text_bytes}")
        if all(not content or content.isspace() for _, content in chat):
            raise InvalidInput(field, "all contents are empty")
        return tuple(chat)

    def _check_context(self, context: dict[str, str], field: str) -> None:
        limits = self._limits
        if len(context) > limits.max_context_entries:
            raise InvalidInput(
                field, f"has {len(context)} entries; the limit is {limits.max_context_entries}"
            )
        if "" in context:
            raise InvalidInput(field, "has an entry with an empty key")
        size = sum(_size(key) + _size(value) for key, value in context.items())
        if size > limits.max_text_bytes:
            raise InvalidInput(field, f"has {size} bytes of UTF-8; the limit is {limits.max_text_bytes}")

    def _check_choices(self, choices: tuple[str, ...], contract: Contract | None, field: str) -> None:
        if contract is not None and not contract.is_labels:
            raise InvalidInput(
                field, "the node's contract is a JSON Schema; only label contracts take choices"
            )
        closed = frozenset(contract.labels) if contract is not None and not contract.open_labels else None
        seen = set()
        for index, label in enumerate(choices):
            if closed is not None and label not in closed:
                raise InvalidInput(f"{field}[{index}]", _stranger(label, closed))
            if closed is None and (not label.strip() or len(label) > MAX_LABEL):
                raise InvalidInput(f"{field}[{index}]", f"a label has 1 to {MAX_LABEL} characters")
            if label in seen:
                raise InvalidInput(f"{field}[{index}]", f"{label[:80]!r} is named twice")
            seen.add(label)
        if closed is None and sum(map(_size, choices)) > self._limits.max_text_bytes:
            raise InvalidInput(field, f"have more than {self._limits.max_text_bytes} bytes of UTF-8")


def _bounded(field: str, value: str, limit: int) -> None:
    # A character has at most 4 bytes, so short texts are not encoded for this.
    if len(value) * 4 > limit and (size := _size(value)) > limit:
        raise InvalidInput(field, f"has {size} bytes of UTF-8; the limit is {limit}")


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def _stranger(label: str, labels: Iterable[str]) -> str:
    known = sorted(labels)
    hint = suggest(label, known, "labels")
    if len(known) > 20 and hint.startswith("the labels are"):
        hint = f"the node has {len(known)} labels, such as {known[0]!r}"
    return f"{label[:80]!r} is not one of the node's labels; {hint}"
