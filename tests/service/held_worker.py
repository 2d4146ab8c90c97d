"""A real service that is held between deciding and recording, to be killed there by its test.

`python -m tests.service.held_worker CONFIG POINT` serves as `cascade serve --workers 1` does. While the
file `hold` is beside the configuration, the thread that comes to POINT writes `held` there and stays:

group: decisions were answered; their group is about to be begun.
commit: the group's rows are in the transaction, which is about to be committed.
append: the guard has decided to pull a bundle back; the event is about to be written.
pointer: the event that made a bundle the stable one is written; the pointer is about to be moved.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade.config import load_config
from cascade.rollout import audit
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.state import Event
from cascade.server import rollouts
from cascade.server.run import serve
from cascade.traffic import sqlite
from cascade.traffic.database import Connection, Write

HOLD, HELD = "hold", "held"


class Barrier:
    """Lets threads pass until it is armed by a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def here(self) -> None:
        if (self._folder / HOLD).exists():
            (self._folder / HELD).touch()
            threading.Event().wait()


class HeldConnection:
    """A connection whose commit comes to the barrier."""

    def __init__(self, inner: Connection, barrier: Barrier) -> None:
        self._inner = inner
        self._barrier = barrier
        self.file = inner.file  # type: ignore[attr-defined]

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Any:
        if sql == "COMMIT":
            self._barrier.here()
        return self._inner.execute(sql, values)

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> Any:
        return self._inner.executemany(sql, rows)


def hold(point: str, barrier: Barrier) -> None:
    """Put the barrier in a point's way."""
    if point in ("group", "commit"):

        class HeldDatabase(sqlite.SqliteDatabase):
            def write_group(self, connection: Connection, writes: Sequence[Write]) -> list[Exception | None]:
                if point == "group":
                    barrier.here()
                    return super().write_group(connection, writes)
                return super().write_group(HeldConnection(connection, barrier), writes)  # type: ignore[arg-type]

        sqlite.SqliteDatabase = HeldDatabase  # type: ignore[misc]
    elif point == "append":

        class HeldStore(DatabaseRolloutStore):
            def append(self, event: Event) -> bool:
                if event.what == "rollback":
                    barrier.here()
                return super().append(event)

        rollouts.DatabaseRolloutStore = HeldStore  # type: ignore[misc]
    elif point == "pointer":
        move = rollouts.point_to

        def held(models: Path, node: str, version: str) -> None:
            barrier.here()
            move(models, node, version)

        rollouts.point_to = held
    else:
        raise SystemExit(f"no such point: {point}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    path = Path(sys.argv[1])
    audit.LEASE_SECONDS = 1.0  # so that a test need not wait a minute until audits are taken over
    hold(sys.argv[2], Barrier(path.parent))
    sys.exit(serve(load_config(path), "127.0.0.1:0", 1, lambda facts: print(json.dumps(facts), flush=True)))
