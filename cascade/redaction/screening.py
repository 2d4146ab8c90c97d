"""Which detectors may find something in which texts, told of many texts at once: of most, none can.

A detector's expression takes long to find nothing. So each says what a text must hold for it, as a few short
strings, in one of four views of the text; all texts are brought into a view together.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

Found = tuple[int, int, str]
"""Where a value stands in the text, and the value without its punctuation, so that `+49 30 1` is `+49301`."""

View = Callable[[bytes], bytes]
"""A way to look at a text of one byte a character."""

_BYTES = bytes(range(256))
_LETTERS, _DIGITS = string.ascii_letters.encode(), string.digits.encode()
_SHAPES = bytes.maketrans(_LETTERS + _DIGITS, b"a" * len(_LETTERS) + b"0" * len(_DIGITS))
_IN_WORDS = bytes(
    ord("w" if re.match(r"[\w.-]", each) else "\0" if each == "\0" else " ")
    for each in _BYTES.decode("cp1252", "replace")
)
_HINTS = _DIGITS + b"@"
_NO_HINT = _BYTES.translate(None, _HINTS + b"\0")
_NO_DIGIT = _BYTES.translate(None, _DIGITS + b"\0")
_BETWEEN = "\0"
# Nothing is found in a text without one of these, which is most texts.
_HINT = re.compile(r"[\d@]")


def as_is(raw: bytes) -> bytes:
    """Give the text."""
    return raw


def lower(raw: bytes) -> bytes:
    """Give the text in small letters."""
    return raw.lower()


def shape(raw: bytes) -> bytes:
    """Give a text with `a` for each letter of ASCII and `0` for each digit, and without its spaces."""
    return raw.translate(_SHAPES, b" ")


def words(raw: bytes) -> bytes:
    """Give a text with `w` for each character of a word, and for `.` and `-`, and spaces for the others."""
    return raw.translate(_IN_WORDS)


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds values of one kind in a text.

    Attributes
    ----------
    kind : str
    find : callable
    digits : int
        So many a text has at least, where something is found.
    view : callable
        One of those above.
    needs : tuple of str
        One of them is in that view of such a text. Empty where nothing is known.
    """

    kind: str
    find: Callable[[str], Iterator[Found]]
    digits: int = 0
    view: View = as_is
    needs: tuple[str, ...] = ()


def hints_at(text: str) -> bool:
    """Say whether a text holds what each value holds: a digit or an `@`."""
    if text.isascii():  # a third of what the expression takes
        raw = text.encode()
        return len(raw.translate(None, _HINTS)) < len(raw)
    return _HINT.search(text) is not None


def screen(text: str, detectors: Sequence[Detector]) -> list[Detector]:
    """Give the detectors that may find something in a text, in order; the others find nothing."""
    if not hints_at(text):
        return []
    raw = _bytes(text)
    digits = sum(map(str.isdigit, text)) if raw is None else len(raw) - len(raw.translate(None, _DIGITS))
    seen: dict[View, str | None] = {}
    found = []
    for detector in detectors:
        if digits < detector.digits:
            continue
        if detector.needs:
            view = detector.view
            if view not in seen:
                seen[view] = _seen(text, raw, view)
            looks = seen[view]
            if looks is not None:
                for need in detector.needs:
                    if need in looks:
                        break
                else:
                    continue
        found.append(detector)
    return found


def _bytes(text: str) -> bytes | None:
    """Give a text in one byte a character; None where it holds one that has none.

    Of those that have one, only ASCII's are digits, or are ASCII's letters where case is ignored.
    """
    if text.isascii():
        return text.encode()
    try:
        return text.encode("cp1252")
    except UnicodeEncodeError:
        return None


def _seen(text: str, raw: bytes | None, view: View) -> str | None:
    """Give a view of a text, as text again: whether it holds another, Python says five times as fast."""
    if raw is not None:
        return view(raw).decode("latin-1")
    if view is lower:
        return text.lower()
    return text if view is as_is else None


def screen_many(texts: Sequence[str], detectors: Sequence[Detector]) -> dict[int, list[Detector]]:
    """Give the same of each text, by its place, where there are any."""
    if not texts:
        return {}
    odd = [i for i, text in enumerate(texts) if not text.isascii()]
    plain = list(texts)
    for i in odd:
        plain[i] = ""
    hints = _BETWEEN.join(plain).encode().translate(None, _NO_HINT).split(b"\0")
    if len(hints) > len(plain):  # one of them holds what stands between them, and nothing looks for
        return screen_many([text.replace(_BETWEEN, "\n") for text in texts], detectors)
    found: dict[int, list[Detector]] = {}
    raws = {i: plain[i].encode() for i, hint in enumerate(hints) if hint}
    for i in odd:
        raw = _bytes(texts[i])
        if raw is None:
            if some := screen(texts[i], detectors):
                found[i] = some
        elif len(raw.translate(None, _HINTS)) < len(raw):
            raws[i] = raw.replace(b"\0", b"\n")
    if raws:
        _screen_joined(list(raws), b"\0".join(raws.values()), detectors, found)
    return found


def _screen_joined(
    places: Sequence[int], joined: bytes, detectors: Sequence[Detector], found: dict[int, list[Detector]]
) -> None:
    """Screen texts of one byte a character, given with a zero between them."""
    digits = list(map(len, joined.translate(None, _NO_DIGIT).split(b"\0")))
    most, half = max(digits), len(digits) / 2
    with_digits: dict[int, list[int]] = {}
    wholes: dict[View, str] = {}
    parts: dict[View, list[str]] = {}
    for detector in detectors:
        least, view, needs = detector.digits, detector.view, detector.needs
        if least > most:
            continue
        at = with_digits.get(least)
        if at is None:
            at = with_digits[least] = [k for k, many in enumerate(digits) if many >= least]
        among: Iterable[int] = at
        if needs:
            if view not in wholes:
                wholes[view] = view(joined).decode("latin-1")
            if len(at) > half:  # what none of them holds is sooner looked for in all at once
                whole = wholes[view]
                needs = tuple([need for need in needs if need in whole])
                if not needs:
                    continue
            if view not in parts:
                parts[view] = wholes[view].split(_BETWEEN)
            texts = parts[view]
            among = {k for need in needs for k in at if need in texts[k]}
        for k in among:
            found.setdefault(places[k], []).append(detector)
