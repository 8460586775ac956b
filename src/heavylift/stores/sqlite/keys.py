"""Unique keys: who has one, and which job makes room for which.

A key has a record for each job that was given it: from its submit, or its retry, until it is over, and until its
`unique_for` is over, too; the record may outlive the job. Whether a record still holds the key is read off its job, so
that no claim has to write here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from heavylift.core.options import Options
from heavylift.stores.sqlite import rows

FORGOTTEN = 1000
"""Records that are forgotten at a time, at most."""

RECORDS = (
    "SELECT unique_key.number, unique_key.id, since, until, unique_key.attempt, job.number, job.state, job.attempt,"
    " job.queue, job.options FROM unique_key LEFT JOIN job ON job.id = unique_key.id WHERE key = ?"
    " ORDER BY unique_key.number"
)
KEEP = "INSERT OR REPLACE INTO unique_key(key, id, since, until, attempt) VALUES (?, ?, ?, ?, ?)"
LOSE = "DELETE FROM unique_key WHERE number IN (SELECT value FROM json_each(?))"
OVER = "DELETE FROM unique_key WHERE key = ? AND id = ? AND (until IS NULL OR until <= ?)"
AGAIN = (
    "INSERT OR REPLACE INTO unique_key(key, id, since, until, attempt)"
    " SELECT ?1, id, ?3, created_at + ?4, attempt FROM job WHERE id = ?2"
)
RUNNING = (
    # The few that have the key first, then their jobs: many may run.
    "SELECT count(*) FROM unique_key CROSS JOIN job ON job.id = unique_key.id"
    f" WHERE key = ?1 AND state = {rows.RUNNING} AND json_extract(options, '$.unique') = ?1"
)
PAST = f"SELECT number FROM unique_key WHERE until <= ? ORDER BY until LIMIT {FORGOTTEN}"
FORGET = (
    "DELETE FROM unique_key WHERE number IN (SELECT value FROM json_each(?)) AND NOT EXISTS"
    f" (SELECT 1 FROM job WHERE job.id = unique_key.id AND state <= {rows.RUNNING})"
)
WITHOUT_TIME = "UPDATE unique_key SET until = NULL WHERE number IN (SELECT value FROM json_each(?))"


class Holder(NamedTuple):
    """A job that has a key. `record` and `job` are numbers, `job` None when it was pruned; `queue` is its queue's.

    `since`: when the first of a row of jobs was created that took each other's places. `begun`: since it has the key.
    """

    record: int
    id: str
    since: float
    job: int | None = None
    queue: int | None = None
    waits: bool = False
    runs: bool = False
    begun: bool = False


def holders(connection: sqlite3.Connection, key: str, now: float) -> list[Holder]:
    """Who has a key, in the order in which they got it."""
    found = [_holder(key, now, row) for row in connection.execute(RECORDS, (key,)).fetchall()]
    return [holder for holder in found if holder is not None]


def _holder(key: str, now: float, row: Sequence[Any]) -> Holder | None:
    record, name, since, until, had, job, state, attempt, queue, text = row
    timed = until is not None and until > now
    options = None if text is None else rows.options_of(text)
    if options is None or options.unique != key:  # it was pruned; another job may have its id
        return Holder(record, name, since) if timed else None
    begun = attempt > had
    free = state > rows.RUNNING or (begun and options.unique_until == "start")
    if free and not timed:
        return None
    waits, runs = state < rows.RUNNING, state == rows.RUNNING
    return Holder(record, name, since, job, queue, waits=waits, runs=runs, begun=begun)


def keeper(found: Sequence[Holder], options: Options) -> Holder | None:
    """Whose key it is that a new job with these options wants, so that it is not kept; None: it is kept."""
    if options.debounce is not None or options.on_conflict == "replace":
        return None
    waiting = [holder for holder in found if holder.waits]
    if waiting:
        return waiting[-1]
    if options.on_conflict == "queue-one":
        return None
    running = [holder for holder in found if holder.runs]
    return next(iter([*running[-1:], *found[-1:]]), None)


def making_room(found: Sequence[Holder], options: Options) -> list[Holder]:
    """Those that are cancelled, or asked to stop, for a new job with these options that is kept."""
    if options.on_conflict == "replace":
        return [holder for holder in found if holder.waits or holder.runs]
    return [holder for holder in found if holder.waits] if options.debounce is not None else []


def losing(found: Sequence[Holder], options: Options) -> list[Holder]:
    """Those that have lost the key when a new job with these options is kept: all that do not run, where it replaces
    them.
    """
    if options.on_conflict == "replace":
        return [holder for holder in found if not holder.runs]
    return making_room(found, options)


def since(found: Sequence[Holder], options: Options, created_at: float) -> float:
    """When the first of the row was created that a new job goes on with."""
    if options.debounce is None:
        return created_at
    return min([created_at, *(holder.since for holder in found if holder.waits and not holder.begun)])


def keep(connection: sqlite3.Connection, name: str, options: Options, created_at: float, since: float) -> None:
    """A new job has its key."""
    connection.execute(KEEP, (options.unique, name, since, _until(options, created_at), 0))


def keep_again(connection: sqlite3.Connection, name: str, options: Options, now: float) -> None:
    """A job that was over, and waits again, has its key again."""
    connection.execute(AGAIN, (options.unique, name, now, options.unique_for))


def lose(connection: sqlite3.Connection, lost: Sequence[Holder]) -> None:
    """These have their key no longer."""
    if lost:
        connection.execute(LOSE, (rows.numbers_text(holder.record for holder in lost),))


def over(connection: sqlite3.Connection, name: str, options: Options, now: float) -> None:
    """A job is over: its key is free, unless its time is not."""
    if options.unique is not None:
        connection.execute(OVER, (options.unique, name, now))


def unfinished(connection: sqlite3.Connection, key: str, now: float) -> Holder | None:
    """Who has a key and is not over."""
    found = [holder for holder in holders(connection, key, now) if holder.waits or holder.runs]
    return found[-1] if found else None


def running_holders(connection: sqlite3.Connection, key: str) -> int:
    """How many of the jobs with a key run now, whether they still hold it or gave it back when they began."""
    count: int = connection.execute(RUNNING, (key,)).fetchone()[0]
    return count


def forget(connection: sqlite3.Connection, now: float) -> None:
    """Records of jobs that are over, and whose time is; a batch at a time."""
    past = rows.numbers_text(number for (number,) in connection.execute(PAST, (now,)).fetchall())
    if past == "[]":
        return
    connection.execute(FORGET, (past,))
    connection.execute(WITHOUT_TIME, (past,))  # those that are not over have the key without it


def _until(options: Options, created_at: float) -> float | None:
    return None if options.unique_for is None else created_at + options.unique_for
