"""Claim: which jobs begin an attempt now. Its cost depends on the jobs returned, never on those that wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heavylift.core.job import Job, State
from heavylift.core.options import RESERVED
from heavylift.store import LeaseLost
from heavylift.stores.sqlite import facts, rows
from heavylift.stores.sqlite.rows import Held
from heavylift.stores.sqlite.transaction import QueueRow, Transaction

MOVED = 200
"""Scheduled jobs that one claim brings into their lanes at most."""

SCHEDULED = (
    "SELECT number, queue FROM job INDEXED BY job_scheduled WHERE state = 1 AND run_at <= ? ORDER BY run_at LIMIT ?"
)
BECOME_DUE = "UPDATE job SET state = 2 WHERE number IN (SELECT value FROM json_each(?))"
LANES = "SELECT queue FROM lane INDEXED BY lane_claimable WHERE ready = 1 AND open = 1 {only} ORDER BY served LIMIT ?"
ONLY = "AND queue IN (SELECT number FROM queue WHERE name IN (SELECT value FROM json_each(?)))"
# Names between "heavylift." and "heavylift/", the next text: a look into the index of names, however many queues.
NOT_RESERVED = f"AND queue NOT IN (SELECT number FROM queue WHERE name >= '{RESERVED}' AND name < '{RESERVED[:-1]}/')"
HEADS = (
    "SELECT number, id, task, options, args, created_at, run_at, attempt, checkpoint, more, seq"
    " FROM job INDEXED BY job_due WHERE lane = ? AND state = 2 ORDER BY rank, number LIMIT ?"
)
TAKE = (
    "UPDATE job SET state = 3, attempt = attempt + 1, worker = ?2, epoch = ?3, started_at = ?4, seq = seq + 1,"
    f" history = {facts.BEGUN.format(at='?5', worker='?6')}"
    " WHERE number IN (SELECT value FROM json_each(?1))"
)


def claim(
    transaction: Transaction, worker: str, epoch: int, limit: int, queues: Sequence[str], held: dict[str, Held]
) -> list[Job]:
    """Begin attempts of up to `limit` due jobs; what is to be known for their settling comes into `held`."""
    was_idle = _check_alive(transaction, worker, epoch)
    if _bring_due(transaction) == MOVED:
        transaction.hinted.add(worker)  # there may be more, of a queue that this claim could serve
    transaction.flush()
    taken: list[tuple[Job, Held | None]] = []
    while len(taken) < limit:
        lanes = _claimable(transaction, limit - len(taken), queues)
        if not lanes:
            break
        share = -(-(limit - len(taken)) // len(lanes))
        for lane in lanes:
            taken += _take(transaction, lane, min(share, limit - len(taken)), worker, epoch)
        transaction.flush()
    idle = len(taken) < limit
    if idle != was_idle:  # it waits for jobs, or no longer: who adds some wakes one that waits
        transaction.connection.execute("UPDATE worker SET idle = ? WHERE id = ?", (int(idle), worker))
    transaction.after.append(lambda: held.update((job.id, known) for job, known in taken if known is not None))
    return [job for job, _ in taken]


def _check_alive(transaction: Transaction, worker: str, epoch: int) -> bool:
    """Raise LeaseLost unless this epoch of the worker is known and was not declared dead; whether it waits for jobs."""
    found = transaction.connection.execute("SELECT epoch, died_at, idle FROM worker WHERE id = ?", (worker,)).fetchone()
    if found is None or found[:2] != (epoch, None):
        message = f"Worker {worker} may not claim as epoch {epoch}: it was declared dead, or it never beat."
        raise LeaseLost(message)
    return bool(found[2])


def _bring_due(transaction: Transaction) -> int:
    """Bring scheduled jobs whose time has come into their lanes; how many."""
    due = transaction.connection.execute(SCHEDULED, (transaction.now, MOVED)).fetchall()
    if due:
        transaction.connection.execute(BECOME_DUE, (rows.numbers_text(number for number, _ in due),))
        for queue in {queue for _, queue in due}:
            transaction.queue(queue).ready = True
    return len(due)


def _claimable(transaction: Transaction, limit: int, queues: Sequence[str]) -> list[QueueRow]:
    statement = LANES.format(only=ONLY if queues else NOT_RESERVED)
    values = (rows.text_of(list(queues)), limit) if queues else (limit,)
    found = transaction.connection.execute(statement, values).fetchall()
    return [transaction.queue(number) for (number,) in found]


def _take(
    transaction: Transaction, queue: QueueRow, limit: int, worker: str, epoch: int
) -> list[tuple[Job, Held | None]]:
    """Begin attempts of the jobs at the head of a queue's lane, and have the lane wait for its next turn."""
    slots = queue.slots
    wanted = limit if slots is None else min(limit, slots)
    heads = transaction.connection.execute(HEADS, (queue.lane, wanted)).fetchall() if wanted else []
    if len(heads) < wanted:
        queue.ready = False
    if not heads:
        return []
    now = transaction.now
    numbers = rows.numbers_text(row[0] for row in heads)
    transaction.connection.execute(TAKE, (numbers, worker, epoch, now, repr(now), rows.text_of(worker)))
    queue.moved(rows.DUE, rows.RUNNING, len(heads))
    queue.served = 1 + transaction.connection.execute("SELECT max(served) FROM lane").fetchone()[0]
    transaction.changed = True
    return [_begun(transaction, head, queue.number, worker, epoch) for head in heads]


def _begun(
    transaction: Transaction, head: Sequence[Any], queue: int, worker: str, epoch: int
) -> tuple[Job, Held | None]:
    """The record of a job at the head of a lane, as it was just written."""
    number, name, task, options, args, created_at, run_at, attempt, checkpoint, more, seq = head
    if type(args) is int or type(checkpoint) is int:
        args, checkpoint, _ = rows.whole(transaction.connection, number, args, checkpoint, None)
    rest = rows.more_of(more)
    parsed = rows.options_of(options)
    job = rows.filled(
        rows.Draft(
            name,
            task,
            args,
            parsed,
            State.RUNNING,
            created_at,
            run_at,
            attempt + 1,
            rest["failures"],
            rest["crashes"],
            rest["losses"],
            worker,
            epoch,
            transaction.now,
            None,
            None,
            rest["stopped"],
            rest["progress"],
            checkpoint,
            None,
            rest["error"],
            rest["log_bytes"],
            seq + 1,
        )
    )
    plain = more is None and parsed.unique is None
    return job, (number, queue, attempt + 1, seq + 1) if plain else None
