"""Some of a bundle's decisions in a window of time: the same ones for whoever asks."""

from __future__ import annotations

import time
from heapq import nsmallest

from cascade.traffic.database import Database, Row
from cascade.traffic.decision_columns import DECISION_COLUMNS

# Looks at every row of the window, and so reads no more of each than it must.
_DRAWN = """
SELECT substr(decision_id, length(decision_id) - 15), decision_id, seq FROM decisions
WHERE node = ? AND time >= ? AND time < ? AND bundle_version = ? ORDER BY 1, 2 LIMIT ?
"""
_FIRST_PIECE, _SHORTEST_PIECE = 1.0, 0.01
"""Seconds of the window that are looked at in one go, at first and at least."""
_BUSY = 0.002
"""Seconds that a piece shall take: who waits for the core meanwhile, waits no longer."""
_LONGEST_REST = 0.5
_MOST_AT_ONCE = 500


def sampled_rows(
    database: Database, node: str, version: str, since: float, until: float, most: int, share: float
) -> list[Row]:
    """Draw rows that begin with `DECISION_COLUMNS`, in no order; see `TrafficStore.sampled_decisions`.

    Raises
    ------
    StoreError
        When the database cannot be read.
    """
    drawn: list[Row] = []
    at, piece = since, _FIRST_PIECE if share < 1 else until - since
    while at < until:
        end = min(at + piece, until)
        began = time.perf_counter()
        with database.reading() as connection:
            found = connection.execute(_DRAWN, (node, at, end, version, most)).fetchall()
        drawn = nsmallest(most, [*drawn, *found])
        took = max(time.perf_counter() - began, 1e-5)
        at = end
        if share < 1 and at < until:
            piece = max(piece * min(_BUSY / took, 4.0), _SHORTEST_PIECE)
            time.sleep(min(took / share - took, _LONGEST_REST))
    rows: list[Row] = []
    for first in range(0, len(drawn), _MOST_AT_ONCE):
        places = [row[2] for row in drawn[first : first + _MOST_AT_ONCE]]
        query = f"SELECT {DECISION_COLUMNS} FROM decisions WHERE seq IN ({', '.join('?' * len(places))})"
        with database.reading() as connection:
            rows += connection.execute(query, places).fetchall()
    return rows
