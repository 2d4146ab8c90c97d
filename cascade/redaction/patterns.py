"""The built-in detectors: regular expressions that find candidates, and checks that keep the real ones.

Every expression is linear in the text: repetitions are bounded and no two of them can share characters.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator
from functools import lru_cache

from cascade.redaction.checksums import (
    IBAN_LENGTHS,
    is_card,
    is_codice_fiscale,
    is_cpf,
    is_iban,
    is_ip,
    is_nir,
    is_spanish_id,
    is_us_ssn,
)
from cascade.redaction.postal import addresses

VERSION = 1
"""Raised whenever the same text would be redacted otherwise."""

Found = tuple[int, int, str]
"""Where a value stands in the text, and the value without its punctuation, so that `+49 30 1` is `+49301`."""

Detector = Callable[[str], Iterator[Found]]

_LETTERS, _DIGITS = string.ascii_letters.encode(), string.digits.encode()
_NOT_DIGIT = re.compile(r"\D")
_NOT_ALNUM = re.compile(r"[\W_]")

_URL_LOGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}://([^\s/@:?#]{0,128}:[^\s/@?#]{1,256})@")
_EMAIL = re.compile(
    r"(?<![\w.+%'-])[\w.+%'-]{1,64}@(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w-])"
)
_KNOWN_SECRET = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"(?:sk|pk|rk)[-_](?:proj-|live_|test_|ant-|or-)?[A-Za-z0-9_-]{16,200}"
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{30,255}|glpat-[A-Za-z0-9_-]{16,64}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,200}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}"
    r"|hf_[A-Za-z0-9]{24,64}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{32,255}|SG\.[\w-]{16,32}\.[\w-]{16,64}"
    r"|eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,1000}"
    r")(?![A-Za-z0-9_-])"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----[A-Za-z0-9+/=\s\\]{16,8000}"
    r"(?:-----END [A-Z ]{3,30}-----)?"
)
_NAMED_SECRET = re.compile(
    r"\b(?:pass(?:word|wd|phrase|code)|pwd|secret|api[ _-]?key|access[ _-]?key|auth(?:orization)?[ _-]?token"
    r"|access[ _-]?token|bearer|token|pin(?: code| number)?|cvv|cvc)\b[\"']?"
    r"(?:\s{0,3}(?:is|was|[:=])|(?<=bearer))\s{0,3}[\"'`]?([^\s\"'`,;<>]{3,256})",
    re.IGNORECASE,
)
_LONG = 14
_LONG_WORD = re.compile(rf"[\w.-]{{{_LONG}}}")
_SECRET_WORDS = ("pass", "pwd", "secret", "key", "token", "bearer", "pin", "cvv", "cvc")
_SSN_WORDS = ("ssn", "social", "itin")
_PHONE_WORDS = (
    "call", "phone", "tel", "mobile", "cell", "whatsapp", "text me", "reach me", "ring me", "fax", "handy",
    "sms",
)  # fmt: skip
_IBAN_START = re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?=[ -]?[A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_US_SSN = re.compile(r"(?<![\w.-])\d{3}([- .])\d{2}\1\d{4}(?![\w-])")
_NAMED_SSN = re.compile(
    r"\b(?:ssn|social security(?: number)?|itin)\b\D{0,12}(\d{3}[ -]?\d{2}[ -]?\d{4})(?!\w)", re.IGNORECASE
)
_NINO = re.compile(
    r"(?<!\w)(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D](?!\w)",
    re.IGNORECASE,
)
_DNI = re.compile(r"(?<!\w)(?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z](?!\w)", re.IGNORECASE)
_CODICE = re.compile(r"(?<!\w)[A-Z]{6}\d{2}[ABCDEHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?!\w)", re.IGNORECASE)
_CPF = re.compile(r"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?!\w)")
_NIR = re.compile(r"(?<![\w.-])[1-4] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}(?!\w)")
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])"
)
_VERSION = re.compile(r"(?:\bv|version|release|build|firmware|section|chapter)[ :]{0,2}$", re.IGNORECASE)
_PHONE_PLUS = re.compile(r"(?<![\w+])\+\d(?:[ ./()-]{0,2}\d){6,14}(?!\w)")
_PHONE_00 = re.compile(r"(?<![\w.-])00[1-9](?:[ ./()-]{0,2}\d){7,13}(?!\w)")
_PHONE_US = re.compile(r"(?<![\w.+-])(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])\d{3}[ .-]\d{4}(?![\w-])")
_PHONE_0 = re.compile(
    r"(?<![\w.-])(?!\d{2}[/-]\d{1,2}[/-]\d{2,4}(?!\d))"
    r"\(?0[1-9]\d{0,4}\)?[ /-]{1,2}\d(?:[ /-]?\d){4,9}(?![\w-])"
)
_PHONE_NAMED = re.compile(
    r"\b(?:call|phone|tel(?:ephone)?|mobile|cell|whatsapp|text me|reach me|ring me|fax|handy|telefon|sms)\b"
    r"[^\d\n@]{0,24}?(\(?\d(?:[ ./()-]{0,2}\d){6,14})(?!\w)",
    re.IGNORECASE,
)
_BIRTH = re.compile(
    r"\b(?:born|birthday|birth ?date|date of birth|d\.?o\.?b)\b[^\d\n]{0,16}?"
    r"(\d{1,4}[./ -]\d{1,2}[./ -]\d{2,4}|\d{1,2}(?:st|nd|rd|th)? (?:of )?[A-Za-z]{3,9},? \d{4})(?!\w)",
    re.IGNORECASE,
)
_BIRTH_MONTH = re.compile(
    r"\b(?:born|birthday|birth ?date|date of birth|d\.?o\.?b)\b[^\d\n]{0,16}?"
    r"((?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6} \d{1,2}(?:st|nd|rd|th)?,? \d{4})(?!\w)",
    re.IGNORECASE,
)


@lru_cache(maxsize=4)  # several detectors ask about one text
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


def count_digits(text: str) -> int:
    """Give how many digits a text has; never fewer than an expression takes for digits."""
    raw = _bytes(text)
    if raw is not None:
        return len(raw) - len(raw.translate(None, _DIGITS))
    return sum(map(str.isdigit, text))


_SHAPES = bytes.maketrans(_LETTERS + _DIGITS, b"a" * len(_LETTERS) + b"0" * len(_DIGITS))
_CHARACTERS = bytes(range(256)).decode("cp1252", "replace")
_IN_WORDS = bytes(ord("w" if re.match(r"[\w.-]", each) else " ") for each in _CHARACTERS)
_LONG_RUN = b"w" * _LONG


@lru_cache(maxsize=4)
def _shape(text: str) -> bytes | None:
    """Give a text with `a` for each letter of ASCII and `0` for each digit, and without its spaces."""
    raw = _bytes(text)
    return None if raw is None else raw.translate(_SHAPES, b" ")


def _may_hold(text: str, *shapes: bytes) -> bool:
    """Say in a tenth of an expression's time whether it can match: each match holds one of the shapes."""
    shape = _shape(text)
    if shape is None:
        return True
    for each in shapes:  # noqa: SIM110 - a generator takes longer
        if each in shape:
            return True
    return False


