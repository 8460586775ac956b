"""Jobs that were to begin by now, and did not: those that `expired` returns, and those that a claim meets."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence

from heavylift.core import lifecycle
from heavylift.core.job import Job
from heavylift.core.log import about
from heavylift.core.tally import Fault
from heavylift.stores.sqlite import following, rows, tallies
from heavylift.stores.sqlite.reading import snapshot
from heavylift.stores.sqlite.transaction import Transaction

FOUND = 200
"""Jobs that one look finds at most."""

EXPIRED = (
    f"SELECT {rows.COLUMNS} FROM job INDEXED BY job_expiring WHERE expires_at < ? AND state IN (1, 2) AND attempt = 0"
    f" ORDER BY expires_at LIMIT {FOUND}"
)
NUMBERED = f"SELECT {rows.COLUMNS} FROM job WHERE number IN (SELECT value FROM json_each(?))"

log = logging.getLogger("heavylift.store")


def expired(connection: sqlite3.Connection, now: float) -> list[Job]:
    """Queued jobs whose time to begin is over, the oldest first."""
    if connection.execute(EXPIRED, (now,)).fetchone() is None:
        return []
    with snapshot(connection):
        return [rows.job_of(connection, row) for row in connection.execute(EXPIRED, (now,)).fetchall()]


def expire(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Settle the jobs of these numbers, which a claim has found at the head of a lane, and count them: nobody else will
    hear of them.
    """
    connection = transaction.connection
    found = connection.execute(NUMBERED, (rows.numbers_text(numbers),)).fetchall()
    jobs = [rows.job_of(connection, row) for row in found]
    changes = [lifecycle.expire(job, transaction.now) for job in jobs]
    following.save(transaction, changes, {}, {"beats": {}, "swept": {}})
    tallies.finished(transaction, [(job.task, "failed") for job in jobs])
    tallies.count(transaction, {("faults", Fault.EXPIRED.value): len(jobs)})
    transaction.after.append(lambda: _log(jobs))


def _log(jobs: Sequence[Job]) -> None:
    for job in jobs:
        fields = about(job) | {"fault": Fault.EXPIRED.value}
        log.warning("job %s (%s) has expired: it did not begin in time", job.id, job.task, extra=fields)
