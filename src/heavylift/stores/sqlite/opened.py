"""What an open store holds: its connections, its threads, its folder."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from heavylift.core.errors import StoreUnavailable
from heavylift.store import Clock, Schema
from heavylift.stores.sqlite import gates, schema, workers
from heavylift.stores.sqlite.connection import connect, is_busy, never_wait, patiently, translated
from heavylift.stores.sqlite.transaction import Transaction
from heavylift.stores.sqlite.turns import Turn
from heavylift.stores.sqlite.url import Location
from heavylift.stores.sqlite.wakeups import ENDS, FOLLOWER, Sender, role
from heavylift.stores.sqlite.writer import PATIENCE, PAUSE, Writer

Result = TypeVar("Result")


class Opened:
    """An open file. Reads never wait for writers: small ones are made at once, on the caller's thread, long ones in a
    thread of their own.
    """

    def __init__(self, location: Location, clock: Clock, *, inline: bool) -> None:
        self.path = location.path
        try:
            self.folder, self.schema = _prepare(location)
            self._quick = connect(location)
            never_wait(self._quick)
            self._using_quick = threading.Lock()
            self._scanner = connect(location)
            self._scans = ThreadPoolExecutor(1, "heavylift reads")
            self._sender = Sender(self.folder)
            self.writer = Writer(location, self.folder, clock, self._committed, inline=inline)
        except (sqlite3.Error, OSError) as error:
            raise translated(error, self.path) from error

    async def read(self, operation: Callable[[sqlite3.Connection], Result]) -> Result:
        """A read of a few rows by their keys, on this thread."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with self._using_quick:
                    return operation(self._quick)
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() > end:
                    raise translated(error, self.path) from error
            await asyncio.sleep(PAUSE)

    async def scan(self, operation: Callable[[sqlite3.Connection], Result]) -> Result:
        """A read that may look at many rows, in the thread."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._scans, operation, self._scanner)
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() > end:
                    raise translated(error, self.path) from error
            await asyncio.sleep(PAUSE)

    def version(self) -> int | None:
        """A number that changes when somebody writes; None when that cannot be said now."""
        with suppress(sqlite3.Error), self._using_quick:
            found: int = self._quick.execute("PRAGMA data_version").fetchone()[0]
            return found
        return None

    def close(self) -> None:
        """Write what waits, then let go of everything. Blocks."""
        self.writer.close()
        self._scans.shutdown()
        self._sender.close()
        with suppress(sqlite3.Error):
            self._scanner.close()
            self._quick.close()

    def abandon(self) -> None:
        """In a child after a fork: let go of what is shared with the parent. The connections stay as they are, since
        closing one would let go of locks and files that the parent uses.
        """
        _ABANDONED.append(self)
        self.writer.abandon()
        self._sender.close()

    def _committed(self, transaction: Transaction) -> None:
        if transaction.changed:
            self._sender.send(FOLLOWER)
        if transaction.ended:
            self._sender.send(ENDS)
        for worker in transaction.hinted:
            self._sender.send(role(worker))
        if transaction.wake_all:
            self._sender.send_to_workers()


_ABANDONED: list[Opened] = []


def _prepare(location: Location) -> tuple[str, Schema]:
    """Make the file and its folder ready: the schema of this version, write-ahead logging; the folder's path."""
    if not Path(location.path).parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    folder = f"{location.path}-run"
    Path(folder).mkdir(0o700, exist_ok=True)
    turn = Turn(folder)
    try:
        _take(turn, location.path)
        connection = connect(location)
        try:
            before = schema.version(connection)
            if before < len(schema.MIGRATIONS):
                patiently(lambda: _write_ahead(connection, location.path))
                schema.migrate(connection)
            versions = Schema(before, schema.version(connection))
            patiently(lambda: gates.know_boot(connection, workers.boot_id()))
        finally:
            connection.close()
    finally:
        turn.close()
    return folder, versions


def _write_ahead(connection: sqlite3.Connection, path: str) -> None:
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        message = f"The store {path} cannot keep a write-ahead log ({mode}): put it on a local disk, not a network one."
        raise StoreUnavailable(message)


def _take(turn: Turn, path: str) -> None:
    end = time.monotonic() + PATIENCE
    while not turn.take_now():
        if time.monotonic() > end:
            message = f"The store {path} gave no turn to open it within {PATIENCE:g} s: try again."
            raise StoreUnavailable(message)
        time.sleep(PAUSE)
