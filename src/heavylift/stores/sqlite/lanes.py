"""Lanes: where due jobs stand. A queue has one of its own in each place; jobs that have to pass gates, that share, or
whose task some worker did not know stand in lanes beside it, which take turns with it and with each other.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from heavylift.stores.sqlite.rows import PLACES

COLUMNS = "number, queue, place, key, parent, ready, crowded, open, served, turn, turns, task, gates, parked"
SELECT = f"SELECT {COLUMNS} FROM lane"
OWN = f"{SELECT} WHERE queue = ? AND place IN ({', '.join(map(str, PLACES.values()))}) AND key = ''"
KEYED = f"{SELECT} WHERE queue = ? AND place = ? AND key = ?"
INSERT_OWN = (
    "INSERT INTO lane(queue, place, open, served)"
    " VALUES (?, ?, ?, (SELECT coalesce(max(served), 0) FROM lane WHERE parent IS NULL))"
)
INSERT = "INSERT INTO lane(queue, place, key, parent, turn, task, gates) VALUES (?, ?, ?, ?, ?, ?, ?)"
CHANGING = ("ready", "crowded", "open", "served", "turn", "turns", "parked")
IN_TURN = (
    f"{SELECT} INDEXED BY lane_in_turn WHERE parent = ? AND ready = 1 AND parked IS NULL {{known}}"
    " ORDER BY turn LIMIT ?"
)
EMPTY = (
    "SELECT number, gates FROM lane INDEXED BY lane_empty WHERE parent IS NOT NULL AND ready = 0"
    " ORDER BY turn LIMIT ? OFFSET ?"
)
FORGOTTEN, KEPT = 1000, 1000
"""Lanes that are forgotten at a time, and how many empty ones are kept, for there may come jobs again."""
KNOWN = "AND (task IS NULL OR task IN (SELECT value FROM json_each(?)))"


@dataclass(slots=True)
class LaneRow:
    """A lane while a transaction changes it. `ready`: it may hold due jobs. Of a queue's own: `crowded`: one beside it
    may be claimable; `open`: the queue is; `served`: its last turn among the queues; `turns` of the lanes in it so far.
    `turn`: its last one in its queue. `gates`: numbers of those that its jobs pass; `parked`: the one that it waits at.
    """

    number: int
    queue: int
    place: int
    key: str
    parent: int | None
    ready: bool
    crowded: bool
    open: bool
    served: int
    turn: int
    turns: int
    task: str | None
    gates: tuple[int, ...]
    parked: int | None
    written: tuple[Any, ...] = ()

    @classmethod
    def of(cls, row: Sequence[Any]) -> LaneRow:
        """A row of COLUMNS."""
        number, queue, place, key, parent, ready, crowded, is_open, served, turn, turns, task, gates, parked = row
        passed = tuple(json.loads(gates)) if gates else ()
        flags = (bool(ready), bool(crowded), bool(is_open))
        lane = cls(number, queue, place, key, parent, *flags, served, turn, turns, task, passed, parked)
        lane.written = lane.values
        return lane

    @property
    def values(self) -> tuple[Any, ...]:
        """What may change."""
        return self.ready, self.crowded, self.open, self.served, self.turn, self.turns, self.parked


def write(connection: sqlite3.Connection, lanes: Iterable[LaneRow]) -> None:
    """Write what has changed of them, and no more: each column stands in some index."""
    for lane in lanes:
        values = lane.values
        if values != lane.written:
            new = {name: value for name, value, old in zip(CHANGING, values, lane.written, strict=True) if value != old}
            sets = ", ".join([f"{name} = ?" for name in new])
            connection.execute(f"UPDATE lane SET {sets} WHERE number = ?", (*new.values(), lane.number))
            lane.written = values


def in_turn(connection: sqlite3.Connection, parent: int, tasks: str | None, most: int) -> list[LaneRow]:
    """Claimable lanes beside a queue's own, those first whose turn is the longest ago; of tasks that are known."""
    statement = IN_TURN.format(known="" if tasks is None else KNOWN)
    values = (parent, most) if tasks is None else (parent, tasks, most)
    return [LaneRow.of(row) for row in connection.execute(statement, values).fetchall()]


def forget(connection: sqlite3.Connection) -> list[int]:
    """Remove lanes that hold no due job, some at a time; the gates that they had, each as often."""
    found = connection.execute(EMPTY, (FORGOTTEN, KEPT)).fetchall()
    connection.executemany("DELETE FROM lane WHERE number = ?", [(number,) for number, _ in found])
    return [gate for _, gates in found if gates for gate in json.loads(gates)]
