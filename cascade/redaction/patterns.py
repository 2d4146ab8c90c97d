"""The built-in detectors: regular expressions that find candidates, and checks that keep the real ones.

Every expression is linear in the text: repetitions are bounded and no two of them can share characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

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
from cascade.redaction.screening import Detector, Found, as_is, lower, shape, words

VERSION = 1
"""Raised whenever the same text would be redacted otherwise."""

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


def _credentials(text: str) -> Iterator[Found]:
    if "://" in text:
        for m in _URL_LOGIN.finditer(text):
            yield m.start(1), m.end(1), m[1]


def _plain_secrets(pattern: re.Pattern[str], text: str) -> Iterator[Found]:
    for m in pattern.finditer(text):
        yield m.start(), m.end(), m[0]


def _named_secrets(text: str) -> Iterator[Found]:
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


def _numbers(pattern: re.Pattern[str], check: Callable[[str], bool], text: str) -> Iterator[Found]:
    for m in pattern.finditer(text):
        digits = _NOT_DIGIT.sub("", m[0])
        if check(digits):
            yield m.start(), m.end(), digits


def _named_ssns(text: str) -> Iterator[Found]:
    for m in _NAMED_SSN.finditer(text):
        yield m.start(1), m.end(1), _NOT_DIGIT.sub("", m[1])


def _ids(pattern: re.Pattern[str], check: Callable[[str], bool] | None, text: str) -> Iterator[Found]:
    for m in pattern.finditer(text):
        compact = _NOT_ALNUM.sub("", m[0]).upper()
        if check is None or check(compact):
            yield m.start(), m.end(), compact


def _ipv4(text: str) -> Iterator[Found]:
    for m in _IPV4.finditer(text):
        if is_ip(m[0]) and not _VERSION.search(text, max(0, m.start() - 12), m.start()):
            yield m.start(), m.end(), m[0]


def _ipv6(text: str) -> Iterator[Found]:
    if text.count(":") >= 2:
        for m in _IPV6.finditer(text):
            if len(m[0]) > 3 and is_ip(m[0]):
                yield m.start(), m.end(), m[0].lower()


def _phones(pattern: re.Pattern[str], text: str) -> Iterator[Found]:
    group = pattern.groups  # where a word comes first, the number is in a group
    for m in pattern.finditer(text):
        digits = _NOT_DIGIT.sub("", m[group])
        yield m.start(group), m.end(group), digits.removeprefix("00")


def _births(text: str) -> Iterator[Found]:
    for pattern in (_BIRTH, _BIRTH_MONTH):
        for m in pattern.finditer(text):
            yield m.start(1), m.end(1), m[1].lower()


# Letters that are an ASCII letter where case is ignored, but not in `str.lower`.
_LIKE_ASCII = ("\u017f", "\u0131", "i\u0307")
_PHONE_WORDS = (
    "call", "phone", "tel", "mobile", "cell", "whatsapp", "text me", "reach me", "ring me", "fax", "handy",
    "sms",
)  # fmt: skip

DETECTORS = (
    Detector("CREDENTIALS", _credentials, 0, as_is, ("@",)),
    Detector("SECRET", partial(_plain_secrets, _KNOWN_SECRET), 1, words, ("w" * 14,)),
    Detector("SECRET", partial(_plain_secrets, _PRIVATE_KEY), 1, as_is, ("PRIVATE KEY",)),
    Detector(
        "SECRET", _named_secrets, 1, lower,
        ("pass", "pwd", "secret", "key", "token", "bearer", "pin", "cvv", "cvc"),
    ),
    Detector("EMAIL", _emails, 0, as_is, ("@",)),
    Detector("IBAN", _ibans, 8, shape, ("aa00",)),
    Detector("CARD", partial(_numbers, _CARD, is_card), 13),
    Detector(
        "NATIONAL_ID", partial(_numbers, _US_SSN, is_us_ssn), 9, shape,
        ("000-00-0000", "000.00.0000", "000000000"),
    ),
    Detector("NATIONAL_ID", _named_ssns, 9, lower, ("ssn", "social", "itin", *_LIKE_ASCII)),
    Detector("NATIONAL_ID", partial(_ids, _NINO, None), 6, shape, ("aa000000a",)),
    Detector("NATIONAL_ID", partial(_ids, _DNI, is_spanish_id), 7, shape, ("0000000a", "0000000-a")),
    Detector("NATIONAL_ID", partial(_ids, _CODICE, is_codice_fiscale), 7, shape, ("aaaaaa00a00a000a",)),
    Detector("NATIONAL_ID", partial(_ids, _CPF, is_cpf), 11, shape, ("000.000.000-00",)),
    Detector("NATIONAL_ID", partial(_ids, _NIR, is_nir), 15, shape, ("0" * 15,)),
    Detector("IP", _ipv4, 4, shape, ("0.0.0", "0.00.0", "0.000.0")),
    Detector("IP", _ipv6, 1, as_is, (":",)),
    Detector("PHONE", partial(_phones, _PHONE_PLUS), 7, as_is, ("+",)),
    Detector("PHONE", partial(_phones, _PHONE_00), 7, as_is, ("00",)),
    Detector("PHONE", partial(_phones, _PHONE_US), 7, shape, ("0000000", "000.0000", "000-0000")),
    Detector("PHONE", partial(_phones, _PHONE_0), 7, as_is, ("0",)),
    Detector("PHONE", partial(_phones, _PHONE_NAMED), 7, lower, _PHONE_WORDS),
    Detector("BIRTH_DATE", _births, 4),
    Detector("ADDRESS", addresses, 1),
)  # fmt: skip
"""The detectors. Where two find overlapping values, the earlier one wins."""

KINDS = tuple(dict.fromkeys(detector.kind for detector in DETECTORS))
DEFAULT_KINDS = tuple(kind for kind in KINDS if kind not in ("BIRTH_DATE", "ADDRESS"))
