"""Save: changes of jobs, each under its fence, with their events."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heavylift.core import options as core_options
from heavylift.core.errors import DuplicateJob
from heavylift.core.event import PROGRESS
from heavylift.core.job import Change, NewEvent, State
from heavylift.core.limits import Concurrency
from heavylift.core.options import Options
from heavylift.stores.sqlite import facts, keys, rows
from heavylift.stores.sqlite.batches import update_many
from heavylift.stores.sqlite.rows import Held
from heavylift.stores.sqlite.transaction import OutOfDate, Transaction

SAMPLES = 256
"""Progress events of a job that are kept at most."""

SUCCESS = frozenset({"state", "finished_at", "worker", "epoch", "result", "error"})
SETTLE = (
    "state = 4, finished_at = column3, worker = NULL, epoch = NULL, result = column4, seq = seq + 1,"
    " history = history || column5"
)
UNCHANGED = "job.number = column1 AND job.seq = column2 AND job.state = 3 AND job.id = column6"
READ = (
    "SELECT number, id, state, attempt, seq, cancel, queue, worker, epoch, run_at, options, more, length(history)"
    " FROM job WHERE id IN (SELECT value FROM json_each(?))"
)
INSERT_EVENT = "INSERT INTO event(job, seq, kind, at, data) VALUES (?, ?, ?, ?, ?)"
IN_TIME = "UPDATE job SET expires_at = created_at + ? WHERE number = ?"
THIN = (
    "DELETE FROM event WHERE job = ?1 AND seq IN (SELECT seq FROM"
    " (SELECT seq, row_number() OVER (ORDER BY seq) AS place FROM event WHERE job = ?1 AND kind = 'progress')"
    " WHERE place % 2 = 0)"
)


@dataclass(slots=True)
class Current:
    """A job as it stands while its changes are written; `state` is a code."""

    number: int
    id: str
    state: int
    attempt: int
    seq: int
    cancel: str | None
    queue: int
    worker: str | None
    epoch: int | None
    run_at: float
    options: str
    more: str | None
    history: int
    """Characters of its history."""


def save(
    transaction: Transaction, changes: Sequence[Change], held: dict[str, Held], mine: Mapping[str, Mapping[str, int]]
) -> list[int | DuplicateJob | None]:
    """Write changes; the new `seq` of each, None for one that was refused, DuplicateJob for one whose key is taken.

    `held`: jobs that this process claimed. `mine`: see `_is_dead`.
    """
    dead = _dead_epochs(transaction)
    quick: dict[str, int] = {}
    if not transaction.careful and not dead:
        quick = _save_quickly(transaction, changes, held)
    for change in changes:
        held.pop(change.id, None)
    if len(quick) == len(changes):
        return list(quick.values())
    rest = [change for change in changes if change.id not in quick]
    slow = iter(_save_carefully(transaction, rest, dead, mine))
    return [quick[change.id] if change.id in quick else next(slow) for change in changes]


# --- successes of jobs that nobody else wrote: the most of a busy worker's changes ------------------------------------


def _save_quickly(transaction: Transaction, changes: Sequence[Change], held: Mapping[str, Held]) -> dict[str, int]:
    """Settle by what this process remembers of the jobs, without reading them; the new seq of those that were so."""
    chosen: dict[str, tuple[Any, ...]] = {}
    others: set[str] = set()
    for change in changes:
        known = held.get(change.id)
        values = None if known is None or change.id in chosen else _settled(change, known)
        if values is None:
            others.add(change.id)
        else:
            chosen[change.id] = values
    for name in others:  # several changes of one job are written in order, so all of them the other way
        chosen.pop(name, None)
    if not chosen:
        return {}
    if update_many(transaction.connection, SETTLE, UNCHANGED, 6, list(chosen.values())) != len(chosen):
        raise OutOfDate
    for queue, jobs in Counter(held[name][1] for name in chosen).items():
        transaction.queue(queue).moved(rows.RUNNING, rows.SUCCEEDED, jobs)
    transaction.changed = transaction.ended = True
    return {name: values[1] + 1 for name, values in chosen.items()}


def _settled(change: Change, known: Held) -> tuple[Any, ...] | None:
    """The values of a plain success: (number, seq, finished_at, result, fact, id); None for any other change."""
    fields = change.fields
    if fields.get("state") is not State.SUCCEEDED or fields.keys() != SUCCESS:
        return None
    if change.state is not State.RUNNING or change.attempt != known[2] or change.seq is not None:
        return None
    result = fields["result"]
    if fields["error"] is not None or len(change.events) != 1 or len(result) > rows.INLINE:
        return None
    seq = known[3]
    fact = facts.fact(seq + 1, change.at, change.events[0])
    return None if fact is None else (known[0], seq, fields["finished_at"], result, fact, change.id)


# --- all other changes ----------------------------------------------------------------------------------------------


def _dead_epochs(transaction: Transaction) -> set[tuple[str, int]]:
    return set(
        transaction.connection.execute(
            "SELECT id, epoch FROM worker INDEXED BY worker_dead WHERE died_at IS NOT NULL"
        ).fetchall()
    )


def _save_carefully(
    transaction: Transaction,
    changes: Sequence[Change],
    dead: set[tuple[str, int]],
    mine: Mapping[str, Mapping[str, int]],
) -> list[int | DuplicateJob | None]:
    jobs = _current(transaction, changes)
    answers: list[int | DuplicateJob | None] = []
    for change in changes:
        job = jobs.get(change.id)
        if job is None or _refused(change, job, dead, mine):
            answers.append(None)
            continue
        if (duplicate := _duplicate(transaction, change, job)) is not None:
            answers.append(duplicate)
            continue
        _write(transaction, job, change)
        answers.append(job.seq)
    return answers


def write(transaction: Transaction, changes: Sequence[Change]) -> None:
    """Write changes of different jobs that this transaction has decided by what it has read."""
    jobs = _current(transaction, changes)
    for change in changes:
        _write(transaction, jobs[change.id], change)


def _current(transaction: Transaction, changes: Sequence[Change]) -> dict[str, Current]:
    names = rows.text_of(list({change.id for change in changes}))
    found = (Current(*row) for row in transaction.connection.execute(READ, (names,)).fetchall())
    return {job.id: job for job in found}


def _refused(change: Change, job: Current, dead: set[tuple[str, int]], mine: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether the fence is another by now, or the change does not know of something that it must know."""
    if rows.STATES[job.state] is not change.state or job.attempt != change.attempt:
        return True
    if change.seq is not None and change.seq != job.seq:
        return True
    decides = change.fields.get("state") is State.QUEUED or "cancel" in change.fields
    if decides and rows.cancel_of(job.cancel) != change.knows_cancel:
        return True
    return job.state == rows.RUNNING and _is_dead(job, dead, mine)


