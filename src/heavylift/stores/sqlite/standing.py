"""Where waiting jobs stand: what closes their way, and how many are ahead."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pydantic_core import from_json

from heavylift.core import limits
from heavylift.core.limits import Gate
from heavylift.core.queue import MOST_AHEAD, ClosedGate, Pause, Standing
from heavylift.stores.sqlite import ahead, reading, rows
from heavylift.stores.sqlite.ahead import Waits
from heavylift.stores.sqlite.drain_rate import drain_rate
from heavylift.stores.sqlite.gates import GateRow, Gates
from heavylift.stores.sqlite.moment import Moment

HOLDERS = 3
"""Jobs behind a closed gate that are named."""
JOBS = (
    "SELECT number, id, task, queue, lane, options, rank, attempt FROM job"
    " WHERE id IN (SELECT value FROM json_each(?)) AND state IN (1, 2)"
)
QUEUE = "SELECT paused_at, paused_by, paused_why, concurrency, running, rate, due, queued FROM queue WHERE number = ?"
LIMITED = (
    "SELECT json_group_array(json_array(id, options)) FROM (SELECT id, options FROM job INDEXED BY job_running"
    " WHERE state = 3 LIMIT ?) WHERE instr(options, '\"limits\"')"
)
NAMESAKES = (
    "SELECT job.id FROM unique_key CROSS JOIN job ON job.id = unique_key.id WHERE unique_key.key = ? AND job.state = 3"
    " LIMIT ?"
)


def standings(connection: sqlite3.Connection, ids: Sequence[str], now: Moment) -> dict[str, Standing]:
    """Where those of these jobs stand that are queued, by id."""
    with reading.snapshot(connection):
        found = [
            Waits(number, name, task, queue, lane, rows.options_of(options), rank, attempt)
            for number, name, task, queue, lane, options, rank, attempt in connection.execute(
                JOBS, (rows.text_of(list(ids)),)
            ).fetchall()
        ]
        queues = {number: _queue(connection, number, now) for number in {job.queue for job in found}}
        gates = Gates(now.monotonic)
        closed = {job.id: _closed(connection, gates, job, now) for job in found}
        _name_holders(connection, closed)
        alone = frozenset(name for name, gate in closed.items() if gate is not None)
        before = ahead.counted(connection, found, alone, {number: queued for number, (_, queued) in queues.items()})
        return {job.id: replace(queues[job.queue][0], gate=closed[job.id], ahead=before[job.id]) for job in found}


def _queue(connection: sqlite3.Connection, number: int, now: Moment) -> tuple[Standing, int]:
    """What all jobs of a queue have in common, and how many these are."""
    row = connection.execute(QUEUE, (number,)).fetchone()
    paused_at, by, why, concurrency, running, rate, due, queued = row
    pause = None if paused_at is None else Pause(paused_at, by, why)
    full = concurrency if concurrency is not None and running >= concurrency else None
    opens_at = None
    if rate is not None and not limits.room(due, now.monotonic, limits.pace(rate)):
        opens_at = now.wall_of(limits.opens_at(due, limits.pace(rate)))
    return Standing(pause, full, rate, opens_at, None, 0, drain_rate(connection, number, now.wall)), queued


def _closed(connection: sqlite3.Connection, gates: Gates, job: Waits, now: Moment) -> ClosedGate | None:
    """The first of its gates that a job cannot pass now."""
    for gate in limits.gates(job.options, begun=job.attempt > 0):
        found = gates.named(connection, gate.kind, gate.key)
        if found is None or gates.room(connection, found):
            continue
        opens_at = None
        if found.kind == "rate":
            opens_at = max(now.wall, now.wall_of(limits.opens_at(found.due, limits.pace(found.limit))))
        return ClosedGate(_as_it_is(gate, found), (), opens_at)
    return None


def _as_it_is(gate: Gate, found: GateRow) -> Gate:
    """The gate with the limit that holds for all."""
    return gate._replace(limit=found.limit if gate.kind == "rate" else int(found.limit))


def _name_holders(connection: sqlite3.Connection, closed: dict[str, ClosedGate | None]) -> None:
    """Put ids of jobs that run behind them into closed gates."""
    gates = {found.gate for found in closed.values() if found is not None}
    holders = _holders(connection, [gate for gate in gates if gate.kind == "concurrency"])
    for gate in gates:
        if gate.kind == "unique":
            holders[gate] = [name for (name,) in connection.execute(NAMESAKES, (gate.key, HOLDERS)).fetchall()]
    for name, found in closed.items():
        if found is not None and found.gate in holders:
            closed[name] = replace(found, holders=tuple(holders[found.gate]))


def _holders(connection: sqlite3.Connection, gates: Iterable[Gate]) -> dict[Gate, list[str]]:
    """Running jobs behind these gates, by a look at the jobs that run, of which there are never very many."""
    holders: dict[Gate, list[str]] = {gate: [] for gate in gates}
    if not holders:
        return holders
    by_key = {gate.key: found for gate, found in holders.items()}
    for name, options in from_json(connection.execute(LIMITED, (MOST_AHEAD,)).fetchone()[0]):
        for gate in limits.gates(rows.options_of(options)):
            if gate.kind == "concurrency" and gate.key in by_key and len(by_key[gate.key]) < HOLDERS:
                by_key[gate.key].append(name)
    return holders
