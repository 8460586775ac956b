"""The real SQLite store without files, threads and sockets: every object for it shares one connection in memory."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from typing import TYPE_CHECKING, Any

from heavylift.store import Schema
from heavylift.stores.sqlite import schema
from heavylift.stores.sqlite.opened import Opened
from heavylift.stores.sqlite.store import SqliteStore
from heavylift.stores.sqlite.wakeups import role
from heavylift.stores.sqlite.writer import Writer, _returned

if TYPE_CHECKING:
    import asyncio

    from tests.simulation.loop import Process
    from tests.simulation.machine import Machine, ProcessClock

    from heavylift.store import Clock


class InstantWriter(Writer):
    """Writes each call as a transaction of its own, at once."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, committed: Any) -> None:
        self._path = "memory"
        self._connection = connection
        self._clock = clock
        self._committed = committed
        self._checkpoints = NoCheckpoints()

    async def call(self, operation: Any, rows: int = 1) -> Any:
        answers, transaction = self._answers([operation])
        self._done(transaction)
        return _returned(answers[0])


class NoCheckpoints:
    def count(self, total_rows: int) -> None:
        """Memory has no log."""


class InstantOpened(Opened):
    """What an open store holds, around the shared connection."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.path = "memory"
        self.folder = ""
        self.schema = Schema(len(schema.MIGRATIONS), len(schema.MIGRATIONS))
        self._quick = database.connection
        self._using_quick = threading.Lock()
        self._sender = database.hints
        self.writer = InstantWriter(database.connection, clock, self._committed)

    async def scan(self, operation: Any) -> Any:
        return await self.read(operation)


class InstantStore(SqliteStore):
    """One process's object for the store."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__("memory://", clock)
        self._opened = InstantOpened(database, clock)

    async def close(self) -> None:
        """The connection is everybody's."""


class Database:
    """What all processes share: the connection, and the way of hints."""

    def __init__(self, machine: Machine) -> None:
        self.hints = HintOffice(machine)
        # Autocommit, as the real one: transactions are begun and ended by hand.
        self.connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        self.connection.deserialize(_empty())

    def store(self, clock: ProcessClock) -> InstantStore:
        """An object for this store, as each process has its own."""
        return InstantStore(self, clock)

    def close(self) -> None:
        self.connection.close()


_EMPTY: list[bytes] = []


def _empty() -> bytes:
    if not _EMPTY:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        schema.migrate(connection)
        _EMPTY.append(connection.serialize())
        connection.close()
    return _EMPTY[0]


class HintOffice:
    """Carries hints to those who wait, late or never. The order in which a commit sends them is none, so what becomes
    of each depends on its receiver alone.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._waiting: dict[str, list[tuple[Process, asyncio.Event]]] = {}
        self._sent: dict[str, int] = {}
        self.lost = 0.0
        self.slowest = 0.05

    def listen(self, worker: str, process: Process, hinted: asyncio.Event) -> None:
        """Somebody waits for a worker's hints."""
        self._waiting.setdefault(role(worker), []).append((process, hinted))

    def send(self, name: str) -> None:
        """Hint all that wait in a role."""
        for process, hinted in self._waiting.get(name, ()):
            count = self._sent[name] = self._sent.get(name, 0) + 1
            chance = zlib.crc32(f"{self._machine.seed} {name} {count}".encode()) / 2**32
            if chance >= self.lost:
                process.later(chance * self.slowest, hinted.set)

    def send_to_workers(self) -> None:
        for name in self._waiting:
            self.send(name)
