"""Gates: counters that lanes have to pass. A lane whose gate is closed is parked at it, and leaves those that are
claimable; when it opens, as many lanes as it lets pass come back, of each queue, place and task that some worker did
not know, since nobody knows which of these will be served. Whoever looked at a lane passes the rest on: it may have had
no use for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from heavylift.core import limits
from heavylift.core.limits import Gate
from heavylift.stores.sqlite import keys

COLUMNS = "number, kind, key, limit_, held, due, opens_at"
NUMBERED = f"SELECT {COLUMNS} FROM gate WHERE number = ?"
NAMED = f"SELECT {COLUMNS} FROM gate WHERE kind = ? AND key = ?"
OPENED = f"SELECT {COLUMNS} FROM gate INDEXED BY gate_opens WHERE opens_at <= ? ORDER BY opens_at LIMIT ?"
INSERT = "INSERT INTO gate(kind, key, limit_) VALUES (?, ?, ?)"
UPDATE = "UPDATE gate SET limit_ = ?, held = ?, due = ?, opens_at = ? WHERE number = ?"
NEXT = (
    "SELECT parent, coalesce(task, '') FROM lane INDEXED BY lane_parked WHERE parked = ?1"
    " AND (parent, coalesce(task, '')) > (?2, ?3) ORDER BY parent, coalesce(task, '') LIMIT 1"
)
PARKED = (
    "SELECT number FROM lane INDEXED BY lane_parked WHERE parked = ? AND parent = ? AND coalesce(task, '') = ?"
    " ORDER BY turn LIMIT ?"
)
IS_WAITED_AT = "SELECT 1 FROM lane INDEXED BY lane_parked WHERE parked = ? LIMIT 1"
COUNT = "UPDATE gate SET lanes = lanes + ? WHERE number = ?"
FORGET = (
    "DELETE FROM gate WHERE number IN (SELECT number FROM gate INDEXED BY gate_unused"
    " WHERE lanes = 0 AND held = 0 AND due <= ? ORDER BY due LIMIT ?)"
)
FORGOTTEN = 1000
"""Gates that are forgotten at a time."""
AT_ONCE = 200
"""Gates that one claim opens at most because their time has come."""
SOONEST = 0.001
"""Seconds until a gate is looked at again, at least: no arithmetic of times may make a worker spin."""
EARLY = limits.SLACK / 2
"""Seconds by which it may be looked at too early: whoever comes when he was told to comes by the wall clock, and that
moment was rounded.
"""


@dataclass(slots=True)
class GateRow:
    """A gate while a transaction changes it; `touched`: lanes may be let go, or have to wait until it opens."""

    number: int
    kind: str
    key: str
    limit: str
    held: int
    due: float
    opens_at: float | None
    touched: bool = False
    passing: bool = False
    """Of a unique key: one that has it begins in this transaction, and may not have been written yet."""
    written: tuple[Any, ...] = ()

    @property
    def values(self) -> tuple[Any, ...]:
        """What may change."""
        return self.limit, self.held, self.due, self.opens_at


class Gates:
    """Those that a transaction deals with. `monotonic`: the clock of rates."""

    def __init__(self, monotonic: float) -> None:
        self._now = monotonic
        self._by_number: dict[int, GateRow] = {}
        self._by_name: dict[tuple[str, str], GateRow] = {}

    def numbered(self, connection: sqlite3.Connection, number: int) -> GateRow:
        """The gate of that number."""
        found = self._by_number.get(number)
        return found or self._keep(connection.execute(NUMBERED, (number,)).fetchone())

    def named(self, connection: sqlite3.Connection, kind: str, key: str) -> GateRow | None:
        """The gate of that kind and key, if there is one."""
        found = self._by_name.get((kind, key))
        if found is None:
            row = connection.execute(NAMED, (kind, key)).fetchone()
            found = None if row is None else self._keep(row)
        return found

    def made(self, connection: sqlite3.Connection, gate: Gate) -> GateRow:
        """The gate, made with this limit if there is none."""
        found = self.named(connection, gate.kind, gate.key)
        if found is None:
            number = connection.execute(INSERT, (gate.kind, gate.key, str(gate.limit))).lastrowid or 0
            found = self.numbered(connection, number)
        return found

    def set_limit(self, connection: sqlite3.Connection, gate: Gate) -> GateRow:
        """The gate, with this limit from now on."""
        found = self.made(connection, gate)
        if found.limit != str(gate.limit):
            if gate.kind == "rate":
                before, after = limits.pace(found.limit), limits.pace(gate.limit)
                found.due = limits.repaced(found.due, self._now, before, after)
            found.limit, found.touched = str(gate.limit), True
        return found

    def room(self, connection: sqlite3.Connection, gate: GateRow) -> int:
        """How many jobs it lets pass now."""
        if gate.kind == "rate":
            return limits.room(gate.due, self._now, limits.pace(gate.limit))
        if gate.kind == "unique":
            return 0 if gate.passing else max(0, 1 - keys.running_holders(connection, gate.key))
        return max(0, int(gate.limit) - gate.held)

    def passed(self, gate: GateRow, jobs: int) -> None:
        """So many jobs begin behind it."""
        if gate.kind == "rate":
            gate.due = limits.taken(gate.due, self._now, limits.pace(gate.limit), jobs)
        elif gate.kind == "concurrency":
            gate.held += jobs
        else:
            gate.passing = True
        gate.touched = True

    def freed(self, connection: sqlite3.Connection, kind: str, key: str) -> None:
        """A job that ran behind it, or whose name it is, runs no more."""
        gate = self.named(connection, kind, key)
        if gate is not None:
            gate.held -= kind == "concurrency"
            gate.passing, gate.touched = False, True

    def open_due(self, connection: sqlite3.Connection) -> int:
        """Look at those that were to open by now; how many."""
        found = connection.execute(OPENED, (self._now + EARLY, AT_ONCE)).fetchall()
        for row in found:
            (self._by_number.get(row[0]) or self._keep(row)).touched = True
        return len(found)

    def touched(self) -> list[GateRow]:
        """Those that may let lanes go; they are settled after this."""
        found = [gate for gate in self._by_number.values() if gate.touched]
        for gate in found:
            gate.touched = False
        return found

    def let_go(self, connection: sqlite3.Connection, gate: GateRow) -> Iterator[int]:
        """The numbers of lanes that need wait at it no longer."""
        room = self.room(connection, gate)
        parent, task = 0, ""
        while room and (crowd := connection.execute(NEXT, (gate.number, parent, task)).fetchone()) is not None:
            parent, task = crowd
            for (number,) in connection.execute(PARKED, (gate.number, parent, task, room)).fetchall():
                yield number
        gate.opens_at = None
        if not room and gate.kind == "rate" and connection.execute(IS_WAITED_AT, (gate.number,)).fetchone():
            due = limits.opens_at(gate.due, limits.pace(gate.limit))
            gate.opens_at = max(due, self._now + SOONEST)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write what has changed of them."""
        for gate in self._by_number.values():
            if gate.values != gate.written:
                connection.execute(UPDATE, (*gate.values, gate.number))
                gate.written = gate.values

    def _keep(self, row: tuple[Any, ...]) -> GateRow:
        gate = GateRow(*row)
        gate.written = gate.values
        self._by_number[gate.number] = self._by_name[gate.kind, gate.key] = gate
        return gate


def count_lanes(connection: sqlite3.Connection, numbers: Iterable[int], more: int) -> None:
    """So many more lanes have these gates."""
    connection.executemany(COUNT, [(more, number) for number in numbers])


def forget(connection: sqlite3.Connection, monotonic: float) -> None:
    """Gates that no lane has, nothing runs behind, and whose rate says nothing more; some at a time."""
    connection.execute(FORGET, (monotonic, FORGOTTEN))


def know_boot(connection: sqlite3.Connection, boot: str) -> None:
    """Have rates begin anew that went by the clock of another boot; the caller has the turn. Whoever waits at one is
    looked at by the next claim.
    """
    if connection.execute("SELECT id FROM boot").fetchone() == (boot,):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table in ("gate", "queue"):
            connection.execute(f"UPDATE {table} SET due = 0 WHERE due <> 0")
            connection.execute(f"UPDATE {table} SET opens_at = 0 WHERE opens_at IS NOT NULL")
        connection.execute("DELETE FROM boot")
        connection.execute("INSERT INTO boot VALUES (?)", (boot,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
