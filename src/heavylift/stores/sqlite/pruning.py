"""Prune: finished jobs that retention lets go, and records whose time is over; in small batches."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from heavylift.core.job import State
from heavylift.core.retention import Retention
from heavylift.stores.sqlite import gates, keys, questions, rows
from heavylift.stores.sqlite.transaction import QueueRow, Transaction

REMOVED = 200
"""Jobs that one call removes at most."""
YOUNG = 60.0
"""Seconds for which a finished job is always kept: somebody may be about to read it."""
REMEMBERED = 86400.0
"""Seconds for which the ids of pruned jobs and the epochs of dead workers are remembered."""

FINISHED = (rows.SUCCEEDED, rows.FAILED, rows.CANCELLED)
OLDEST = (
    "SELECT finished_at, number, state FROM job INDEXED BY job_finished WHERE queue = ? AND state = ?"
    " AND finished_at < ? ORDER BY finished_at LIMIT ?"
)
GONE = "SELECT value FROM json_each(?1)"


def prune(transaction: Transaction, retention: Retention) -> int:
    """Remove up to 200 finished jobs; how many."""
    removed = 0
    for queue in list(_queues(transaction)):
        victims = _victims(transaction, queue, retention, REMOVED - removed)
        if victims:
            _remove(transaction, queue, victims)
        removed += len(victims)
        if removed == REMOVED:
            break
    _forget(transaction)
    return removed


def _queues(transaction: Transaction) -> Iterator[QueueRow]:
    """The queues that have finished jobs."""
    for (number,) in transaction.connection.execute(
        "SELECT number FROM queue WHERE succeeded + failed + cancelled > 0"
    ).fetchall():
        yield transaction.queue(number)


def _victims(transaction: Transaction, queue: QueueRow, retention: Retention, limit: int) -> list[tuple[int, int]]:
    """(number, state) of the jobs to remove: too old, or more than are to be kept, the oldest first."""
    connection, now = transaction.connection, transaction.now
    found: dict[int, int] = {}
    for state in FINISHED:
        old = connection.execute(OLDEST, (queue.number, state, now - max(retention.age, YOUNG), limit)).fetchall()
        found |= {number: code for _, number, code in old}
    counts = queue.counts
    for codes, keep, have in (
        ((rows.SUCCEEDED,), retention.succeeded, counts[State.SUCCEEDED]),
        ((rows.FAILED, rows.CANCELLED), retention.failed, counts[State.FAILED] + counts[State.CANCELLED]),
    ):
        excess = 0 if keep is None else have - keep
        if excess > 0:
            oldest = sorted(_oldest(connection, queue.number, codes, now - YOUNG, min(excess, limit)))
            found |= {number: code for _, number, code in oldest[:excess]}
    return list(found.items())[:limit]


def _oldest(
    connection: sqlite3.Connection, queue: int, states: tuple[int, ...], before: float, limit: int
) -> Iterator[tuple[float, int, int]]:
    for state in states:
        yield from connection.execute(OLDEST, (queue, state, before, limit)).fetchall()


def _remove(transaction: Transaction, queue: QueueRow, victims: list[tuple[int, int]]) -> None:
    connection = transaction.connection
    numbers = rows.numbers_text(number for number, _ in victims)
    connection.execute(
        f"INSERT OR REPLACE INTO pruned(id, at) SELECT id, ?2 FROM job WHERE number IN ({GONE})",
        (numbers, transaction.now),
    )
    for table, column in (("event", "job"), ("large", "job"), ("job", "number")):
        connection.execute(f"DELETE FROM {table} WHERE {column} IN ({GONE})", (numbers,))
    for state in FINISHED:
        jobs = sum(code == state for _, code in victims)
        if jobs:
            queue.removed(state, jobs)


def _forget(transaction: Transaction) -> None:
    """Records of what is long gone, a batch at a time."""
    questions.forget(transaction.connection, transaction.now)
    transaction.forget_empty()
    gates.forget(transaction.connection, transaction.now)
    keys.forget(transaction.connection, transaction.now)
    since = transaction.now - REMEMBERED
    transaction.connection.execute(
        "DELETE FROM pruned WHERE id IN (SELECT id FROM pruned WHERE at <= ? ORDER BY at LIMIT 1000)", (since,)
    )
    transaction.connection.execute(
        "DELETE FROM worker WHERE died_at <= ? AND NOT EXISTS"
        " (SELECT 1 FROM job WHERE state = 3 AND job.worker = worker.id)",
        (since,),
    )