def _has_long_word(text: str) -> bool:
    """Say whether `_LONG_WORD` matches."""
    raw = _bytes(text)
    if raw is not None:
        return _LONG_RUN in raw.translate(_IN_WORDS)
    return _LONG_WORD.search(text) is not None


def _names_one(text: str, words: tuple[str, ...]) -> bool:
    """Say in a fraction of an expression's time whether it can match at all."""
    low = text.lower()
    for word in words:  # noqa: SIM110 - a generator takes longer
        if word in low:
            return True
    return False


def _credentials(text: str) -> Iterator[Found]:
    for m in _URL_LOGIN.finditer(text):
        yield m.start(1), m.end(1), m[1]


def _secrets(text: str) -> Iterator[Found]:
    if _has_long_word(text):
        for m in _KNOWN_SECRET.finditer(text):
            yield m.start(), m.end(), m[0]
    if "PRIVATE KEY" in text:
        for m in _PRIVATE_KEY.finditer(text):
            yield m.start(), m.end(), m[0]
    if not _names_one(text, _SECRET_WORDS):
        return
    for m in _NAMED_SECRET.finditer(text):
        value = m[1].rstrip(".!?)")
        # A word is no secret ("my password is wrong"); digits, or symbols among letters, are.
        if any(c.isdigit() for c in value) and not value.startswith("<"):
            yield m.start(1), m.start(1) + len(value), value


def _emails(text: str) -> Iterator[Found]:
    for m in _EMAIL.finditer(text):
        lead = len(m[0]) - len(m[0].lstrip(".'-%+"))
        yield m.start() + lead, m.end(), m[0][lead:].lower()


