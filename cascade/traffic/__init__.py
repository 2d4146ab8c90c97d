"""The durable log of decisions, outcomes and imported traffic: what retraining reads."""

from cascade.traffic.group_commit import Limits
from cascade.traffic.jsonl import export_file, import_file, read_jsonl
from cascade.traffic.open import open_store, open_traffic
from cascade.traffic.records import (
    BadLine,
    Call,
    Decision,
    ImportCount,
    Labelled,
    Messages,
    Outcome,
    Source,
    StoreStats,
    TrainingRecord,
)
from cascade.traffic.sqlite import SqliteStore
from cascade.traffic.store import TrafficStore

__all__ = [
    "BadLine",
    "Call",
    "Decision",
    "ImportCount",
    "Labelled",
    "Limits",
    "Messages",
    "Outcome",
    "Source",
    "SqliteStore",
    "StoreStats",
    "TrafficStore",
    "TrainingRecord",
    "export_file",
    "import_file",
    "open_store",
    "open_traffic",
    "read_jsonl",
]
