"""One transaction: what its operations share, from the queues that they touch to the waiters that they wake."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import random
from typing import Any

from heavylift.core import limits
from heavylift.core.job import State
from heavylift.core.limits import Gate, Rate
from heavylift.core.options import Options, serves
from heavylift.stores.sqlite import lanes
from heavylift.stores.sqlite.batches import insert_many
from heavylift.stores.sqlite.gates import AT_ONCE, EARLY, SOONEST, Gates, count_lanes
from heavylift.stores.sqlite.lanes import LaneRow
from heavylift.stores.sqlite.rows import DUE, PLACES, RUNNING, STATES, lane_key

JOB: tuple[str, ...] = (
    *("id", "task", "queue", "lane", "options", "args", "state", "rank", "created_at", "run_at", "attempt", "seq"),
    "history",
)
"""What is written of a new job, and …"""
JOB_MORE = ("expires_at", "keeps")
"""… of few."""
PLAIN = (None, 0)
"""JOB_MORE of the others."""
COUNTERS = tuple(State)
_SELECT = (
    "SELECT number, name, paused_at, concurrency, max_size, rate, due, opens_at, blocked, queued, running, succeeded,"
    " failed, cancelled FROM queue"
)
_FIRST = "SELECT min(run_at) FROM job INDEXED BY job_scheduled WHERE state = 1"
_OPENED = "SELECT number FROM queue INDEXED BY queue_opens WHERE opens_at <= ?"


class OutOfDate(Exception):
    """What this process knew of a job holds no longer: all is to be done again, reading first."""


@dataclass(slots=True)
class QueueRow:
    """A queue while a transaction changes it. `counts` as COUNTERS."""

    number: int
    name: str
    paused_at: float | None
    concurrency: int | None
    max_size: int | None
    rate: str | None
    due: float
    opens_at: float | None
    counts: dict[State, int]
    changed: dict[State, int] = field(default_factory=dict)
    set_anew: bool = False
    """Its settings have changed."""
    paced: tuple[float, float | None] = (0.0, None)
    """What stands in the table of its rate: when the next job is due, when the queue opens."""
    retry_after: int | None = None
    """Seconds until it has a place again, once somebody was refused: it is the same for all of a transaction."""

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
    def gated(self) -> bool:
        """Whether it may have to be opened or closed."""
        return self.concurrency is not None or self.rate is not None or self.paused_at is not None or self.set_anew

    def slots(self, monotonic: float) -> int | None:
        """How many more jobs may begin; None: any number."""
        if self.paused_at is not None:
            return 0
        free = None if self.concurrency is None else max(0, self.concurrency - self.counts[State.RUNNING])
        if self.rate is None:
            return free
        room = limits.room(self.due, monotonic, limits.pace(self.rate))
        return room if free is None else min(free, room)

    def began(self, monotonic: float, jobs: int) -> None:
        """So many of its jobs begin."""
        self.moved(DUE, RUNNING, jobs)
        if self.rate is not None:
            self.due = limits.taken(self.due, monotonic, limits.pace(self.rate), jobs)


@dataclass(slots=True)
class Transaction:
    """The connection inside BEGIN … COMMIT. `now`: Unix seconds; `monotonic`: the clock of leases and rates. `careful`:
    no short cut is taken that could turn out to be wrong.
    """

    _connection: sqlite3.Connection
    now: float
    monotonic: float
    careful: bool
    changed: bool = False
    """Some job was written: followers want to know."""
    ended: bool = False
    """Some job is over."""
    claimable: set[tuple[str, int, str | None]] = field(default_factory=set)
    """Queue and place of jobs that became due, or that a free slot lets run; the task, if not all workers know it."""
    first: tuple[float, tuple[str, int, str | None]] | None = None
    """The first time for which a job waits from now on, and what becomes claimable then."""
    hinted: set[str] = field(default_factory=set)
    """Workers that are to look into their mailbox."""
    wake_all: bool = False
    """All workers may find something to claim."""
    after: list[Callable[[], None]] = field(default_factory=list)
    """Called when all is written."""
    _by_number: dict[int, QueueRow] = field(default_factory=dict)
    _by_name: dict[str, QueueRow] = field(default_factory=dict)
    _lanes: dict[int, LaneRow] = field(default_factory=dict)
    _by_key: dict[tuple[int, int, str], LaneRow] = field(default_factory=dict)
    """The same lanes, by queue, place and key."""
    _gates: Gates | None = None
    _new_jobs: list[tuple[Any, ...]] = field(default_factory=list)
    _more_of_new: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, to which all that was written so far is known.

        Queues, lanes and gates do without: nothing of a new job is asked for there, and the rows of many are written in
        one go.
        """
        if self._new_jobs:
            self._insert_jobs()
        return self._connection

    def insert_job(self, values: tuple[Any, ...], more: tuple[Any, ...] = PLAIN) -> None:
        """Write a new job's row of JOB and JOB_MORE, in one statement with those of other operations. Raises OutOfDate
        later on, when one of them turns out to be there already.
        """
        self._new_jobs.append(values)
        if more != PLAIN:
            self._more_of_new[len(self._new_jobs) - 1] = more

    def _insert_jobs(self) -> None:
        rows, self._new_jobs = self._new_jobs, []
        columns = JOB
        if self._more_of_new:
            columns = JOB + JOB_MORE
            rows = [row + self._more_of_new.get(place, PLAIN) for place, row in enumerate(rows)]
            self._more_of_new = {}
        table = f"job({', '.join(columns)})"
        if insert_many(self._connection, table, len(columns), rows, ignore=True) != len(rows):
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
        number = self._connection.execute("INSERT INTO queue(name) VALUES (?)", (name,)).lastrowid
        return self.queue(number or 0)

    @property
    def gates(self) -> Gates:
        """The gates that it deals with."""
        if self._gates is None:
            self._gates = Gates(self.monotonic)
        return self._gates

    def own_lane(self, queue: QueueRow, place: int) -> LaneRow:
        """The queue's own lane of that place, made if there is none."""
        key = (queue.number, place, "")
        found = self._by_key.get(key)
        if found is None:
            row = self._connection.execute(lanes.KEYED, key).fetchone()
            if row is None:
                self._connection.execute(lanes.INSERT_OWN, (queue.number, place, int(queue.slots(self.monotonic) != 0)))
                row = self._connection.execute(lanes.KEYED, key).fetchone()
            found = self.kept_lane(LaneRow.of(row))
        return found

    def lane(self, queue: QueueRow, options: Options, attempt: int, task: str | None = None) -> LaneRow:
        """The lane of jobs with these options that wait for the attempt after this one, made if there is none; `task`:
        some worker did not know that.
        """
        own = self.own_lane(queue, PLACES[options.run_in])
        passed = limits.gates(options, begun=attempt > 0)
        key = lane_key(options, passed, task)
        return self.keyed_lane(own, key, passed, task) if key else own

    def keyed_lane(self, own: LaneRow, key: str, passed: Sequence[Gate], task: str | None = None) -> LaneRow:
        """The lane of that key beside a queue's own, made if there is none; its jobs have to pass these gates."""
        found = self._by_key.get((own.queue, own.place, key))
        if found is not None:
            return found
        row = self._connection.execute(lanes.KEYED, (own.queue, own.place, key)).fetchone()
        if row is not None:
            return self.kept_lane(LaneRow.of(row))
        numbers = [self.gates.made(self._connection, gate).number for gate in passed]
        values = (own.queue, own.place, key, own.number, own.turns, task, json.dumps(numbers) if numbers else None)
        number = self._connection.execute(lanes.INSERT, values).lastrowid or 0
        count_lanes(self._connection, numbers, 1)
        return self.lane_numbered(number)

    def lane_numbered(self, number: int) -> LaneRow:
        """The lane of that number."""
        found = self._lanes.get(number)
        if found is None:
            row = self._connection.execute(f"{lanes.SELECT} WHERE number = ?", (number,)).fetchone()
            found = self.kept_lane(LaneRow.of(row))
        return found

    def kept_lane(self, lane: LaneRow) -> LaneRow:
        """The row that this transaction changes, of a lane that was just read."""
        found = self._lanes.get(lane.number)
        if found is None:
            found = self._lanes[lane.number] = self._by_key[lane.queue, lane.place, lane.key] = lane
        return found

    def set_limits(self, gates: Sequence[Gate]) -> None:
        """Give these gates the limits that they have by now."""
        for gate in gates:
            self.gates.set_limit(self._connection, gate)

    @property
    def dirty(self) -> bool:
        """Whether an operation before has dealt with queues, whose rows may not have been written yet."""
        return bool(self._by_number)

    def becomes_due(self, queue: QueueRow, lane: LaneRow) -> None:
        """A job stands in that lane: it can be claimed, unless a gate is closed."""
        if lane.parent is not None:
            stood = lane.parked is not None
            if stood or (not lane.ready and self.is_parked(lane)):
                lane.ready = True
                if not stood and self._waits_at_rate(lane):
                    self.claimable.add((queue.name, lane.place, lane.task))
                return
            self.lane_numbered(lane.parent).crowded = True
        lane.ready = True
        self.claimable.add((queue.name, lane.place, lane.task))

    def _waits_at_rate(self, lane: LaneRow) -> bool:
        """Whether time alone opens the gate at which it is parked, so that some worker has to know when."""
        return lane.parked is not None and self.gates.numbered(self.connection, lane.parked).kind == "rate"

    def waits(self, until: float, queue: QueueRow, lane: LaneRow) -> None:
        """A job waits for its time to stand in that lane."""
        if self.first is None or until < self.first[0]:
            self.first = until, (queue.name, lane.place, lane.task)

    def is_parked(self, lane: LaneRow) -> bool:
        """Whether a gate of the lane is closed; then the lane waits there."""
        for number in lane.gates:
            gate = self.gates.numbered(self._connection, number)
            if not self.gates.room(self._connection, gate):
                lane.parked, gate.touched = number, True
                return True
        return False

    def reserve(self, rate: Rate) -> float:
        """Take the next place in a rate; seconds until it is due."""
        gate = self.gates.set_limit(self.connection, Gate("rate", rate.key, rate.rate))
        wait = max(0.0, limits.opens_at(gate.due, limits.pace(gate.limit)) - self.monotonic)
        self.gates.passed(gate, 1)
        return wait

    def open_due(self) -> bool:
        """Have those queues and gates looked at that were to open by now; whether there may be more."""
        for (number,) in self.connection.execute(_OPENED, (self.monotonic + EARLY,)).fetchall():
            self.queue(number)
        return self.gates.open_due(self.connection) == AT_ONCE

    def flush(self) -> None:
        """Write what is known of the queues: their counts, and whether their lanes can be claimed from."""
        for queue in self._by_number.values():
            if queue.changed:
                sets = ", ".join(f"{state} = {state} + {jobs}" for state, jobs in queue.changed.items())
                self.connection.execute(f"UPDATE queue SET {sets} WHERE number = ?", (queue.number,))
                queue.changed.clear()
            if queue.gated:
                self._open_or_close(queue)
        lanes.write(self.connection, self._lanes.values())
        if self._gates is not None:
            self._settle_gates(self._gates)

    def _open_or_close(self, queue: QueueRow) -> None:
        """Have the queue's own lanes say whether its jobs may begin."""
        is_open = queue.slots(self.monotonic) != 0
        self._write_rate(queue)
        for row in self.connection.execute(lanes.OWN, (queue.number,)).fetchall():
            lane = self.kept_lane(LaneRow.of(row))
            if is_open and not lane.open and (lane.ready or lane.crowded):
                self.claimable.add((queue.name, lane.place, None))
            lane.open = is_open

    def _settle_gates(self, gates: Gates) -> None:
        """Let lanes go that wait at an open gate, and have those looked at again in time whose gates are closed."""
        for gate in gates.touched():
            for number in gates.let_go(self.connection, gate):
                lane = self.lane_numbered(number)
                lane.parked = None
                parent = self.lane_numbered(lane.parent or 0)
                parent.crowded = True
                if parent.open:
                    self.claimable.add((self.queue(lane.queue).name, lane.place, lane.task))
        lanes.write(self.connection, self._lanes.values())
        gates.write(self.connection)

    def _write_rate(self, queue: QueueRow) -> None:
        """Write when the queue's rate lets the next job begin, if it does not now."""
        opens_at = None
        waits = queue.rate is not None and queue.counts[State.QUEUED]
        if queue.rate is not None and waits and not limits.room(queue.due, self.monotonic, limits.pace(queue.rate)):
            opens_at = max(limits.opens_at(queue.due, limits.pace(queue.rate)), self.monotonic + SOONEST)
        if (queue.due, opens_at) != queue.paced:
            self.connection.execute(
                "UPDATE queue SET due = ?, opens_at = ? WHERE number = ?", (queue.due, opens_at, queue.number)
            )
            queue.opens_at, queue.paced = opens_at, (queue.due, opens_at)

    def forget_empty(self) -> None:
        """Forget lanes that are empty, some at a time."""
        self.flush()  # in some a job of this transaction may stand by now
        self._lanes.clear()
        self._by_key.clear()
        self._gates = None
        count_lanes(self.connection, lanes.forget(self.connection), -1)

    def finish(self) -> None:
        """Write what is left to write, and choose who is to be woken after the commit."""
        self.flush()
        if self.first is not None and self.connection.execute(_FIRST).fetchone()[0] == self.first[0]:
            self.claimable.add(self.first[1])
        if self.claimable:
            self.hinted |= self._chosen()

    def _chosen(self) -> set[str]:
        """For each queue and place with something to claim one living worker that serves the queue and knows the task,
        rather one that waits for such jobs.
        """
        workers = [
            (random(), name, idle, json.loads(queues), tasks and json.loads(tasks))  # noqa: S311  spreads the work
            for name, queues, idle, tasks in self.connection.execute(
                "SELECT id, queues, idle, tasks FROM worker WHERE died_at IS NULL"
            ).fetchall()
        ]
        chosen = set()
        for queue, place, task in self.claimable:
            serving = [
                worker
                for worker in workers
                if serves(worker[3], queue) and (task is None or not worker[4] or task in worker[4])
            ]
            if serving:
                chosen.add(min(serving, key=lambda worker: (not worker[2] & 1 << place, worker[0]))[1])
        return chosen

    def _loaded(self, statement: str, key: int | str) -> QueueRow | None:
        row = self._connection.execute(statement, (key,)).fetchone()
        if row is None:
            return None
        number, name, paused_at, concurrency, max_size, rate, due, opens_at, *counts = row
        by_state = dict(zip(COUNTERS, counts, strict=True))
        queue = QueueRow(number, name, paused_at, concurrency, max_size, rate, due, opens_at, by_state)
        queue.paced = (queue.due, queue.opens_at)
        self._by_number[queue.number] = self._by_name[queue.name] = queue
        return queue
