"""What a text is screened for hides nothing from a detector, of one text and of many."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.redaction import patterns
from cascade.redaction.engine import PatternEngine, Span
from cascade.redaction.lately import Lately
from cascade.redaction.screening import _bytes, _seen, hints_at, screen, screen_many, words

ENGINE = PatternEngine(patterns.KINDS)
VALUES = [
    "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "219-09-9998", "219.09.9998", "ssn: 219099998",
    "itin is 219099998", "social security 219099998", "AB 12 34 56 C", "AB123456C", "12345678Z", "v1.2",
    "X-1234567L", "RSSMRA85T10A562S", "529.982.247-25", "1 84 12 76 451 089 46", "8.8.8.8", "2001:db8::1",
    "+49 30 1234567", "(212) 555-1234", "212.555.1234", "(212) 555 1234", "030/1234567", "pin is 1234",
    "no 62 63 87 a", "sk-proj-abcdefghijklmnop1234", "ghp_" + "a1" * 16, "e\u0301 \u0663 é", "\u017f",
    "\u2026 £5", "", "a@b.example", "postgres://app:s3cr3t@db/x", "call me: 212 5551234", "0049 30 1234567",
    "-----BEGIN PRIVATE KEY-----MIIEvQIBADANBgkqhkiG9w", "born 12.03.1984", "12 Baker Street", "10.0.255.1",
    "\u0131tin 219099998", "\u017f\u017fn 219099998", "\0",
]  # fmt: skip


def by_all(text: str) -> list[Span]:
    """Give what all detectors find, whatever the text holds."""
    if not hints_at(text):
        return []
    return [Span(start, end, d.kind, v) for d in patterns.DETECTORS for start, end, v in d.find(text)]


def near_misses(count: int) -> list[str]:
    draw = random.Random(3)
    texts = [value + end for value in VALUES for end in ("", ".", " é", "x", "1")]
    while len(texts) < count:
        text = list(draw.choice([" ", "-", ""]).join(draw.choices(VALUES, k=draw.randint(1, 3))))
        for at in draw.sample(range(len(text)), min(len(text), draw.randint(0, 2))):
            text[at] = draw.choice("0aZ -.+/(:_é\u0663£\0")
        texts.append("".join(text))
    return texts


def test_screening_hides_nothing_from_a_detector() -> None:
    found = 0
    for text in near_misses(4000):
        spans = list(ENGINE.find(text))
        assert spans == by_all(text), text
        found += len(spans)
    assert found > 3000


PIECES = st.one_of(st.sampled_from(VALUES), st.text(alphabet="0aZ @-.+/(:_é\u0663£€\0\n", max_size=6))
TEXTS = st.lists(PIECES, max_size=4).flatmap(
    lambda pieces: st.sampled_from(["", " ", "-"]).map(lambda between: between.join(pieces))
)


@given(TEXTS)
def test_screening_hides_nothing_from_a_detector_in_any_text(text: str) -> None:
    assert list(ENGINE.find(text)) == by_all(text)


@given(st.lists(TEXTS, max_size=8))
def test_many_texts_are_screened_as_each_alone(texts: list[str]) -> None:
    alone = {i: some for i, text in enumerate(texts) if (some := screen(text, patterns.DETECTORS))}
    assert screen_many(texts, patterns.DETECTORS) == alone
    assert ENGINE.holding(texts) == {i for i, text in enumerate(texts) if list(ENGINE.find(text))}


@pytest.mark.parametrize("size", [2, 7, 100])
def test_near_misses_are_screened_as_each_alone(size: int) -> None:
    texts = near_misses(2000)
    for at in range(0, len(texts), size):
        some = texts[at : at + size]
        alone = {i: each for i, text in enumerate(some) if (each := screen(text, patterns.DETECTORS))}
        assert screen_many(some, patterns.DETECTORS) == alone


def test_most_texts_are_passed_by_without_an_expression() -> None:
    detectors = [d for d in patterns.DETECTORS if d.kind in patterns.DEFAULT_KINDS]
    for text in ("where is order 483922?", "I paid £76... on May 5", "a phone for 2", "NW48549: 7 days"):
        assert len(screen(text, detectors)) == text.count(":")


def test_what_has_one_byte_is_no_digit_and_no_letter_of_asciis() -> None:
    for character in bytes(range(128, 256)).decode("cp1252", "ignore"):
        assert not re.match(r"\d|[a-z]", character, re.IGNORECASE), character
    assert _bytes("\u0663") is _bytes("\u017f") is _bytes("\x81") is None
    for text in ("é" * 14, "a.b-c_d1é2ß3ÿ4", "a.b-c_d1é2ß3ÿ", "£" * 20, "a b" * 9):
        seen = _seen(text, _bytes(text), words)
        assert seen is not None
        assert ("w" * 14 in seen) == (re.search(r"[\w.-]{14}", text) is not None)


def test_texts_of_a_moment_ago_are_remembered_and_those_of_long_ago_are_not() -> None:
    lately = Lately()
    lately.add(["first", "second"])
    assert lately.others(["second", "third"]) == [1]
    long = [f"{i}" + "x" * 50_000 for i in range(12)]
    for text in long:
        lately.add([text])
        assert lately.others([text]) == []
    assert lately.others(["first", *long]) == list(range(7))