def _ibans(text: str) -> Iterator[Found]:
    if not _may_hold(text, b"aa00"):
        return
    for m in _IBAN_START.finditer(text):
        length = IBAN_LENGTHS.get(m[0][:2].upper(), 0)
        compact: list[str] = []
        at = m.start()
        while length and at < len(text) and len(compact) < length:
            if text[at].isascii() and text[at].isalnum():
                compact.append(text[at].upper())
            elif text[at] not in " -" or not text[at - 1].isalnum():
                break
            at += 1
        value = "".join(compact)
        if is_iban(value) and not text[at : at + 1].isalnum():
            yield m.start(), at, value


def _cards(text: str) -> Iterator[Found]:
    for m in _CARD.finditer(text):
        digits = _NOT_DIGIT.sub("", m[0])
        if is_card(digits):
            yield m.start(), m.end(), digits


def _national_ids(text: str) -> Iterator[Found]:
    digits = count_digits(text)
    if digits >= 9 and _may_hold(text, b"000-00-0000", b"000.00.0000", b"000000000"):
        for m in _US_SSN.finditer(text):
            number = _NOT_DIGIT.sub("", m[0])
            if is_us_ssn(number):
                yield m.start(), m.end(), number
    if digits >= 9 and (_bytes(text) is None or _names_one(text, _SSN_WORDS)):
        for m in _NAMED_SSN.finditer(text):
            yield m.start(1), m.end(1), _NOT_DIGIT.sub("", m[1])
    for at_least, shapes, pattern, check in _CHECKED_IDS:
        if digits < at_least or not _may_hold(text, *shapes):
            continue
        for m in pattern.finditer(text):
            compact = _NOT_ALNUM.sub("", m[0]).upper()
            if check is None or check(compact):
                yield m.start(), m.end(), compact


_CHECKED_IDS: tuple[tuple[int, tuple[bytes, ...], re.Pattern[str], Callable[[str], bool] | None], ...] = (
    (6, (b"aa000000a",), _NINO, None),
    (7, (b"0000000a", b"0000000-a"), _DNI, is_spanish_id),
    (7, (b"aaaaaa00a00a000a",), _CODICE, is_codice_fiscale),
    (11, (b"000.000.000-00",), _CPF, is_cpf),
    (15, (b"0" * 15,), _NIR, is_nir),
)
"""Each with the digits that a text needs for it at least, and shapes of which it needs one."""


def _addresses(text: str) -> Iterator[Found]:
    if text.count(".") >= 3 and _may_hold(text, b"0.0"):
        for m in _IPV4.finditer(text):
            if is_ip(m[0]) and not _VERSION.search(text, max(0, m.start() - 12), m.start()):
                yield m.start(), m.end(), m[0]
    if text.count(":") >= 2:
        for m in _IPV6.finditer(text):
            if len(m[0]) > 3 and is_ip(m[0]):
                yield m.start(), m.end(), m[0].lower()


def _phones(text: str) -> Iterator[Found]:
    for mark, pattern in (("+", _PHONE_PLUS), ("00", _PHONE_00), ("", _PHONE_US), ("0", _PHONE_0)):
        if mark in text and (mark or _may_hold(text, b"0000000", b"000.0000", b"000-0000")):
            for m in pattern.finditer(text):
                yield m.start(), m.end(), _phone(m[0])
    if _names_one(text, _PHONE_WORDS):
        for m in _PHONE_NAMED.finditer(text):
            yield m.start(1), m.end(1), _phone(m[1])


def _phone(text: str) -> str:
    digits = _NOT_DIGIT.sub("", text)
    return digits.removeprefix("00") if digits.startswith("00") else digits


def _births(text: str) -> Iterator[Found]:
    for pattern in (_BIRTH, _BIRTH_MONTH):
        for m in pattern.finditer(text):
            yield m.start(1), m.end(1), m[1].lower()


DETECTORS: dict[str, tuple[int, str, Detector]] = {
    "CREDENTIALS": (0, "://", _credentials),
    "SECRET": (1, "", _secrets),
    "EMAIL": (0, "@", _emails),
    "IBAN": (8, "", _ibans),
    "CARD": (13, "", _cards),
    "NATIONAL_ID": (6, "", _national_ids),
    "IP": (1, "", _addresses),
    "PHONE": (7, "", _phones),
    "BIRTH_DATE": (4, "", _births),
    "ADDRESS": (1, "", addresses),
}
"""The detectors by kind, each with the digits that a text needs for it at least, and with what must be in it.

Where two find overlapping values, the earlier kind wins.
"""

DEFAULT_KINDS = tuple(kind for kind in DETECTORS if kind not in ("BIRTH_DATE", "ADDRESS"))
