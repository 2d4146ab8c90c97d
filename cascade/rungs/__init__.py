"""Rungs: the models of a ladder, one file a kind, behind one small protocol."""

from cascade.rungs.protocol import Answer, Query, Rung

__all__ = ["Answer", "Query", "Rung"]
