"""Finds postal addresses by their form: a house number and a word for a street, with the town that follows.

English, German, French, Spanish, Italian and Portuguese forms. What has no word for a street in it (a village, a
house with a name, Japanese blocks) is not found. As in `cascade.redaction.patterns`, every repetition is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

VERSION = 1
"""Raised whenever the same text would be redacted otherwise."""

_WORD = r"[^\W\d_][\w'’.-]{0,30}"
_NUMBER = r"\d{1,5}[A-Za-z]?(?:[-/]\d{1,4}[A-Za-z]?)?"

# What comes between a number and "drive" or "road" where that is no name of a street.
_NO_NAME = (
    r"(?:(?:second|minute|hour|day|week|month|year|mile|kilomet(?:er|re)|meter|metre|item|star|lane|seat)s?"
    r"|am|pm|km|m|to|the|of|a|an|in|on|at|by|for|from|and|or|my|your|our|this|that|is|are|was|with|per|x)\b"
)
_SURE = r"street|st|avenue|ave|road|rd|boulevard|blvd"
_UNSURE = r"drive|dr|lane|ln|court|ct|close|crescent|place|pl|terrace|square|sq|highway|hwy|parkway|pkwy|way|row|mews"

_UNIT = r"(?:,?\s{1,2}(?:apartment|apt|unit|suite|ste|flat|floor|fl|room|rm|no)\.?\s{0,2}#?\s?\w{1,5}\b|,?\s{0,2}#\s?\w{1,5}\b)"
_POSTCODE = r"(?:[A-Z]{2}\s{1,2}\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}|[A-Z]\d{2}\s[A-Z\d]{4}|\d{5}-\d{3}|\d{5,6})(?!\w)"
_TOWN = rf"{_WORD}(?:[ -]{_WORD}){{0,2}}?"
_CODE_TOWN = rf"(?:[A-Z]{{1,2}}-)?\d{{4,6}}\s{{1,2}}(?!{_NO_NAME}){_WORD}(?:\s(?:am|an|de|la|sur)\s{_WORD})?"
_TAIL = rf"(?:,?\s{{1,3}}(?:{_CODE_TOWN}|{_TOWN},?\s{{1,3}}{_POSTCODE}))"
_ENGLISH = re.compile(
    rf"(?<![\w.,/-])(?:(?:flat|apt|unit)\s{{1,2}}\w{{1,5}},?\s{{1,2}})?{_NUMBER},?\s{{1,2}}"
    rf"(?:[nsew]{{1,2}}\.?\s{{1,2}})?((?!{_NO_NAME}){_WORD}(?:\s{{1,2}}(?!{_NO_NAME}){_WORD}){{0,2}}?)\s{{1,2}}"
    rf"(?:(?P<sure>{_SURE})|(?:{_UNSURE}))\b\.?(?P<unit>{_UNIT})?(?P<tail>{_TAIL})?",
    re.IGNORECASE,
)
_GERMAN = re.compile(
    rf"(?<![\w-])(?!(?:sitz|steh|arbeits|park|stell|lager)platz)(?:[^\W\d_]{{2,20}}-){{0,3}}[^\W\d_]{{2,24}}"
    rf"[ -]?(?:straße|strasse|str\.?|weg|gasse|platz|allee|damm)\s{{1,2}}\d{{1,4}}\s?[a-z]?(?![\w%€$])(?:{_TAIL})?",
    re.IGNORECASE,
)
_OF = r"(?:(?:de la|de las|de los|de l['’]|della|del|des|dell['’]|dos|das|do|da|du|di|de)\s{1,2}|d['’]|l['’])"
_ROMANCE_WAY = r"(?:rue|boulevard|avenue|quai|chemin|impasse|allée|calle|avenida|plaza|paseo|piazza|corso|viale|rua|carrer)"
_NAME = rf"(?:{_OF})?{_WORD}(?:\s{{1,2}}(?:{_OF})?{_WORD}){{0,2}}?"
_CAPITALS = rf"(?:{_OF})?{_WORD}(?:\s{{1,2}}(?:{_OF})?(?-i:[A-ZÀ-Þ])[\w'’.-]{{0,30}}){{0,2}}"
_PLACE = rf"place\s{{1,2}}{_OF}{_WORD}(?:\s{{1,2}}{_WORD})?"
_BEFORE = re.compile(
    rf"(?<![\w.,/-])\d{{1,4}}(?:\s?(?:bis|ter))?,?\s{{1,2}}"
    rf"(?:(?:{_ROMANCE_WAY}\s{{1,2}}{_NAME}|{_PLACE}?){_TAIL}|{_ROMANCE_WAY}\s{{1,2}}{_CAPITALS}|place\s{{1,2}}{_OF}{_WORD})",
    re.IGNORECASE,
)
_AFTER = re.compile(
    rf"(?<!\w)(?:{_ROMANCE_WAY}|via)\s{{1,2}}{_NAME},?\s{{1,2}}\d{{1,4}}[a-z]?(?![\w%€$])(?P<tail>{_TAIL})?",
    re.IGNORECASE,
)
_BOX = re.compile(
    rf"(?<!\w)(?:p\.?\s?o\.?\s?box|postfach|apartado|casella postale)\s{{1,2}}\d{{1,7}}\b(?:{_TAIL})?",
    re.IGNORECASE,
)
_SPACE = re.compile(r"[\W_]+")


def addresses(text: str) -> Iterator[tuple[int, int, str]]:
    """Give where each address stands, and it in small letters with single spaces."""
    for pattern in (_ENGLISH, _GERMAN, _BEFORE, _AFTER, _BOX):
        for m in pattern.finditer(text):
            if pattern is _ENGLISH and not (m["sure"] or m["unit"] or m["tail"]) and not _titled(m[1]):
                continue
            # "via" is a word of English, too: there the town or a capital has to tell.
            if pattern is _AFTER and m[0][:3] in ("via", "VIA") and not m["tail"]:
                continue
            yield m.start(), m.end(), _SPACE.sub(" ", m[0]).strip().lower()


def _titled(name: str) -> bool:
    return all(word[:1].isupper() for word in name.split())
