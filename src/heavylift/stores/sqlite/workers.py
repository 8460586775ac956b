"""Leases: workers register, beat, say good-bye, and are declared dead; what they held is found again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from heavylift.core.job import Job
from heavylift.store import CancelOrder, Mailbox, WorkerRecord, WorkerStatus
from heavylift.stores.sqlite import questions, rows
from heavylift.stores.sqlite.transaction import Transaction

RETURNED = 200
"""Jobs of dead workers that one sweep returns at most."""

FIELDS = frozenset(item.name for item in fields(WorkerRecord))
"""A record may have been written by another version."""

REGISTER = (
    "INSERT INTO worker(id, epoch, boot_id, pid_namespace, pid, process_started, beat_at, beat_wall, lease, queues,"
    " tasks, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch,"
    " boot_id = excluded.boot_id, pid_namespace = excluded.pid_namespace, pid = excluded.pid,"
    " process_started = excluded.process_started, beat_at = excluded.beat_at, beat_wall = excluded.beat_wall,"
    " lease = excluded.lease, queues = excluded.queues, tasks = excluded.tasks, record = excluded.record,"
    " died_at = NULL"
)
CANCELS = (
    "SELECT id, attempt, cancel FROM job INDEXED BY job_cancelling"
    " WHERE state = 3 AND cancel IS NOT NULL AND worker = ? AND epoch = ?"
)
NEXT_HOLDER = (
    "SELECT worker, epoch FROM job INDEXED BY job_running"
    " WHERE state = 3 AND (worker, epoch) > (?, ?) ORDER BY worker, epoch LIMIT 1"
)
HELD = "SELECT id, attempt FROM job INDEXED BY job_running WHERE state = 3 AND worker = ? AND epoch = ?"
ORPHANS = (
    f"SELECT {rows.COLUMNS} FROM job INDEXED BY job_running WHERE state = 3 AND worker = ? AND epoch = ?"
    " ORDER BY json_extract(more, '$.losses') DESC LIMIT ?"
)


def beat(transaction: Transaction, worker: WorkerRecord, lease: float) -> Mailbox:
    """Renew a lease, and bring back what is to be stopped."""
    known = transaction.connection.execute("SELECT epoch, died_at FROM worker WHERE id = ?", (worker.id,)).fetchone()
    if known is not None and (worker.epoch < known[0] or (worker.epoch == known[0] and known[1] is not None)):
        return Mailbox(alive=False)
    transaction.connection.execute(
        REGISTER,
        (
            *(worker.id, worker.epoch, worker.boot_id, worker.pid_namespace, worker.pid, worker.process_started),
            *(transaction.monotonic, transaction.now, lease, rows.text_of(worker.queues)),
            *(rows.text_of(worker.tasks) if worker.tasks else None, rows.text_of(asdict(worker))),
        ),
    )
    orders = []
    for name, attempt, cancel in transaction.connection.execute(CANCELS, (worker.id, worker.epoch)).fetchall():
        request = rows.cancel_of(cancel)
        if request is not None:
            orders.append(CancelOrder(name, attempt, request))
    return Mailbox(
        alive=True, cancels=tuple(orders), questions=questions.open_ones(transaction, worker.id, worker.epoch)
    )


def retire(transaction: Transaction, worker: str, epoch: int) -> None:
    """Forget a worker that stops."""
    transaction.connection.execute("DELETE FROM worker WHERE id = ? AND epoch = ? AND died_at IS NULL", (worker, epoch))


def sweep(transaction: Transaction, worker: str, *, others: bool) -> list[Job]:
    """Declare the dead, and return jobs that nobody who lives holds."""
    for name in list(_dying(transaction.connection, worker, transaction.monotonic, others=others)):
        transaction.connection.execute("UPDATE worker SET died_at = ? WHERE id = ?", (transaction.now, name))
    found: list[Job] = []
    for holder, epoch in holders(transaction.connection):
        if len(found) == RETURNED:
            break
        if not _lives(transaction.connection, holder, epoch):
            orphans = transaction.connection.execute(ORPHANS, (holder, epoch, RETURNED - len(found))).fetchall()
            found += [rows.job_of(transaction.connection, row) for row in orphans]
    return found


def is_to_sweep(connection: sqlite3.Connection, worker: str, monotonic: float, *, others: bool) -> bool:
    """Whether a sweep would declare or return anything."""
    if next(_dying(connection, worker, monotonic, others=others), None) is not None:
        return True
    return any(not _lives(connection, *holder) for holder in holders(connection))


def holders(connection: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """Each (worker, epoch) that some running job names; one look into the index for each, whatever they hold."""
    last: tuple[str, int] | None = ("", -1)
    while last is not None:
        last = connection.execute(NEXT_HOLDER, last).fetchone()
        if last is not None:
            yield last


def held(connection: sqlite3.Connection, worker: str, epoch: int) -> dict[str, int]:
    """The running jobs of one holder: id to attempt."""
    return dict(connection.execute(HELD, (worker, epoch)).fetchall())


def statuses(connection: sqlite3.Connection, wall: float, monotonic: float) -> list[WorkerStatus]:
    """All workers, by start; a dead one as long as it holds jobs."""
    holding = set(holders(connection))
    found = []
    for epoch, boot, beat_at, beat_wall, lease, died_at, text in connection.execute(
        "SELECT epoch, boot_id, beat_at, beat_wall, lease, died_at, record FROM worker"
    ).fetchall():
        record = from_json(text)
        known = {name: value for name, value in record.items() if name in FIELDS}
        worker = WorkerRecord(**known | {name: tuple(known.get(name, ())) for name in ("queues", "tasks")})
        if died_at is not None and (worker.id, epoch) not in holding:
            continue
        # Another boot's monotonic clock says nothing here.
        age = monotonic - beat_at if boot == boot_id() else wall - beat_wall
        dead = died_at is not None or _over(boot, beat_at, lease, monotonic)
        found.append(WorkerStatus(worker, max(0.0, age), dead))
    return sorted(found, key=lambda status: (status.worker.started_at, status.worker.id))


def _dying(connection: sqlite3.Connection, worker: str, monotonic: float, *, others: bool) -> Iterator[str]:
    here = (boot_id(), pid_namespace())
    others = others and not _was_away(connection, worker, monotonic)
    for name, boot, namespace, pid, started, beat_at, lease in connection.execute(
        "SELECT id, boot_id, pid_namespace, pid, process_started, beat_at, lease FROM worker"
        " WHERE died_at IS NULL AND id <> ?",
        (worker,),
    ).fetchall():
        gone = (boot, namespace) == here and is_gone(pid, started)
        if gone or (others and _over(boot, beat_at, lease, monotonic)):
            yield name


def _was_away(connection: sqlite3.Connection, worker: str, monotonic: float) -> bool:
    """Whether a worker has not beaten for half of its lease: then it was away itself, and knows nothing of others."""
    found = connection.execute("SELECT boot_id, beat_at, lease FROM worker WHERE id = ?", (worker,)).fetchone()
    return found is not None and _over(found[0], found[1], found[2] / 2, monotonic)


def _over(boot: str, beat_at: float, lease: float, monotonic: float) -> bool:
    """Whether a lease ran out; one of an earlier boot did."""
    return boot != boot_id() or monotonic > beat_at + lease


def _lives(connection: sqlite3.Connection, worker: str, epoch: int) -> bool:
    found: Any = connection.execute(
        "SELECT 1 FROM worker WHERE id = ? AND epoch = ? AND died_at IS NULL", (worker, epoch)
    ).fetchone()
    return found is not None


@cache
def boot_id() -> str:
    """The kernel's name of this boot."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


@cache
def pid_namespace() -> str:
    """The kernel's name of the space in which this process's pid counts."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def is_gone(pid: int, started: int) -> bool:
    """Whether the process that had this pid since then (clock ticks since the boot) is gone, or a zombie, which runs
    nothing. Who cannot look, having no descriptors left, say, takes it for alive.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False
    return fields[0] in ("Z", "X") or int(fields[19]) != started
