"""Reading what other tools logged of calls to chat models."""

from cascade.traffic.logs.entry import LoggedCall
from cascade.traffic.logs.reading import FORMATS, Format, read_log

__all__ = ["FORMATS", "Format", "LoggedCall", "read_log"]
