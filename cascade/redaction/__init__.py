"""Personal data and secrets become placeholders before anything is stored or read by a local rung."""

from cascade.redaction.engine import Engine, Span
from cascade.redaction.redactor import PLACEHOLDER, Redactor, holds_placeholder
from cascade.redaction.settings import OFF, open_redactor, redaction_fingerprint, remember_key

__all__ = [
    "OFF",
    "PLACEHOLDER",
    "Engine",
    "Redactor",
    "Span",
    "holds_placeholder",
    "open_redactor",
    "redaction_fingerprint",
    "remember_key",
]
