"""Responses that differ in ids and numbers only: protobuf writes one of them, and the others are filled in.

Of a decision that one rung settled at once, all but its id, the request's and four numbers is the same for
all with one label, and lies at the same place each time. To put those six there takes a quarter of what it
takes to set each field of a message.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from struct import Struct, unpack

from cascade.ask import Attempt, Decided, Mode
from cascade.contract import MAX_LABEL

Write = Callable[[Decided], bytes]
"""Writes a message that holds a decision, field by field."""

_ID_SIZES = frozenset({0, 16, 20, 21, 22, 24, 26, 27, 32, 36})
"""Bytes of a request id that are usual: none, a UUID, a ULID and the like. A template for each of any sizes
would be made more often than used."""

_Fill = Callable[[bytes, float, float, float, float, bytes], bytes]
_Key = tuple[Write, str, str, str, Mode, int, int]

_MOST, _PATIENCE = 1024, 1 << 16
"""So many templates are kept, until so many messages found none: a template takes as long as 14 messages that
are written field by field. To let the oldest go would make one for each message where there are more."""


def written(decided: Decided, write: Write) -> bytes:
    """Give what `write` gives of a decision.

    Parameters
    ----------
    decided : Decided
    write : callable
        One function for each kind of message, because templates are kept by it.
    """
    output, attempts, sure = decided.output, decided.attempts, decided.confidence
    if len(attempts) == 1 and sure is not None and type(output) is str and len(output) <= MAX_LABEL:
        (attempt,) = attempts
        before, after, ms = attempt.p_right_before, attempt.confidence_after, attempt.latency_ms
        # What is absent is not in the message, nor is a zero in most places.
        full = before is not None and after is not None and ms and attempt.rung == decided.rung
        if full and not (attempt.reason or decided.usd or decided.input_tokens or decided.output_tokens):
            id_, request_id = decided.decision_id.encode(), decided.request_id.encode()
            size = len(request_id)
            if size in _ID_SIZES:
                fill = _templates[
                    write, output, decided.rung, decided.bundle_version, decided.mode, len(id_), size
                ]
                if fill is not None:
                    return fill(id_, sure, before, after, ms, request_id)  # type: ignore[arg-type]
    return write(decided)


def _template(
    write: Write, label: str, rung: str, version: str, mode: Mode, id_size: int, request_id_size: int
) -> _Fill | None:
    """Find the places of ids and numbers by writing two messages that have no byte of them in common.

    Gives None where they are not the places that are expected; the library does not promise their order.
    """

    def message(first: int) -> bytes:
        # Each is one byte again and again, which is text as well.
        sure, before, after, ms = (unpack("<d", bytes([first + k]) * 8)[0] for k in (1, 2, 3, 4))
        attempt = Attempt(rung, before, after, ms)
        id_, request_id = chr(first) * id_size, chr(first + 5) * request_id_size
        return write(Decided(id_, label, rung, sure, version, mode, (attempt,), request_id=request_id))

    one, other = message(0x20), message(0x40)
    parts: list[bytes] = []
    for _, pairs in groupby(zip(one, other, strict=True), lambda pair: pair[0] != pair[1]):
        parts.append(bytes(a for a, _ in pairs))
    if not request_id_size:
        parts.append(b"")
    sizes = (id_size, 8, 8, 8, 8, request_id_size)
    if parts[1::2] != [bytes([0x20 + k]) * size for k, size in enumerate(sizes)]:
        return None
    a, b, c, d, e, f = parts[::2]
    pack = Struct("<" + "".join(f"{len(fixed)}s{{}}" for fixed in (a, b, c, d, e, f)).format(
        f"{id_size}s", "d", "d", "d", "d", f"{request_id_size}s"
    )).pack  # fmt: skip

    def fill(
        decision_id: bytes, sure: float, before: float, after: float, ms: float, request_id: bytes
    ) -> bytes:
        return pack(a, decision_id, b, sure, c, before, d, after, e, ms, f, request_id)

    return fill


class _Templates(dict[_Key, "_Fill | None"]):
    """The templates, by what they are the same for; None where a message is written field by field."""

    def __init__(self) -> None:
        super().__init__()
        self._missed = 0

    def __missing__(self, key: _Key) -> _Fill | None:
        if len(self) >= _MOST:
            self._missed += 1
            if self._missed < _PATIENCE:
                return None
            self.clear()  # bundles come and go
            self._missed = 0
        fill = self[key] = _template(*key)
        return fill


_templates = _Templates()
