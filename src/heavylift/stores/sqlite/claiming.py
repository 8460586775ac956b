"""Claim: which jobs begin an attempt now. Its cost depends on the jobs returned, never on those that wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heavylift.core.job import Draft, Job, State, filled
from heavylift.core.options import RESERVED, Slots
from heavylift.store import LeaseLost
from heavylift.stores.sqlite import facts, rows
from heavylift.stores.sqlite.rows import Held
from heavylift.stores.sqlite.transaction import QueueRow, Transaction

MOVED = 200
"""Scheduled jobs that one claim brings into their lanes at most."""

SCHEDULED = (
    "SELECT number, queue, lane FROM job INDEXED BY job_scheduled WHERE state = 1 AND run_at <= ?"
    " ORDER BY run_at LIMIT ?"
)
BECOME_DUE = "UPDATE job SET state = 2 WHERE number IN (SELECT value FROM json_each(?))"
LANES = (
    "SELECT queue FROM lane INDEXED BY lane_claimable WHERE parent IS NULL AND open = 1"
    " AND ready + crowded > 0 AND place = ? {only}"
    " ORDER BY served LIMIT ?"
)
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
    transaction: Transaction, worker: str, epoch: int, slots: Slots, queues: Sequence[str], held: dict[str, Held]
) -> list[Job]:
    """Begin attempts of as many due jobs as there are slots; what is to be known for their settling comes into
    `held`.
    """
    was_idle = _check_alive(transaction, worker, epoch)
    if _bring_due(transaction) == MOVED:
        transaction.hinted.add(worker)  # there may be more, of a queue that this claim could serve
    transaction.flush()
    taken: list[tuple[Job, Held | None]] = []
    idle = was_idle
    for place, limit in enumerate(slots):
        if limit:
            found = _claim_in(transaction, place, limit, queues, (worker, epoch))
            idle = idle & ~(1 << place) | (len(found) < limit) << place
            taken += found
    if idle != was_idle:  # it waits for other jobs than before: who adds some wakes one that waits for them
        transaction.connection.execute("UPDATE worker SET idle = ? WHERE id = ?", (idle, worker))
    transaction.after.append(lambda: held.update((job.id, known) for job, known in taken if known is not None))
    return [job for job, _ in taken]


def _claim_in(
    transaction: Transaction, place: int, limit: int, queues: Sequence[str], holder: tuple[str, int]
) -> list[tuple[Job, Held | None]]:
    """Begin attempts of up to `limit` due jobs that run in one place."""
    taken: list[tuple[Job, Held | None]] = []
    while len(taken) < limit:
        claimable = _claimable(transaction, place, limit - len(taken), queues)
        if not claimable:
            break
        share = -(-(limit - len(taken)) // len(claimable))
        for queue in claimable:
            taken += _take(transaction, queue, place, min(share, limit - len(taken)), *holder)
        transaction.flush()
    return taken


def _check_alive(transaction: Transaction, worker: str, epoch: int) -> int:
    """Raise LeaseLost unless this epoch of the worker is known and was not declared dead; for which places it waits
    for jobs.
    """
    found = transaction.connection.execute("SELECT epoch, died_at, idle FROM worker WHERE id = ?", (worker,)).fetchone()
    if found is None or found[:2] != (epoch, None):
        message = f"Worker {worker} may not claim as epoch {epoch}: it was declared dead, or it never beat."
        raise LeaseLost(message)
    idle: int = found[2]
    return idle


def _bring_due(transaction: Transaction) -> int:
    """Bring scheduled jobs whose time has come into their lanes; how many."""
    due = transaction.connection.execute(SCHEDULED, (transaction.now, MOVED)).fetchall()
    if due:
        transaction.connection.execute(BECOME_DUE, (rows.numbers_text(row[0] for row in due),))
        for number, lane in {(queue, lane) for _, queue, lane in due}:
            queue = transaction.queue(number)
            next(found for found in queue.lanes.values() if found.number == lane).ready = True
    return len(due)


def _claimable(transaction: Transaction, place: int, limit: int, queues: Sequence[str]) -> list[QueueRow]:
    statement = LANES.format(only=ONLY if queues else NOT_RESERVED)
    values = (place, rows.text_of(list(queues)), limit) if queues else (place, limit)
    found = transaction.connection.execute(statement, values).fetchall()
    return [transaction.queue(number) for (number,) in found]


def _take(
    transaction: Transaction, queue: QueueRow, place: int, limit: int, worker: str, epoch: int
) -> list[tuple[Job, Held | None]]:
    """Begin attempts of the jobs at the head of a queue's lane, and have the lane wait for its next turn."""
    lane, slots = transaction.lane(queue, place), queue.slots
    wanted = limit if slots is None else min(limit, slots)
    heads = transaction.connection.execute(HEADS, (lane.number, wanted)).fetchall() if wanted else []
    if len(heads) < wanted:
        lane.ready = False
    if not heads:
        return []
    now = transaction.now
    numbers = rows.numbers_text(row[0] for row in heads)
    transaction.connection.execute(TAKE, (numbers, worker, epoch, now, repr(now), rows.text_of(worker)))
    queue.moved(rows.DUE, rows.RUNNING, len(heads))
    lane.served = 1 + transaction.connection.execute("SELECT max(served) FROM lane WHERE parent IS NULL").fetchone()[0]
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
    job = filled(
        Draft(
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
            rest["suspected"],
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
