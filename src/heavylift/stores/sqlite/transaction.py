"""One transaction: what its operations share, from the queues that they touch to the waiters that they wake."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from random import random
from typing import Any

from heavylift.core.job import State
from heavylift.core.options import serves
from heavylift.stores.sqlite.batches import insert_many
from heavylift.stores.sqlite.rows import STATES

JOB_COLUMNS = (
    *("id", "task", "queue", "lane", "options", "args", "state", "rank", "created_at", "run_at", "attempt", "seq"),
    *("history", "expires_at", "keeps"),
)
JOB = f"job({', '.join(JOB_COLUMNS)})"
"""What is written of a new job."""
COUNTERS = tuple(State)
_SELECT = (
    "SELECT number, name, paused_at, concurrency, max_size, rate, due, opens_at, blocked, queued, running, succeeded,"
    " failed, cancelled FROM queue"
)
_LANES = "SELECT number, place, ready, open, served FROM lane WHERE queue = ? AND parent IS NULL"
_NEW_LANE = (
    "INSERT INTO lane(queue, place, open, served)"
    " VALUES (?, ?, ?, (SELECT coalesce(max(served), 0) FROM lane WHERE parent IS NULL))"
)


class OutOfDate(Exception):
    """What this process knew of a job holds no longer: all is to be done again, reading first."""


@dataclass(slots=True)
class LaneRow:
    """One of a queue's lanes: of the jobs that run in one place (by its code)."""

    number: int
    place: int
    ready: bool
    open: bool
    served: int
    was: tuple[bool, bool, int]


@dataclass(slots=True)
class QueueRow:
    """A queue and its lanes (by place) while a transaction changes them. `counts` as COUNTERS."""

    number: int
    name: str
    paused_at: float | None
    concurrency: int | None
    max_size: int | None
    rate: str | None
    due: float
    opens_at: float | None
    counts: dict[State, int]
    lanes: dict[int, LaneRow] = field(default_factory=dict)
    changed: dict[State, int] = field(default_factory=dict)

    def moved(self, before: int | None, after: int, jobs: int = 1) -> None:
        """Count jobs that went from one state (by its code) to another; None: they were not there before."""
        if before is not None:
            self._count(STATES[before], -jobs)
        self._count(STATES[after], jobs)

    def removed(self, state: int, jobs: int) -> None:
        """Count jobs that were pruned."""
        self._count(STATES[state], -jobs)

    def _count(self, state: State, jobs: int) -> None:
        self.counts[state] += jobs
        self.changed[state] = self.changed.get(state, 0) + jobs

    @property
    def slots(self) -> int | None:
        """How many more jobs may run; None: any number."""
        if self.paused_at is not None:
            return 0
        return None if self.concurrency is None else max(0, self.concurrency - self.counts[State.RUNNING])