def _duplicate(transaction: Transaction, change: Change, job: Current) -> DuplicateJob | None:
    """Of a job that is over and to be queued: who has its unique key."""
    if change.fields.get("state") is not State.QUEUED or not change.state.final:
        return None
    unique = rows.options_of(job.options).unique
    holder = None if unique is None else keys.unfinished(transaction.connection, unique, transaction.now)
    return None if unique is None or holder is None else DuplicateJob(unique, holder.id)


def _is_dead(job: Current, dead: set[tuple[str, int]], mine: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether it is this process that lost the job: it beats as the worker that holds it (`mine["beats"]`: worker to
    epoch), this epoch was declared dead or another followed it, and no sweep of its own (`mine["swept"]`: job to
    attempt) gave it the job back.
    """
    epoch = None if job.worker is None else mine["beats"].get(job.worker)
    if job.worker is None or job.epoch is None or epoch is None or mine["swept"].get(job.id) == job.attempt:
        return False
    return epoch > job.epoch or (epoch == job.epoch and (job.worker, job.epoch) in dead)


def _write(transaction: Transaction, job: Current, change: Change) -> None:
    columns = _columns(transaction, job, change)
    history = ""
    for event in change.events:
        job.seq += 1
        fact = facts.fact(job.seq, change.at, event)
        if fact is None:
            _keep_event(transaction.connection, job, change.at, event)
        else:
            history += fact
    if history:
        _keep_facts(transaction.connection, job, history)
    columns["seq"] = job.seq
    columns["more"] = job.more
    sets = ", ".join(f"{name} = ?" for name in columns)
    transaction.connection.execute(f"UPDATE job SET {sets} WHERE number = ?", (*columns.values(), job.number))
    transaction.changed = True
    if job.worker is not None and "cancel" in change.fields:
        transaction.hinted.add(job.worker)


def _columns(transaction: Transaction, job: Current, change: Change) -> dict[str, Any]:
    """The columns that a change's fields stand in, with their new values; `job` is brought up to date."""
    columns: dict[str, Any] = {}
    more: dict[str, Any] = {}
    for name, value in change.fields.items():
        if name in rows.PLAIN:
            columns[name] = value
        elif name == "options":
            job.options = columns[name] = rows.text_of(core_options.to_data(value))
            if value.expires is None:
                columns["expires_at"] = None
        elif name in rows.LARGE:
            columns[name] = _kept(transaction.connection, job, name, value)
        elif name == "cancel":
            job.cancel = columns[name] = rows.cancel_text(value)
        elif name != "state":
            more[name] = value
    job.more = rows.more_with(job.more, more)
    job.attempt = columns.get("attempt", job.attempt)
    job.worker = columns.get("worker", job.worker)
    job.epoch = columns.get("epoch", job.epoch)
    job.run_at = columns.get("run_at", job.run_at)
    if "state" in change.fields:
        columns |= _moved(transaction, job, change.fields["state"])
    elif change.state is State.QUEUED and ("options" in columns or "run_at" in columns):
        job.state = columns["state"] = _placed(transaction, job, columns)
    return columns


def _moved(transaction: Transaction, job: Current, state: State) -> dict[str, Any]:
    """The columns of a job that comes into another state; it is counted, and stands where it belongs."""
    columns: dict[str, Any] = {}
    after = rows.CODES[state][0]
    queue, options = transaction.queue(job.queue), rows.options_of(job.options)
    if state is State.QUEUED:
        after = _placed(transaction, job, columns)
        if job.state > rows.RUNNING:
            _begins_anew(transaction, job, options)
    elif state.final:
        transaction.ended = True
        keys.over(transaction.connection, job.id, options, transaction.now)
        if options.expires is not None:
            columns["expires_at"] = None
    if job.state == rows.RUNNING:
        _free(transaction, options)
    queue.moved(job.state, after)
    job.state = columns["state"] = after
    return columns


def _begins_anew(transaction: Transaction, job: Current, options: Options) -> None:
    """Of a job that was over: it has its key again, and has to begin in time if it never did."""
    if options.unique is not None:
        keys.keep_again(transaction.connection, job.id, options, transaction.now)
    if options.expires is not None and job.attempt == 0:
        transaction.connection.execute(IN_TIME, (options.expires, job.number))


def _free(transaction: Transaction, options: Options) -> None:
    """Of a job that stops running: the slots that it held of its gates, and its name."""
    for key in {limit.key for limit in options.limits if isinstance(limit, Concurrency)}:
        transaction.gates.freed(transaction.connection, "concurrency", key)
    if options.unique is not None:
        transaction.gates.freed(transaction.connection, "unique", options.unique)


def _placed(transaction: Transaction, job: Current, columns: dict[str, Any]) -> int:
    """Have a queued job stand in its lane by its options and its time; whether it is due, as a code."""
    options, queue = rows.options_of(job.options), transaction.queue(job.queue)
    lane = transaction.lane(queue, options, job.attempt)
    columns["lane"] = lane.number
    columns["rank"] = rows.rank(job.run_at, options.priority)
    if job.run_at > transaction.now:
        if job.state != rows.RUNNING:  # the worker that ran it knows
            transaction.waits(job.run_at, queue, lane)
        return rows.SCHEDULED
    transaction.becomes_due(queue, lane)
    return rows.DUE


def _kept(connection: sqlite3.Connection, job: Current, name: str, value: bytes | None) -> bytes | int | None:
    """What stands in the column of a value; a large one is kept aside."""
    if value is None or len(value) <= rows.INLINE:
        connection.execute("DELETE FROM large WHERE job = ? AND name = ?", (job.number, name))
        return value
    connection.execute("INSERT OR REPLACE INTO large VALUES (?, ?, ?)", (job.number, name, value))
    return len(value)


def _keep_facts(connection: sqlite3.Connection, job: Current, added: str) -> None:
    """Append to the history; one that grew long becomes rows first, so that no write of the job carries it."""
    if job.history + len(added) > facts.HISTORY:
        old = connection.execute("SELECT history FROM job WHERE number = ?", (job.number,)).fetchone()[0]
        connection.executemany(
            INSERT_EVENT,
            [
                (job.number, item.seq, item.kind, item.at, rows.text_of(item.data))
                for item in facts.facts_of(job.id, old)
            ],
        )
        connection.execute("UPDATE job SET history = ?2 WHERE number = ?1", (job.number, added))
        job.history = len(added)
        return
    connection.execute("UPDATE job SET history = history || ?2 WHERE number = ?1", (job.number, added))
    job.history += len(added)


def _keep_event(connection: sqlite3.Connection, job: Current, at: float, event: NewEvent) -> None:
    """An event as a row of its own; of progress reports, every second one goes when there are too many."""
    if event.kind == PROGRESS:
        samples = rows.samples_of(job.more)
        if samples >= SAMPLES:
            samples -= connection.execute(THIN, (job.number,)).rowcount
        job.more = rows.more_with(job.more, {"samples": samples + 1})
    connection.execute(INSERT_EVENT, (job.number, job.seq, event.kind, at, rows.text_of(event.data)))
