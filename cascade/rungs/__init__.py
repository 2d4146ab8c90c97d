"""Rungs: the models of a ladder, one file a kind, behind one small protocol."""

from cascade.rungs.protocol import Answer, Answers, Batch, Query, Rung

__all__ = ["Answer", "Answers", "Batch", "Query", "Rung"]
