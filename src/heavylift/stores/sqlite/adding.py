"""Add: new jobs, each with its first event."""

from __future__ import annotations

from collections.abc import Sequence

from heavylift.core import lifecycle
from heavylift.core.errors import DuplicateJob, QueueFull, SubmitError
from heavylift.core.job import Job, NewEvent, State
from heavylift.core.limits import gates
from heavylift.store import DEBOUNCE_MOST, Added
from heavylift.stores.sqlite import facts, keys, rows, saving
from heavylift.stores.sqlite.drain_rate import retry_after
from heavylift.stores.sqlite.transaction import PLAIN, QueueRow, Transaction

told_options = rows.ToldOptions()


def add(
    transaction: Transaction, jobs: Sequence[tuple[Job, NewEvent]], *, bounded: bool = True
) -> list[Added | SubmitError]:
    """Keep new jobs; an answer for each. Not `bounded`: no `max_size` refuses them."""
    return [_add(transaction, job, event, bounded=bounded) for job, event in jobs]


def _add(transaction: Transaction, job: Job, event: NewEvent, *, bounded: bool) -> Added | SubmitError:
    queue = transaction.queue_named(job.queue)
    if transaction.careful or job.options.unique is not None or queue.max_size is not None:
        return _add_one(transaction, job, event, bounded=bounded)
    # Whether it was there before shows when all are written.
    _write(transaction, queue, job, event)
    return Added(job, created=True)


def _add_one(transaction: Transaction, job: Job, event: NewEvent, *, bounded: bool) -> Added | SubmitError:
    existing = _find(transaction, "id = ?", job.id)
    if existing is not None:
        return Added(existing, created=False)
    unique, options = job.options.unique, job.options
    holders = [] if unique is None else keys.holders(transaction.connection, unique, transaction.now)
    if unique is not None and (keeper := keys.keeper(holders, options)) is not None:
        known = None if options.on_conflict == "reject" else _find(transaction, "number = ?", keeper.job)
        return DuplicateJob(unique, keeper.id) if known is None else Added(known, created=False)
    queue = transaction.queue_named(job.queue)
    leaving = keys.making_room(holders, options)
    if bounded and queue.max_size is not None:
        queued = queue.counts[State.QUEUED] - sum(holder.waits and holder.queue == queue.number for holder in leaving)
        if queued >= queue.max_size:
            return QueueFull(job.queue, queue.max_size, _retry_after(transaction, queue))
    if unique is not None:
        job, event = _take(transaction, job, event, holders)
    _write(transaction, queue, job, event)
    return Added(job, created=True)


def _take(transaction: Transaction, job: Job, event: NewEvent, holders: list[keys.Holder]) -> tuple[Job, NewEvent]:
    """A new job takes its key, and the place of those that make room for it; the job as it is to be kept."""
    options = job.options
    for holder in keys.making_room(holders, options):
        known = _find(transaction, "number = ?", holder.job)
        change = None if known is None else lifecycle.replaced(known, job.id, transaction.now)
        if change is not None:
            saving.write(transaction, [change])
    keys.lose(transaction.connection, keys.losing(holders, options))
    since = keys.since(holders, options, job.created_at)
    keys.keep(transaction.connection, job.id, options, job.created_at, since)
    if options.debounce is None:
        return job, event
    return lifecycle.debounced(job, event, since + DEBOUNCE_MOST * options.debounce)


def _write(transaction: Transaction, queue: QueueRow, job: Job, event: NewEvent) -> None:
    """Write a job, count it, and have it found."""
    options, args, created_at, run_at = job.options, job.args, job.created_at, job.run_at
    large, due = len(args) > rows.INLINE, run_at <= transaction.now
    told = told_options(options)
    lane = transaction.own_lane(queue, told.place)
    if told.lane:
        passed = gates(options)
        lane = transaction.keyed_lane(lane, told.lane, passed)
        transaction.set_limits(passed)
    transaction.insert_job(
        (
            *(job.id, job.task, queue.number, lane.number, told.text, len(args) if large else args),
            *(rows.DUE if due else rows.SCHEDULED, rows.rank(run_at, options.priority)),
            *(created_at, run_at, job.attempt, job.seq, facts.fact(job.seq, created_at, event)),
        ),
        PLAIN if told.plain else (job.expires_at, told.keeps),
    )
    queue.moved(None, rows.DUE)
    transaction.changed = True
    if due:
        transaction.becomes_due(queue, lane)
    else:
        transaction.waits(run_at, queue, lane)
    if large:
        transaction.connection.execute(
            "INSERT INTO large(job, name, value) SELECT number, 'args', ?2 FROM job WHERE id = ?1", (job.id, args)
        )


def _find(transaction: Transaction, condition: str, value: str | int | None) -> Job | None:
    row = transaction.connection.execute(f"SELECT {rows.COLUMNS} FROM job WHERE {condition}", (value,)).fetchone()
    return None if row is None else rows.job_of(transaction.connection, row)


def _retry_after(transaction: Transaction, queue: QueueRow) -> int:
    """Seconds until a place is free, at the rate at which the queue drains."""
    if queue.retry_after is None:
        paused = queue.paused_at is not None
        queue.retry_after = retry_after(transaction.connection, queue.number, transaction.now, paused=paused)
    return queue.retry_after
