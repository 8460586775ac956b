"""Prune: finished jobs that retention lets go, and records whose time is over; in small batches.

What is to go is looked for beside the writer, which may take long in a store with very many jobs; the transaction that
removes it only makes sure that it is still so.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from pydantic_core import from_json

from heavylift.core.retention import Retention
from heavylift.stores.sqlite import gates, keys, questions, rows
from heavylift.stores.sqlite.reading import snapshot
from heavylift.stores.sqlite.transaction import Transaction

REMOVED = 200
"""Jobs that one call removes at most, and what they may cost in all (see WEIGHTS)."""
YOUNG = 60.0
"""Seconds for which a finished job is always kept: somebody may be about to read it."""
REMEMBERED = 86400.0
"""Seconds for which the ids of pruned jobs and the epochs of dead workers are remembered."""

_FOUND = "job.number, job.state, job.finished_at, job.queue"
# Queues with jobs that are too old, and the age.
AGED = (
    "SELECT number, age FROM (SELECT number, CASE WHEN keep IS NULL THEN ?3 ELSE keep ->> 0 END AS age FROM queue"
    " WHERE succeeded + failed + cancelled > 0) AS aged WHERE EXISTS (SELECT 1 FROM job INDEXED BY job_finished"
    " WHERE job.queue = aged.number AND state IN (4, 5, 6) AND keeps = 0 AND finished_at < ?1 - max(?2, aged.age))"
)
# Queues that may have too many. Their counts are of plain jobs alone unless some task in them has its own retention.
CROWDED = (
    "SELECT number, most_succeeded, most_failed, succeeded, unsuccessful, EXISTS (SELECT 1 FROM job INDEXED BY"
    " job_keeping WHERE keeps = 1 AND job.queue = crowded.number AND finished_at IS NOT NULL)"
    " FROM (SELECT number, succeeded, failed + cancelled AS unsuccessful,"
    " CASE WHEN keep IS NULL THEN ?1 ELSE keep ->> 1 END AS most_succeeded,"
    " CASE WHEN keep IS NULL THEN ?2 ELSE keep ->> 2 END AS most_failed FROM queue) AS crowded"
    " WHERE succeeded > most_succeeded OR unsuccessful > most_failed"
)
# From each pair to the next one by the index, whatever the number of jobs between them.
_NEXT_PAIR = "SELECT number FROM job INDEXED BY job_keeping WHERE keeps = 1 AND finished_at IS NOT NULL"
PAIRS = (
    f"WITH RECURSIVE pair(number) AS (SELECT * FROM ({_NEXT_PAIR} ORDER BY queue, task LIMIT 1) UNION ALL"
    " SELECT coalesce("
    f"({_NEXT_PAIR} AND job.queue = known.queue AND job.task > known.task ORDER BY job.task LIMIT 1),"
    f" ({_NEXT_PAIR} AND job.queue > known.queue ORDER BY job.queue, job.task LIMIT 1))"
    " FROM pair CROSS JOIN job AS known ON known.number = pair.number)"
    " SELECT queue, task FROM pair CROSS JOIN job ON job.number = pair.number"
)
PLAIN = "job INDEXED BY job_finished WHERE keeps = 0 AND queue = ?1 AND ?2 IS NULL AND finished_at IS NOT NULL"
KEEPING = "job INDEXED BY job_keeping WHERE keeps = 1 AND queue = ?1 AND task = ?2 AND finished_at IS NOT NULL"
# What it costs to remove a job, by what belongs to it: a plain one costs 1. Its events are not counted, which would
# read them all; of very many (progress) most are gone.
WEIGHTS = (
    "SELECT number, 1 + (SELECT total(length(value)) FROM large WHERE large.job = job.number) / 32768"
    " + coalesce(more ->> 'log_bytes', 0) / 16384 + min(seq, 512) / 16"
    " FROM job WHERE number IN (SELECT value FROM json_each(?1))"
)
GONE = "SELECT value FROM json_each(?1)"
LONG_GONE = (
    ("pruned", "id", "at <= :since"),
    ("worker", "id", "died_at <= :since AND NOT EXISTS (SELECT 1 FROM job WHERE state = 3 AND worker = worker.id)"),
)
"""(table, its key, which of its records may go)."""


class Victim(NamedTuple):
    """A finished job that is to go, as it was when that was decided."""

    number: int
    state: int
    finished_at: float
    queue: int


@dataclass(frozen=True, slots=True)
class Group:
    """Finished jobs that are counted together: the plain ones of a queue, or those of a task in it that has its own
    retention.
    """

    queue: int
    task: str | None = None

    @property
    def rows(self) -> str:
        """Where they are, for statements whose first two values are queue and task."""
        return PLAIN if self.task is None else KEEPING


def victims(connection: sqlite3.Connection, retention: Retention, now: float) -> list[Victim]:
    """Finished jobs that are to go, as many as one transaction removes in some milliseconds."""
    with snapshot(connection):
        found = {victim.number: victim for victim in islice(_all_victims(connection, retention, now), REMOVED)}
        return _affordable(connection, found) if found else []


def _all_victims(connection: sqlite3.Connection, retention: Retention, now: float) -> Iterator[Victim]:
    """All that are to go, each maybe more than once."""
    for number, age in connection.execute(AGED, (now, YOUNG, retention.age)).fetchall():
        yield from _old(connection, Group(number), age, now)
    crowded = connection.execute(CROWDED, (retention.succeeded, retention.failed)).fetchall()
    for number, succeeded, failed, *there, mixed in crowded:
        counts = (None, None) if mixed else there
        yield from _surplus(connection, Group(number), (succeeded, failed), counts, now)
    for queue, task in connection.execute(PAIRS).fetchall():
        group = Group(queue, task)
        own = _own(connection, group)
        yield from _old(connection, group, own.age, now)
        yield from _surplus(connection, group, (own.succeeded, own.failed), (None, None), now)


def _old(connection: sqlite3.Connection, group: Group, age: float, now: float) -> list[Victim]:
    statement = f"SELECT {_FOUND} FROM {group.rows} AND state IN (4, 5, 6) AND finished_at < ?3 LIMIT ?4"
    return _victims(connection, statement, (group.queue, group.task, now - max(age, YOUNG), REMOVED))


def _victims(connection: sqlite3.Connection, statement: str, values: Sequence[Any]) -> list[Victim]:
    return [Victim(*row) for row in connection.execute(statement, values).fetchall()]


def _own(connection: sqlite3.Connection, group: Group) -> Retention:
    """The retention of a task with its own, as the job says that ended last."""
    last = _newest(connection, group, rows.FINISHED, 0)
    number = None if last is None else last[1]
    row = connection.execute("SELECT options ->> 'keep' FROM job WHERE number = ?", (number,)).fetchone()
    return Retention(*from_json(row[0]))


def _newest(
    connection: sqlite3.Connection, group: Group, states: Sequence[int], offset: int
) -> tuple[float, int] | None:
    """(finished_at, number) of that job of a group in these states after which so many ended."""
    values = (group.queue, group.task, offset)
    found: tuple[float, int] | None = connection.execute(newest(group, states), values).fetchone()
    return found


def newest(group: Group, states: Sequence[int]) -> str:
    """The statement that reads it: each part has its order from the index, and they are merged."""
    each = (f"SELECT finished_at, number FROM {group.rows} AND state = {state}" for state in states)
    return f"{' UNION ALL '.join(each)} ORDER BY finished_at DESC, number DESC LIMIT 1 OFFSET ?3"


def _surplus(
    connection: sqlite3.Connection,
    group: Group,
    most: Sequence[int | None],
    counts: Sequence[int | None],
    now: float,
) -> Iterator[Victim]:
    """Of more (succeeded, other) jobs than are to be kept, the oldest; `counts`: how many there are, if it is known."""
    for states, keep, there in zip(((rows.SUCCEEDED,), (rows.FAILED, rows.CANCELLED)), most, counts, strict=True):
        if keep is None:
            continue
        excess, last = REMOVED, (now, 0)
        if there is not None:
            excess = min(there - keep, REMOVED)
        elif (found := _newest(connection, group, states, keep)) is not None:
            last = found
        else:
            continue
        if excess > 0:
            statement = (
                f"SELECT {_FOUND} FROM {group.rows} AND state = ?3 AND finished_at < ?4"
                " AND (finished_at, number) <= (?5, ?6) ORDER BY finished_at, number LIMIT ?7"
            )
            oldest: list[Victim] = []
            for state in states:
                values = (group.queue, group.task, state, now - YOUNG, *last, excess)
                oldest += _victims(connection, statement, values)
            yield from sorted(oldest, key=lambda victim: (victim.finished_at, victim.number))[:excess]


def _affordable(connection: sqlite3.Connection, found: dict[int, Victim]) -> list[Victim]:
    """As many of them as one transaction may remove, but one at least."""
    weights = dict(connection.execute(WEIGHTS, (rows.numbers_text(found),)).fetchall())
    chosen: list[Victim] = []
    cost = 0.0
    for number, victim in found.items():
        cost += weights[number]
        if cost > REMOVED and chosen:
            break
        chosen.append(victim)
    return chosen


def prune(transaction: Transaction, chosen: Sequence[Victim]) -> int:
    """Remove those that are still as they were; how many. Forget some of what is long gone."""
    removed = _remove(transaction, chosen) if chosen else 0
    _forget(transaction)
    return removed


def _remove(transaction: Transaction, chosen: Sequence[Victim]) -> int:
    connection = transaction.connection
    there = connection.execute(f"SELECT {_FOUND} FROM job WHERE number IN ({GONE})", (_numbers(chosen),)).fetchall()
    gone = set(chosen).intersection(map(Victim._make, there))
    numbers = _numbers(gone)
    connection.execute(
        f"INSERT OR REPLACE INTO pruned(id, at) SELECT id, ?2 FROM job WHERE number IN ({GONE})",
        (numbers, transaction.now),
    )
    for table, column in (("event", "job"), ("large", "job"), ("job", "number")):
        connection.execute(f"DELETE FROM {table} WHERE {column} IN ({GONE})", (numbers,))
    for (queue, state), jobs in Counter((victim.queue, victim.state) for victim in gone).items():
        transaction.queue(queue).removed(state, jobs)
    return len(gone)


def _numbers(chosen: Iterable[Victim]) -> str:
    return rows.numbers_text(victim.number for victim in chosen)


def _forget(transaction: Transaction) -> None:
    """Records of what is long gone, a batch at a time."""
    questions.forget(transaction.connection, transaction.now)
    transaction.forget_empty()
    gates.forget(transaction.connection, transaction.monotonic)
    keys.forget(transaction.connection, transaction.now)
    since = transaction.now - REMEMBERED
    for table, key, condition in LONG_GONE:
        chosen = f"SELECT {key} FROM {table} WHERE {condition} LIMIT {REMOVED}"
        transaction.connection.execute(f"DELETE FROM {table} WHERE {key} IN ({chosen})", {"since": since})
