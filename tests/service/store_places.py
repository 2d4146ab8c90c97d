"""Where traffic stores under test keep their traffic: a SQLite file, a schema of a real PostgreSQL."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg

from cascade.traffic import Limits, SqliteStore
from cascade.traffic.postgres import _LOCK, PostgresStore


class Place(Protocol):
    """Where a store keeps its traffic, seen from outside."""

    url: str

    def open(self, limits: Limits | None = None, busy_timeout: float = 5.0) -> Any: ...

    def rows(self, query: str) -> list[Any]: ...

    def write_lock(self) -> Any:
        """As if another process wrote: until the end, no store can commit."""

    def synchronous(self, store: Any) -> bool:
        """Whether a commit waits for the disk."""


class SqlitePlace:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def open(self, limits: Limits | None = None, busy_timeout: float = 5.0) -> SqliteStore:
        return SqliteStore(self.path, limits, busy_timeout)

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as other:
            return [row[0] for row in other.execute(query)]

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    def synchronous(self, store: Any) -> bool:
        return store._writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)


class PostgresPlace:
    def __init__(self, url: str) -> None:
        self.url = url

    def open(self, limits: Limits | None = None, busy_timeout: float = 5.0) -> PostgresStore:
        return PostgresStore(self.url, limits, busy_timeout)

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.url) as other:
            return [row[0] for row in other.execute(query)]

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        with psycopg.connect(self.url) as other:
            other.execute(_LOCK)
            yield
            other.rollback()

    def synchronous(self, store: Any) -> bool:
        return store._writer._connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
