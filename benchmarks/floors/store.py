"""The least durable queue: one SQLite table, claims and fenced results in batches. No events, lanes, gates, leases."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

SCHEMA = """
CREATE TABLE job(
  id INTEGER PRIMARY KEY, queue TEXT NOT NULL, task TEXT NOT NULL, state INT NOT NULL, priority INT NOT NULL,
  run_at REAL NOT NULL, attempts INT NOT NULL DEFAULT 0, fence INT, lease_until REAL, args BLOB, result BLOB,
  created REAL, finished REAL
);
CREATE INDEX job_ready ON job(queue, priority, run_at) WHERE state = 0;
CREATE INDEX job_lease ON job(lease_until) WHERE state = 1;
"""
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "cache_size = -65536",
    "mmap_size = 268435456",
    "temp_store = MEMORY",
    "busy_timeout = 5000",
)
ADD = """
INSERT INTO job(queue, task, state, priority, run_at, args, created) VALUES ('default', 'noop', 0, 5, ?, ?, ?)
"""
CLAIM = """
UPDATE job SET state = 1, fence = ?1, lease_until = ?2, attempts = attempts + 1 WHERE id IN (
  SELECT id FROM job WHERE state = 0 AND queue = 'default' AND run_at <= ?3 ORDER BY priority, run_at LIMIT ?4
) RETURNING id
"""
FINISH = """
UPDATE job SET state = 2, result = ?, finished = ?, lease_until = NULL WHERE id = ? AND fence = ? AND state = 1
"""
LEASE = 30.0


class Store:
    """One connection, used by whoever holds it."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        for pragma in PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        self._connection.executescript(SCHEMA)

    def add(self, rows: list[tuple[float, bytes, float]]) -> None:
        """Rows of (due, arguments, created), in one transaction."""
        self._many(ADD, rows)

    def claim(self, limit: int, now: float, fence: int) -> list[int]:
        """Ids of due jobs that are ours now, under this fence."""
        rows = self._connection.execute(CLAIM, (fence, now + LEASE, now, limit)).fetchall()
        return [number for (number,) in rows]

    def finish(self, rows: list[tuple[bytes, float, int, int]]) -> None:
        """Rows of (result, finished, id, fence), in one transaction."""
        self._many(FINISH, rows)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _many(self, statement: str, rows: Sequence[tuple[bytes | float, ...]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(statement, rows)
        self._connection.execute("COMMIT")
