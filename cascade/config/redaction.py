"""`redaction`: what is replaced by placeholders before traffic is stored."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict

from cascade.config import values
from cascade.config.section import Section

Kind = Literal[
    "CREDENTIALS", "SECRET", "EMAIL", "IBAN", "CARD", "NATIONAL_ID", "IP", "PHONE", "BIRTH_DATE", "ADDRESS",
    "PERSON",
]  # fmt: skip

_PACKAGE = re.compile(r"[a-z][a-z0-9_]{1,63}")
_KIND = re.compile(r"[A-Z][A-Z0-9_]{0,31}")


def _kind(value: str) -> str:
    if not _KIND.fullmatch(value):
        raise values.wrong("a kind is 1 to 32 characters of A-Z, 0-9 and _, and starts with a letter")
    return value


def _pattern(value: str) -> str:
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise values.wrong(f"not a regular expression: {error}") from None
    if pattern.search("") is not None:
        raise values.wrong("this expression finds the empty text everywhere")
    return value


def _package(value: str) -> str:
    if not _PACKAGE.fullmatch(value):
        raise values.expected("the name of an installed spaCy package such as en_core_web_sm")
    return value


class RedactionConfig(Section):
    r"""Redaction, on by default.

    Attributes
    ----------
    enabled : bool
        `false` stores texts as they came, and lets local rungs read them so.
    engine : {"patterns", "presidio"}
        The built-in detectors, or Microsoft Presidio's (extra `presidio`).
    kinds : tuple of str
        What the built-in detectors look for. `BIRTH_DATE`, `ADDRESS` (postal addresses) and `PERSON` (names)
        only where they are named here. `PERSON` needs the extra `names` and a spaCy model.
    names_model : str
        The installed spaCy package that finds `PERSON`.
    patterns : dict of str to str
        Regular expressions of your own, by kind: `{EMPLOYEE: 'E-\d{6}'}`.
    key_env : str
        The environment variable that holds the secret of the placeholders. Where it is not set, a secret is
        made once and kept in `redaction.key` beside a SQLite store.
    """

    enabled: bool = True
    engine: Literal["patterns", "presidio"] = "patterns"
    kinds: Annotated[tuple[Kind, ...], Strict(False)] = (
        "CREDENTIALS", "SECRET", "EMAIL", "IBAN", "CARD", "NATIONAL_ID", "IP", "PHONE",
    )  # fmt: skip
    names_model: Annotated[str, AfterValidator(_package)] = "en_core_web_sm"
    patterns: dict[Annotated[str, AfterValidator(_kind)], Annotated[str, AfterValidator(_pattern)]] = Field(
        default_factory=dict
    )
    key_env: values.VariableName = "CASCADE_REDACTION_KEY"
