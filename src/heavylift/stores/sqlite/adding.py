"""Add: new jobs, each with its first event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heavylift.core.errors import DuplicateJob, QueueFull, SubmitError
from heavylift.core.job import Job, NewEvent, State
from heavylift.store import Added
from heavylift.stores.sqlite import facts, rows
from heavylift.stores.sqlite.batches import insert_many
from heavylift.stores.sqlite.transaction import OutOfDate, QueueRow, Transaction

INSERT = (
    "job(id, task, queue, lane, options, args, state, rank, created_at, run_at, attempt, seq, history)",
    13,
)
RATE_WINDOW = 60.0
"""Seconds of the past by which a full queue's rate is judged."""
LONGEST_WAIT = 300

option_texts = rows.OptionTexts()


def add(transaction: Transaction, jobs: Sequence[tuple[Job, NewEvent]]) -> list[Added | SubmitError]:
    """Keep new jobs; an answer for each."""
    quick = not transaction.careful
    for job, _ in jobs:
        quick = quick and job.options.unique is None
        quick = quick and transaction.queue_named(job.queue).max_size is None
    if quick:
        _add_quickly(transaction, jobs)
        return [Added(job, created=True) for job, _ in jobs]
    return [_add_one(transaction, job, event) for job, event in jobs]


def _add_quickly(transaction: Transaction, jobs: Sequence[tuple[Job, NewEvent]]) -> None:
    """All at once; that none of them was there before shows in how many were written."""
    values = [_values(transaction, job, event) for job, event in jobs]
    if insert_many(transaction.connection, *INSERT, values, ignore=True) != len(jobs):
        raise OutOfDate
    for job, _ in jobs:
        _stands(transaction, job)
        _keep_large(transaction, job)


def _add_one(transaction: Transaction, job: Job, event: NewEvent) -> Added | SubmitError:
    existing = _find(transaction, "id = ?", job.id)
    if existing is not None:
        return Added(existing, created=False)
    unique = job.options.unique
    if unique is not None:
        holder = _find(transaction, "number = (SELECT job FROM unique_key WHERE key = ?)", unique)
        if holder is not None and job.options.on_conflict == "reject":
            return DuplicateJob(unique, holder.id)
        if holder is not None:
            return Added(holder, created=False)
    queue = transaction.queue_named(job.queue)
    if queue.max_size is not None and queue.counts[State.QUEUED] >= queue.max_size:
        return QueueFull(job.queue, queue.max_size, _retry_after(transaction, queue))
    insert_many(transaction.connection, *INSERT, [_values(transaction, job, event)])
    _stands(transaction, job)
    _keep_large(transaction, job)
    if unique is not None:
        transaction.connection.execute(
            "INSERT INTO unique_key(job, key) SELECT number, ?2 FROM job WHERE id = ?1", (job.id, unique)
        )
    return Added(job, created=True)


def _values(transaction: Transaction, job: Job, event: NewEvent) -> tuple[Any, ...]:
    queue = transaction.queue_named(job.queue)
    args: bytes | int = job.args if len(job.args) <= rows.INLINE else len(job.args)
    state = rows.DUE if job.run_at <= transaction.now else rows.SCHEDULED
    history = facts.fact(job.seq, job.created_at, event)
    rank = rows.rank(job.run_at, job.options.priority)
    options = option_texts(job.options)
    lane = transaction.lane(queue, rows.PLACES[job.options.run_in])
    return (
        *(job.id, job.task, queue.number, lane.number, options, args, state, rank),
        *(job.created_at, job.run_at, job.attempt, job.seq, history),
    )


def _stands(transaction: Transaction, job: Job) -> None:
    """Count a job that was written, and have it found."""
    queue = transaction.queue_named(job.queue)
    due = job.run_at <= transaction.now
    queue.moved(None, rows.DUE)
    transaction.changed = True
    if due:
        transaction.becomes_due(queue, rows.PLACES[job.options.run_in])


def _keep_large(transaction: Transaction, job: Job) -> None:
    if len(job.args) > rows.INLINE:
        transaction.connection.execute(
            "INSERT INTO large(job, name, value) SELECT number, 'args', ?2 FROM job WHERE id = ?1",
            (job.id, job.args),
        )


def _find(transaction: Transaction, condition: str, value: str) -> Job | None:
    row = transaction.connection.execute(f"SELECT {rows.COLUMNS} FROM job WHERE {condition}", (value,)).fetchone()
    return None if row is None else rows.job_of(transaction.connection, row)


def _retry_after(transaction: Transaction, queue: QueueRow) -> int:
    """Seconds until a place is free, at the rate of the last minute."""
    finished: int = transaction.connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM job INDEXED BY job_finished"
        " WHERE queue = ?1 AND state IN (4, 5, 6) AND finished_at > ?2 LIMIT ?3)",
        (queue.number, transaction.now - RATE_WINDOW, int(RATE_WINDOW)),
    ).fetchone()[0]
    return LONGEST_WAIT if finished == 0 else min(LONGEST_WAIT, -(-int(RATE_WINDOW) // finished))
