"""Microsoft Presidio as the engine of redaction (extra `presidio`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version

import tldextract
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NoOpNlpEngine
from presidio_analyzer.predefined_recognizers.generic import email_recognizer

from cascade.redaction.engine import Span

# The bundled list of public suffixes; by default the first use would download one.
email_recognizer.tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())

MIN_SCORE = 0.4
KINDS = {
    "EMAIL_ADDRESS": "EMAIL",
    "CREDIT_CARD": "CARD",
    "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP",
    "PHONE_NUMBER": "PHONE",
    "US_SSN": "NATIONAL_ID",
    "US_ITIN": "NATIONAL_ID",
    "US_PASSPORT": "NATIONAL_ID",
    "UK_NHS": "NATIONAL_ID",
    "MEDICAL_LICENSE": "NATIONAL_ID",
    "CRYPTO": "WALLET",
}
_PUNCTUATION = re.compile(r"[\s()./-]")


class PresidioEngine:
    """Presidio's pattern recognisers for English; without a language model it finds no names or places."""

    def __init__(self) -> None:
        registry = RecognizerRegistry()
        registry.load_predefined_recognizers(languages=["en"])
        registry.remove_recognizer("SpacyRecognizer")
        nlp = NoOpNlpEngine(models=[{"lang_code": "en", "model_name": "none"}])
        nlp.load()
        self._analyzer = AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=["en"])
        self.name = f"presidio-{version('presidio-analyzer')}:{MIN_SCORE}:{','.join(sorted(KINDS))}"

    def find(self, text: str) -> Iterator[Span]:
        """See `Engine.find`."""
        found = self._analyzer.analyze(text, language="en", entities=list(KINDS), score_threshold=MIN_SCORE)
        for each in sorted(found, key=lambda r: (-r.score, r.start, -r.end)):
            value = text[each.start : each.end]
            kind = KINDS[each.entity_type]
            plain = value.lower() if kind == "EMAIL" else _PUNCTUATION.sub("", value).upper()
            yield Span(each.start, each.end, kind, plain)
