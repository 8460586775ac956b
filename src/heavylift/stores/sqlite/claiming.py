"""Claim: which jobs begin an attempt now. Its cost depends on the jobs returned, never on those that wait."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic_core import from_json

from heavylift.core import lifecycle
from heavylift.core.job import Draft, Job, State, filled
from heavylift.core.options import RESERVED, Slots
from heavylift.store import LeaseLost
from heavylift.stores.sqlite import expiring, facts, lanes, rows
from heavylift.stores.sqlite.gates import EARLY
from heavylift.stores.sqlite.lanes import LaneRow
from heavylift.stores.sqlite.rows import Held
from heavylift.stores.sqlite.transaction import QueueRow, Transaction

MOVED = 200
"""Scheduled jobs that one claim brings into their lanes at most."""
LOOKS = 200
"""Lanes that give no job, jobs of unknown tasks, and expired ones that one claim looks at; then others have their turn.
"""

CLAIMER = (
    "SELECT epoch, died_at, idle, tasks, (SELECT min(run_at) FROM job INDEXED BY job_scheduled WHERE state = 1),"
    " (SELECT min(opens_at) FROM gate INDEXED BY gate_opens WHERE opens_at IS NOT NULL),"
    " (SELECT min(opens_at) FROM queue INDEXED BY queue_opens WHERE opens_at IS NOT NULL)"
    " FROM worker WHERE id = ?"
)
SCHEDULED = (
    "SELECT number, queue, lane, options, attempt FROM job INDEXED BY job_scheduled WHERE state = 1 AND run_at <= ?"
    " ORDER BY run_at LIMIT ?"
)
BECOME_DUE = "UPDATE job SET state = 2 WHERE number IN (SELECT value FROM json_each(?))"
CLAIMABLE = (
    f"{lanes.SELECT} INDEXED BY lane_claimable WHERE parent IS NULL AND open = 1 AND ready + crowded > 0"
    # Names between "heavylift." and "heavylift/", the next text: a look into the index of names, however many queues.
    f" AND queue NOT IN (SELECT number FROM queue WHERE name >= '{RESERVED}' AND name < '{RESERVED[:-1]}/')"
    " AND place = ?{known} ORDER BY served LIMIT ?"
)
# Of queues in which only tasks wait that this worker does not know there may be many: they are passed over in one go.
_BESIDE = (
    "SELECT 1 FROM lane AS beside INDEXED BY lane_in_turn"
    " WHERE beside.parent = lane.number AND beside.ready = 1 AND beside.parked IS NULL"
)
WITH_KNOWN = (
    f" AND (ready = 1 OR NOT EXISTS ({_BESIDE}) OR EXISTS"
    f" ({_BESIDE} AND (beside.task IS NULL OR beside.task IN (SELECT value FROM json_each(?)))))"
)
NAMED = (
    f"SELECT {', '.join(f'lane.{name}' for name in lanes.COLUMNS.split(', '))}"
    " FROM json_each(?) AS given CROSS JOIN queue ON queue.name = given.value"
    " CROSS JOIN lane ON lane.queue = queue.number AND lane.place = ? AND lane.key = ''"
    " WHERE open = 1 AND ready + crowded > 0 ORDER BY given.key"
)
HEADS = (
    "SELECT number, id, task, options, args, created_at, run_at, attempt, checkpoint, more, seq"
    " FROM job INDEXED BY job_due WHERE lane = ? AND state = 2 ORDER BY rank, number LIMIT ?"
)
MOVE = "UPDATE job SET lane = ? WHERE number IN (SELECT value FROM json_each(?))"
TAKE = (
    "UPDATE job SET state = 3, attempt = attempt + 1, worker = ?2, epoch = ?3, started_at = ?4, seq = seq + 1,"
    f" history = {facts.BEGUN.format(at='?5', worker='?6')}"
    " WHERE number IN (SELECT value FROM json_each(?1))"
)

EXPIRES = '"expires"'
"""What stands in the options of a job that has to begin in time."""
IN_TIME = "UPDATE job SET expires_at = NULL WHERE number IN (SELECT value FROM json_each(?))"

Head = tuple[Any, ...]
"""A row of HEADS."""
Awaited = Sequence[float | None]
"""When the next scheduled job is due (Unix seconds), the next gate opens, the next queue does (monotonic)."""


@dataclass(slots=True)
class Claimer:
    """Who claims, for one claim. `weights`: by queue, of those that it serves, none for all. `tasks`: JSON array of
    those that it knows, None for all. `looks`: how many lanes and jobs it may still look at in vain. `seen`: own lanes
    of queues that had nothing for it. `late`: numbers of expired jobs that it has met.
    """

    worker: str
    epoch: int
    weights: Mapping[str, int]
    tasks: str | None
    known: frozenset[str] | None
    was_idle: int
    looks: int = LOOKS
    seen: set[int] = field(default_factory=set)
    late: list[int] = field(default_factory=list)

    def progress(self, taken: Sequence[Any]) -> tuple[int, int]:
        """What differs when something was moved."""
        return len(taken), self.looks


def claim(
    transaction: Transaction, worker: str, epoch: int, slots: Slots, queues: Collection[str], held: dict[str, Held]
) -> list[Job]:
    """Begin attempts of as many due jobs as there are slots; what is to be known for their settling comes into
    `held`.
    """
    claimer, (run_at, gate_opens, queue_opens) = _claimer(transaction, worker, epoch, queues)
    opening, more = transaction.monotonic + EARLY, False
    comes = run_at is not None and run_at <= transaction.now
    opens = any(at is not None and at <= opening for at in (gate_opens, queue_opens))
    if comes:
        more = _bring_due(transaction) == MOVED
    if opens:
        more = transaction.open_due() or more
    if comes or opens or transaction.dirty:
        transaction.flush()  # what is claimable is read from the tables
    taken: list[tuple[Job, Held | None]] = []
    idle = claimer.was_idle
    for place, limit in enumerate(slots):
        if limit:
            found = _claim_in(transaction, place, limit, claimer)
            idle = idle & ~(1 << place) | (len(found) < limit) << place
            taken += found
    if more or claimer.looks <= 0:
        transaction.hinted.add(worker)  # there may be more, of a queue that this claim could serve
    if idle != claimer.was_idle:  # it waits for other jobs than before: who adds some wakes one that waits for them
        transaction.connection.execute("UPDATE worker SET idle = ? WHERE id = ?", (idle, worker))
    transaction.after.append(lambda: held.update((job.id, known) for job, known in taken if known is not None))
    return [job for job, _ in taken]


def _claimer(transaction: Transaction, worker: str, epoch: int, queues: Collection[str]) -> tuple[Claimer, Awaited]:
    """Who claims, and for when there is something to be done first; raises LeaseLost unless this epoch of the worker is
    known and was not declared dead.
    """
    found = transaction.connection.execute(CLAIMER, (worker,)).fetchone()
    if found is None or found[:2] != (epoch, None):
        message = f"Worker {worker} may not claim as epoch {epoch}: it was declared dead, or it never beat."
        raise LeaseLost(message)
    _, _, idle, tasks, *awaited = found
    weights = queues if isinstance(queues, dict) else dict.fromkeys(queues, 1)
    return Claimer(worker, epoch, weights, tasks, _names(tasks), idle), awaited


@lru_cache(maxsize=64)
def _names(tasks: str | None) -> frozenset[str] | None:
    return None if tasks is None else frozenset(from_json(tasks))


def _bring_due(transaction: Transaction) -> int:
    """Bring scheduled jobs whose time has come into their lanes; how many."""
    due = transaction.connection.execute(SCHEDULED, (transaction.now, MOVED)).fetchall()
    if not due:
        return 0
    transaction.connection.execute(BECOME_DUE, (rows.numbers_text(row[0] for row in due),))
    moved: dict[int, list[int]] = {}
    for number, queue_number, lane_number, options, attempt in due:
        queue = transaction.queue(queue_number)
        lane = transaction.lane(queue, rows.options_of(options), attempt)
        if lane.number != lane_number:  # the one in which it was to stand was forgotten meanwhile
            moved.setdefault(lane.number, []).append(number)
        transaction.becomes_due(queue, lane)
    for lane_number, numbers in moved.items():
        transaction.connection.execute(MOVE, (lane_number, rows.numbers_text(numbers)))
    return len(due)


def _claim_in(transaction: Transaction, place: int, limit: int, claimer: Claimer) -> list[tuple[Job, Held | None]]:
    """Begin attempts of up to `limit` due jobs that run in one place."""
    taken: list[tuple[Job, Held | None]] = []
    came_on = claimer.progress(taken)
    while len(taken) < limit and claimer.looks > 0:
        claimable = _claimable(transaction, place, limit - len(taken), claimer)
        if not claimable:
            if not claimer.seen or came_on == claimer.progress(taken):
                break
            # Meanwhile a gate may have let go of something where nothing was before.
            claimer.seen.clear()
            came_on = claimer.progress(taken)
            continue
        left, weights = limit - len(taken), [claimer.weights.get(queue.name, 1) for queue, _ in claimable]
        whole = sum(weights)
        for (queue, lane), weight in zip(claimable, weights, strict=True):
            share = min(-(-left * weight // whole), limit - len(taken))
            if share:
                taken += _take_from(transaction, queue, lane, share, claimer)
        transaction.flush()
    claimer.seen.clear()
    return taken


def _claimable(transaction: Transaction, place: int, limit: int, claimer: Claimer) -> list[tuple[QueueRow, LaneRow]]:
    """The queues that have something to claim in a place, in their order, each with its own lane."""
    if claimer.weights:
        found = transaction.connection.execute(NAMED, (rows.text_of(list(claimer.weights)), place)).fetchall()
    else:
        known, tasks = ("", ()) if claimer.tasks is None else (WITH_KNOWN, (claimer.tasks,))
        values = (place, *tasks, limit + len(claimer.seen))
        found = transaction.connection.execute(CLAIMABLE.format(known=known), values).fetchall()
    kept = (transaction.kept_lane(LaneRow.of(row)) for row in found)
    return [(transaction.queue(lane.queue), lane) for lane in kept if lane.number not in claimer.seen]


def _take_from(
    transaction: Transaction, queue: QueueRow, own: LaneRow, limit: int, claimer: Claimer
) -> list[tuple[Job, Held | None]]:
    """Begin attempts of a queue's jobs, from its lanes in turn, and have the queue wait for its next turn."""
    slots = queue.slots(transaction.monotonic)
    wanted = limit if slots is None else min(limit, slots)
    taken: list[tuple[Job, Held | None]] = []
    while len(taken) < wanted and claimer.looks > 0:
        left = wanted - len(taken)
        found = _lanes_in_turn(transaction, own, left, claimer)
        if not found:
            if own.crowded:  # with tasks that this worker does not know
                claimer.seen.add(own.number)
            break
        heads: list[Head] = []
        for lane in found:
            share = min(-(-left // len(found)), left - len(heads))
            if share:
                heads += _heads(transaction, queue, lane, share, claimer)
        if heads:
            taken += _begin(transaction, queue, heads, claimer)
        if claimer.late:  # not before: a job that follows may take the place of one that was at the head of a lane
            expiring.expire(transaction, claimer.late)
            claimer.late.clear()
        if own.crowded:
            transaction.flush()
    if taken:
        own.served = (
            1 + transaction.connection.execute("SELECT max(served) FROM lane WHERE parent IS NULL").fetchone()[0]
        )
    return taken


def _lanes_in_turn(transaction: Transaction, own: LaneRow, limit: int, claimer: Claimer) -> list[LaneRow]:
    """A queue's claimable lanes, that first whose turn is the longest ago."""
    if not own.crowded:
        return [own] if own.ready else []
    beside = lanes.in_turn(transaction.connection, own.number, claimer.tasks, limit)
    found = [transaction.kept_lane(lane) for lane in beside]
    if not beside and not (claimer.tasks and lanes.in_turn(transaction.connection, own.number, None, 1)):
        own.crowded = False
    if own.ready:
        found.append(own)
        found.sort(key=lambda lane: (lane.turn, lane.number))
    return found[:limit]


def _heads(transaction: Transaction, queue: QueueRow, lane: LaneRow, limit: int, claimer: Claimer) -> list[Head]:
    """The jobs at the head of a lane that may begin now."""
    own = transaction.own_lane(queue, lane.place)
    wanted = limit
    gates = [transaction.gates.numbered(transaction.connection, number) for number in lane.gates]
    for gate in gates:
        wanted = min(wanted, transaction.gates.room(transaction.connection, gate))
        gate.touched = True  # what it has no use for is for others
    if wanted:
        # One more says whether the lane is empty after this.
        found = transaction.connection.execute(HEADS, (lane.number, wanted + 1)).fetchall()
        heads = _known(transaction, queue, lane, _unexpired(transaction, found, claimer), claimer)
        lane.ready = len(found) > wanted or len(heads) < len(found)
        heads = heads[:wanted]
        for gate in gates:
            if heads:
                transaction.gates.passed(gate, len(heads))
    else:
        heads = []
    if not heads:
        claimer.looks -= 1
    elif own.crowded:  # who got nothing had no turn
        own.turns += 1
        lane.turn = own.turns
    if lane.ready and gates:
        transaction.is_parked(lane)
    return heads


def _known(transaction: Transaction, queue: QueueRow, lane: LaneRow, heads: list[Head], claimer: Claimer) -> list[Head]:
    """Those heads whose task the worker knows; the others go into lanes of their own, which hide none."""
    known = claimer.known
    if known is None or lane.task is not None:
        return heads
    strange = [head for head in heads if head[2] not in known]
    for head in strange:
        other = transaction.lane(queue, rows.options_of(head[3]), head[7], head[2])
        transaction.connection.execute(MOVE, (other.number, rows.numbers_text([head[0]])))
        transaction.becomes_due(queue, other)
        claimer.looks -= 1
    return [head for head in heads if head[2] in known] if strange else heads


def _unexpired(transaction: Transaction, heads: list[Head], claimer: Claimer) -> list[Head]:
    """Those heads that may begin; the others are to be settled."""
    now = transaction.now
    late = [
        head[0]
        for head in heads
        if EXPIRES in head[3] and lifecycle.is_late(rows.options_of(head[3]), head[5], head[7], now)
    ]
    if not late:
        return heads
    claimer.late += late
    claimer.looks -= len(late)
    return [head for head in heads if head[0] not in late]


def _begin(
    transaction: Transaction, queue: QueueRow, heads: list[Head], claimer: Claimer
) -> list[tuple[Job, Held | None]]:
    """Begin attempts of these jobs."""
    now, worker = transaction.now, claimer.worker
    numbers = rows.numbers_text(head[0] for head in heads)
    transaction.connection.execute(TAKE, (numbers, worker, claimer.epoch, now, repr(now), rows.text_of(worker)))
    if in_time := [head[0] for head in heads if EXPIRES in head[3]]:
        transaction.connection.execute(IN_TIME, (rows.numbers_text(in_time),))
    queue.began(transaction.monotonic, len(heads))
    transaction.changed = True
    return [_begun(transaction, head, queue.number, worker, claimer.epoch) for head in heads]


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
    plain = more is None and parsed.unique is None and not parsed.limits
    return job, (number, queue, attempt + 1, seq + 1) if plain else None