@dataclass(slots=True)
class Transaction:
    """The connection inside BEGIN … COMMIT. `careful`: no short cut is taken that could turn out to be wrong."""

    _connection: sqlite3.Connection
    now: float
    monotonic: float
    careful: bool
    changed: bool = False
    """Some job was written: followers want to know."""
    ended: bool = False
    """Some job is over."""
    claimable: set[tuple[str, int]] = field(default_factory=set)
    """Queue and place of jobs that became due, or that a free slot of the queue lets run."""
    hinted: set[str] = field(default_factory=set)
    """Workers that are to look into their mailbox."""
    wake_all: bool = False
    """All workers may find something to claim."""
    after: list[Callable[[], None]] = field(default_factory=list)
    """Called when all is written."""
    _by_number: dict[int, QueueRow] = field(default_factory=dict)
    _by_name: dict[str, QueueRow] = field(default_factory=dict)
    _new_jobs: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, to which all that was written so far is known."""
        if self._new_jobs:
            self._insert_jobs()
        return self._connection

    def insert_job(self, values: tuple[Any, ...]) -> None:
        """Write a new job's row of JOB, in one statement with those of other operations. Raises OutOfDate later on,
        when one of them turns out to be there already.
        """
        self._new_jobs.append(values)

    def _insert_jobs(self) -> None:
        rows, self._new_jobs = self._new_jobs, []
        if insert_many(self._connection, JOB, len(rows[0]), rows, ignore=True) != len(rows):
            raise OutOfDate

    def queue(self, number: int) -> QueueRow:
        """The queue of that number."""
        found = self._by_number.get(number) or self._loaded(f"{_SELECT} WHERE queue.number = ?", number)
        if found is None:
            raise KeyError(number)
        return found

    def queue_named(self, name: str) -> QueueRow:
        """The queue of that name, made if there is none."""
        found = self._by_name.get(name)
        if found is not None:
            return found
        statement = f"{_SELECT} WHERE queue.name = ?"
        known = self._loaded(statement, name)
        if known is not None:
            return known
        number = self.connection.execute("INSERT INTO queue(name) VALUES (?)", (name,)).lastrowid
        return self.queue(number or 0)

    def lane(self, queue: QueueRow, place: int) -> LaneRow:
        """The queue's lane of that place, made if there is none."""
        found = queue.lanes.get(place)
        if found is None:
            is_open = queue.slots != 0
            self.connection.execute(_NEW_LANE, (queue.number, place, int(is_open)))
            row = self.connection.execute(f"{_LANES} AND place = ?", (queue.number, place)).fetchone()
            found = _keep_lane(queue, row)
        return found

    def becomes_due(self, queue: QueueRow, place: int) -> None:
        """A job stands in that lane: it can be claimed."""
        self.lane(queue, place).ready = True
        self.claimable.add((queue.name, place))

    def flush(self) -> None:
        """Write what is known of the queues: their counts, and whether their lanes can be claimed from."""
        for queue in self._by_number.values():
            if queue.changed:
                sets = ", ".join(f"{state} = {state} + {jobs}" for state, jobs in queue.changed.items())
                self.connection.execute(f"UPDATE queue SET {sets} WHERE number = ?", (queue.number,))
                queue.changed.clear()
            is_open = queue.slots != 0
            for lane in queue.lanes.values():
                if is_open and not lane.open and lane.ready:
                    self.claimable.add((queue.name, lane.place))
                lane.open = is_open
                row = (lane.ready, is_open, lane.served)
                if row != lane.was:
                    self.connection.execute(
                        "UPDATE lane SET ready = ?, open = ?, served = ? WHERE number = ?", (*row, lane.number)
                    )
                    lane.was = row

    def finish(self) -> None:
        """Write what is left to write, and choose who is to be woken after the commit."""
        self.flush()
        if self.claimable:
            self.hinted |= self._chosen()

    def _chosen(self) -> set[str]:
        """For each queue and place with something to claim one living worker that serves the queue, rather one that
        waits for such jobs.
        """
        workers = [
            (random(), name, idle, json.loads(queues))  # noqa: S311  spreads the work, guards nothing
            for name, queues, idle in self.connection.execute(
                "SELECT id, queues, idle FROM worker WHERE died_at IS NULL"
            ).fetchall()
        ]
        chosen = set()
        for queue, place in self.claimable:
            serving = [worker for worker in workers if serves(worker[3], queue)]
            if serving:
                chosen.add(min(serving, key=lambda worker: (not worker[2] & 1 << place, worker[0]))[1])
        return chosen

    def _loaded(self, statement: str, key: int | str) -> QueueRow | None:
        row = self.connection.execute(statement, (key,)).fetchone()
        if row is None:
            return None
        queue = QueueRow(*row[:8], dict(zip(COUNTERS, row[8:], strict=True)))
        for lane in self.connection.execute(_LANES, (queue.number,)).fetchall():
            _keep_lane(queue, lane)
        self._by_number[queue.number] = self._by_name[queue.name] = queue
        return queue


def _keep_lane(queue: QueueRow, row: tuple[int, int, int, int, int]) -> LaneRow:
    number, place, ready, is_open, served = row
    lane = LaneRow(number, place, bool(ready), bool(is_open), served, (bool(ready), bool(is_open), served))
    queue.lanes[place] = lane
    return lane
