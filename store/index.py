"""The index's engine: one place that knows how to open it, and the two kinds of short transactions.

SQLite runs in WAL mode with `synchronous=FULL`: what is committed survives a power cut. A writing transaction takes
the write lock when it begins, so that it never fails half-way for want of it; readers never wait.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import OperationalError

BUSY_TIMEOUT_S = 30.0
WAL_LIMIT_BYTES = 64 * 1024 * 1024
SHRINK_MIN_PAGES = 100


class IndexUnusable(RuntimeError):
    """The index cannot be used; one clear line says why."""


class Index:
    """An open index. Thread-safe: every transaction has a connection of its own from the pool.

    Raises `IndexUnusable` where `url` names an unsupported database or an unreachable directory.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if not self.is_sqlite and parsed.get_backend_name() != "postgresql":
            raise IndexUnusable(f"index: {parsed.get_backend_name()} is not supported; use sqlite or postgresql")
        self.url = url
        arguments: dict[str, Any] = {}
        if self.is_sqlite:
            if not parsed.database or parsed.database == ":memory:":
                raise IndexUnusable("index: an in-memory SQLite database cannot be shared between processes")
            arguments["timeout"] = BUSY_TIMEOUT_S
            try:
                Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise IndexUnusable(f"index: cannot create {parsed.database}: {error.strerror}") from error
        self.engine = sa.create_engine(parsed, connect_args=arguments, pool_size=8, max_overflow=32)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare)
            event.listen(self.engine, "begin", _begin)
        self._writer = self.engine.execution_options(bouncetap_write=True)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; nothing in it may write."""
        with self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its start; commits on leaving, rolls back on an exception."""
        with self._writer.begin() as connection:
            yield connection

    def shrink(self, pages: int = 2000) -> bool:
        """SQLite: give back at most `pages` free pages if a quarter of the file is free; False when there is no need.

        PostgreSQL does so by itself. Raises SQLAlchemyError.
        """
        if not self.is_sqlite:
            return False
        with self.engine.connect() as connection:
            free, total = (
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("freelist_count", "page_count")
            )
        if free * 4 < total or free < SHRINK_MIN_PAGES:
            return False
        vacuum = f"PRAGMA incremental_vacuum({pages}); PRAGMA wal_checkpoint(PASSIVE)"
        with contextlib.closing(self.engine.raw_connection()) as raw:  # only a script runs the pragma to its end
            cursor = raw.cursor()
            try:
                cursor.executescript(vacuum)
                return bool(cursor.execute("PRAGMA freelist_count").fetchone()[0] < free)
            except sqlite3.Error as error:
                raise OperationalError(vacuum, None, error) from error

    def close(self) -> None:
        """Gives all connections back."""
        self.engine.dispose()


def _prepare(connection: Any, _record: Any) -> None:
    """Settings of each new SQLite connection; transactions are begun by `_begin`, not by the driver."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of a new database; expiry gives its pages back
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
    cursor.execute("PRAGMA cache_size=-16000")
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.close()


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("bouncetap_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
