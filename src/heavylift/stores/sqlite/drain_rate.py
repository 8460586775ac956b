"""How fast a queue drains."""

from __future__ import annotations

import math
import sqlite3
from itertools import product

from heavylift.stores.sqlite import rows

SAMPLES = 60
"""Ends of jobs by which the rate is judged."""
WINDOW = 600.0
"""Seconds of the past that still say something of it."""
SHORTEST = 0.001
"""Seconds: what is shorter is not told apart."""
LONGEST_WAIT = 300
"""Seconds after which to come again where nobody knows better."""

LAST = (
    "SELECT finished_at, started_at FROM job INDEXED BY job_finished WHERE queue = ?1 AND state = ?2"
    " AND keeps = ?3 AND finished_at > ?4 AND attempt > 0 ORDER BY finished_at DESC LIMIT ?5"
)
# Of the jobs that run, of which there are never very many.
NEXT_END = "SELECT min(started_at) FROM job INDEXED BY job_running WHERE state = 3 AND queue = ? AND started_at > ?"

Ends = list[tuple[float, float]]
"""(finished_at, started_at) of jobs, the last end first."""


def drain_rate(connection: sqlite3.Connection, queue: int, now: float) -> float | None:
    """Jobs a second that leave that queue (by its number), judged by those that ended lately, after they had begun;
    None when there are none.
    """
    last = _ends(connection, queue, now)
    return _rate(connection, queue, now, last) if last else None


def _ends(connection: sqlite3.Connection, queue: int, now: float) -> Ends:
    ends: Ends = []
    for state, keeps in product(rows.FINISHED, (0, 1)):
        found = connection.execute(LAST, (queue, state, keeps, now - WINDOW, SAMPLES)).fetchall()
        ends += [(finished, finished if started is None else started) for finished, started in found]
    return sorted(ends, reverse=True)[:SAMPLES]


def _took(last: Ends) -> float:
    """Seconds that these jobs ran, in the mean."""
    return max(math.fsum(finished - started for finished, started in last) / len(last), SHORTEST)


def _rate(connection: sqlite3.Connection, queue: int, now: float, last: Ends) -> float:
    took = _took(last)
    # The time in which they ended begins one job earlier: one that took a minute and has just ended is one a minute.
    least = len(last) / max(now - last[-1][0] + took, SHORTEST)
    most = len(last) / max(now - last[0][0], SHORTEST)
    # What runs now ends as fast as what has ended did (Little's law). So ends that came all at once, a queue that was
    # idle or paused meanwhile, and many jobs that run side by side mislead nobody; but what has not ended for long …
    running: int = connection.execute("SELECT running FROM queue WHERE number = ?", (queue,)).fetchone()[0]
    return max(least, min(running / took, most))


def retry_after(connection: sqlite3.Connection, queue: int, now: float, *, paused: bool) -> int:
    """Whole seconds until the queue has a place again: when the next one of those that run ends, if they take as long
    as the last ones did; when none is as young as that, at the rate at which it drains. A paused one does not.
    """
    last = [] if paused else _ends(connection, queue, now)
    if not last:
        return LONGEST_WAIT
    took = _took(last)
    begun: float | None = connection.execute(NEXT_END, (queue, now - took)).fetchone()[0]
    wait = 1 / _rate(connection, queue, now, last) if begun is None else begun + took - now
    return max(1, min(LONGEST_WAIT, math.ceil(wait)))
