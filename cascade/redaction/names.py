"""Finds names of persons by a spaCy model, beside whatever another engine finds (extra `names`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module

import spacy

from cascade.redaction.engine import Engine, Span
from cascade.redaction.redactor import PLACEHOLDER

_UNUSED = ("parser", "senter", "tagger", "attribute_ruler", "lemmatizer", "morphologizer")
_REMEMBERED = 1024
_MAX_CHARACTERS = 100_000  # a model's memory grows with the text; longer ones are read in parts


class NameEngine:
    """Another engine's values, and the names of persons.

    Parameters
    ----------
    engine : Engine
        Comes first: where both find something, its kind stands.
    model : str
        An installed spaCy package that knows the entity `PERSON` or `PER`.

    Raises
    ------
    ImportError
        The package is not installed.
    ValueError
        It is no spaCy model that finds persons.
    """

    def __init__(self, engine: Engine, model: str) -> None:
        self._model, self._lock = _loaded(model)
        known = set(self._model.get_pipe("ner").labels) if "ner" in self._model.pipe_names else set()
        self._labels = {"PERSON", "PER"} & known
        if not self._labels:
            raise ValueError(
                f"{model} does not find persons; its entities are {', '.join(sorted(known)) or 'none'}"
            )
        self._engine = engine
        self.name = f"{engine.name}+{model}-{self._model.meta['version']}"
        self._persons = lru_cache(maxsize=_REMEMBERED)(self._read)

    def find(self, text: str) -> Iterator[Span]:
        """See `Engine.find`."""
        yield from self._engine.find(text)
        # What stands in a placeholder depends on a secret, and must not decide what is found around it.
        plain = PLACEHOLDER.sub(r"<\1_anyvalue>", text) if "<" in text else text
        for start in range(0, len(plain), _MAX_CHARACTERS):
            for a, b in self._persons(plain[start : start + _MAX_CHARACTERS]):
                name = plain[start + a : start + b]
                yield Span(start + a, start + b, "PERSON", " ".join(name.lower().split()))

    def _read(self, text: str) -> tuple[tuple[int, int], ...]:
        with self._lock, self._model.memory_zone():
            found = [e for e in self._model(text).ents if e.label_ in self._labels]
            return tuple(_trimmed(text, e.start_char, e.end_char) for e in found)


@lru_cache(maxsize=2)
def _loaded(model: str) -> tuple[spacy.Language, threading.Lock]:
    """Load a model once, with what its readers take turns by.

    Its table of words is shared and would grow for ever; the zone that empties it is entered one at a time.
    """
    import_module(model)
    try:
        return spacy.load(model, exclude=_UNUSED), threading.Lock()
    except (OSError, ValueError) as error:
        raise ValueError(f"{model} is not a spaCy model: {str(error)[:200]}") from None


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out a possessive, so that "Anna's" and "Anna" are one person."""
    for ending in ("'s", "’s"):
        if text[start:end].endswith(ending):
            return start, end - len(ending)
    return start, end
