"""Checkpoints: what was written to the log is copied back into the file, in a thread, while writers go on.

SQLite would do so inside the commit that filled the log, and hold up everybody for some tens of milliseconds.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress

from heavylift.stores.sqlite.connection import connect
from heavylift.stores.sqlite.turns import Turn
from heavylift.stores.sqlite.url import Location

PAGES = 4000
"""Pages of log, about, after which it is copied back."""
COMMIT_PAGES = 6
"""Pages that a commit writes at least, about …"""
ROWS_PER_PAGE = 6
"""… and rows that share one beyond that."""


class Checkpoints:
    """Counts what is written, and copies the log back now and then."""

    def __init__(self, location: Location, folder: str) -> None:
        self._location = location
        self._turn = Turn(folder)
        self._pages = 0
        self._rows = 0
        self._due = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def count(self, total_rows: int) -> None:
        """A commit was made; `total_rows` as the connection counts them since it was opened."""
        self._pages += COMMIT_PAGES + (total_rows - self._rows) // ROWS_PER_PAGE
        self._rows = total_rows
        if self._pages < PAGES:
            return
        self._pages = 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="heavylift checkpoints", daemon=True)
            self._thread.start()
        self._due.set()

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._due.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self._turn.close()

    def abandon(self) -> None:
        """In a child after a fork: the thread is the parent's, and so is the turn."""
        self._turn.close()

    def _run(self) -> None:
        with suppress(sqlite3.Error, OSError):
            connection = connect(self._location)
            try:
                while self._due.wait() and not self._closing:
                    self._due.clear()
                    with suppress(sqlite3.Error):
                        self._copy_back(connection)
            finally:
                connection.close()

    def _copy_back(self, connection: sqlite3.Connection) -> None:
        # The most of it beside the writers; the rest, which they added meanwhile, in a turn of our own, because only a
        # log that is copied back whole is begun anew by the next writer.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._turn.take()
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            self._turn.give_back()
