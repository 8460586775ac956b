"""What is read without a turn: jobs, their events, queues.

Statements that look at many rows answer with one row, so that the interpreter lock is given up once for all of them;
they belong in a thread. Rows are then fetched by their numbers, a few at a time.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic_core import from_json

from heavylift.core.errors import ConfigError
from heavylift.core.event import Event
from heavylift.core.job import Job, State
from heavylift.core.queue import Pause, Queue
from heavylift.core.retention import Retention
from heavylift.store import Query
from heavylift.stores.sqlite import facts, rows
from heavylift.stores.sqlite.drain_rate import drain_rate
from heavylift.stores.sqlite.moment import Moment

SCAN = 20_000
"""Jobs that one page looks at, at most: it may be short, and its token goes on from there."""

EVENTS = "SELECT seq, kind, at, data FROM event WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?"
TOKEN = re.compile("n[0-9]{1,18}")

JOB = f"SELECT {rows.COLUMNS} FROM job WHERE id = ?"
JOBS = f"SELECT {rows.COLUMNS} FROM job WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number DESC"
QUEUES = (
    "SELECT name, paused_at, paused_by, paused_why, concurrency, max_size, rate, keep, blocked, queued, running,"
    " succeeded, failed, cancelled, queue.number,"
    " (SELECT min((SELECT run_at FROM job INDEXED BY job_due"
    " WHERE job.lane = lane.number AND state = 2 ORDER BY rank, number LIMIT 1))"
    " FROM lane WHERE lane.queue = queue.number)"
    " FROM queue"
    " WHERE {} (kept = 1 OR blocked + queued + running + succeeded + failed + cancelled > 0) ORDER BY name"
)
OVERDUE = (
    "SELECT queue, min(run_at) FROM (SELECT queue, run_at FROM job INDEXED BY job_scheduled"
    " WHERE state = 1 AND run_at <= ? ORDER BY run_at LIMIT 1000) GROUP BY queue"
)
NEXT_DUE = (
    "SELECT (SELECT min(run_at) FROM job INDEXED BY job_scheduled WHERE state = 1),"
    " (SELECT min(opens_at) FROM gate INDEXED BY gate_opens WHERE opens_at IS NOT NULL),"
    " (SELECT min(opens_at) FROM queue INDEXED BY queue_opens WHERE opens_at IS NOT NULL)"
)
FINISHED = (
    "SELECT number FROM job INDEXED BY job_finished"
    " WHERE queue IN (SELECT number FROM queue) AND state = {} AND finished_at IS NOT NULL"
)
# Where the jobs of a state are found, when they are not so many that they are met among the newest jobs anyway.
SOURCES = {
    State.BLOCKED: "SELECT number FROM job WHERE state = 0",
    State.QUEUED: (
        "SELECT number FROM job INDEXED BY job_due WHERE state = 2"
        " UNION ALL SELECT number FROM job INDEXED BY job_scheduled WHERE state = 1"
    ),
    State.RUNNING: "SELECT number FROM job INDEXED BY job_running WHERE state = 3",
    State.SUCCEEDED: FINISHED.format(rows.SUCCEEDED),
    State.FAILED: FINISHED.format(rows.FAILED),
    State.CANCELLED: FINISHED.format(rows.CANCELLED),
}


def get(connection: sqlite3.Connection, name: str) -> Job | None:
    """One job by its id."""
    row = connection.execute(JOB, (name,)).fetchone()
    if row is None:
        return None
    if not rows.has_large(row):
        return rows.job_of(connection, row)
    with snapshot(connection):
        row = connection.execute(JOB, (name,)).fetchone()
        return None if row is None else rows.job_of(connection, row)


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Have several statements read the store as it is at one moment, whatever is written between them."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def is_pruned(connection: sqlite3.Connection, name: str, since: float) -> bool:
    """Whether a job of this id was pruned after a time."""
    found = connection.execute("SELECT 1 FROM pruned WHERE id = ? AND at > ?", (name, since)).fetchone()
    return found is not None


def find_numbers(connection: sqlite3.Connection, query: Query) -> tuple[list[int], int | None]:
    """The numbers of one page of jobs, newest first, and the number below which the next one begins.

    It looks at SCAN jobs, about: at those of the wanted states if there are no more, else at the newest.
    """
    before, bottom, source = position(query.page_token), 0, "job"
    there = _count(connection, query.states) if query.states else None
    if there == 0:
        return [], None
    if there is None or there > SCAN:
        bottom = _bottom(connection, before)
    else:
        union = " UNION ALL ".join(SOURCES[state] for state in dict.fromkeys(query.states))
        source = f"({union}) AS source CROSS JOIN job ON job.number = source.number"
    conditions, values = _conditions(query)
    text = connection.execute(
        "SELECT json_group_array(number) FROM (SELECT job.number AS number"
        f" FROM {source} WHERE job.number < ? AND job.number >= ? {conditions} ORDER BY job.number DESC LIMIT ?)",
        (before, bottom, *values, query.limit),
    ).fetchone()[0]
    numbers = from_json(text)
    if len(numbers) == query.limit:
        return numbers, numbers[-1]
    return numbers, bottom if bottom > 0 else None


def _count(connection: sqlite3.Connection, states: Sequence[State]) -> int:
    """How many jobs are in these states."""
    total = " + ".join(set(states))
    found: int | None = connection.execute(f"SELECT sum({total}) FROM queue").fetchone()[0]
    return found or 0


def _bottom(connection: sqlite3.Connection, before: int) -> int:
    """The lowest number of the SCAN jobs below a number; 0 if there are fewer."""
    row = connection.execute(
        "SELECT number FROM job WHERE number < ? ORDER BY number DESC LIMIT 1 OFFSET ?", (before, SCAN - 1)
    ).fetchone()
    return row[0] if row else 0


def jobs(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[Job]:
    """The jobs of these numbers, newest first."""
    with snapshot(connection):
        found = connection.execute(JOBS, (rows.numbers_text(numbers),)).fetchall()
        return [rows.job_of(connection, row) for row in found]


def events(connection: sqlite3.Connection, job: str, after: int, limit: int) -> list[Event]:
    """A job's events above `after`, by seq."""
    with snapshot(connection):
        row = connection.execute("SELECT number, seq, history FROM job WHERE id = ?", (job,)).fetchone()
        if row is None or row[1] <= after:
            return []
        number, _, history = row
        found = [item for item in facts.facts_of(job, history) if item.seq > after]
        if len(found) < row[1] - after:  # some are not in the history
            for seq, kind, at, data in connection.execute(EVENTS, (number, after, limit)).fetchall():
                found.append(Event(job, seq, kind, at, from_json(data)))
    found.sort(key=lambda item: item.seq)
    return found[:limit]


def next_due(connection: sqlite3.Connection, now: Moment) -> float | None:
    """When some waiting job may become claimable by time alone; that may be past, until a claim sees to it."""
    run_at, *opens = connection.execute(NEXT_DUE).fetchone()
    moments = [run_at, *(None if at is None else now.wall_of(at) for at in opens)]
    return min((at for at in moments if at is not None), default=None)


def queues(connection: sqlite3.Connection, now: float, name: str | None = None) -> list[Queue]:
    """All queues that have settings or jobs, or the one of this name."""
    statement, values = (QUEUES.format(""), ()) if name is None else (QUEUES.format("name = ? AND"), (name,))
    # Jobs that are due, but that no claim has brought into their lanes yet.
    overdue: dict[int, float] = dict(connection.execute(OVERDUE, (now,)).fetchall())
    found = []
    for row in connection.execute(statement, values).fetchall():
        title, paused_at, by, why, concurrency, max_size, rate, keep, *counts, number, head = row
        by_state = {state: count for state, count in zip(State, counts, strict=True) if count > 0}
        since = min(head if head is not None else now + 1, overdue.get(number, now + 1))
        wait = None if since > now else now - since
        pause = None if paused_at is None else Pause(paused_at, by, why)
        kept = None if keep is None else Retention(*from_json(keep))
        drained = drain_rate(connection, number, now)
        found.append(Queue(title, pause, concurrency, max_size, rate, kept, by_state, wait, drained))
    return found


def position(token: str | None) -> int:
    """The number below which a page begins; raises ConfigError for a token that no page returned."""
    if token is None:
        return 2**62
    if TOKEN.fullmatch(token):
        return int(token[1:])
    message = f"page_token: {token!r} is none that a page returned; leave it out to begin with the newest jobs."
    raise ConfigError(message)


def token(number: int | None) -> str | None:
    """The inverse of `position`."""
    return None if number is None else f"n{number}"


def _conditions(query: Query) -> tuple[str, list[Any]]:
    text, values = "", []
    if query.states:
        codes = sorted({code for state in query.states for code in rows.CODES[state]})
        text += f" AND state IN ({', '.join(map(str, codes))})"
    if query.task is not None:
        text += " AND task = ?"
        values.append(query.task)
    if query.queue is not None:
        text += " AND queue = (SELECT number FROM queue WHERE name = ?)"
        values.append(query.queue)
    for name, value in query.labels.items():
        text += " AND EXISTS (SELECT 1 FROM json_each(options, '$.labels') WHERE key = ? AND value = ?)"
        values += [name, value]
    return text, values
