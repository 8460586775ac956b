"""How fast a queue drains."""

from __future__ import annotations

import sqlite3

SAMPLES = 60
"""Ends of jobs by which the rate is judged."""
WINDOW = 600.0
"""Seconds of the past that still say something of it."""

LAST = (
    "SELECT finished_at, started_at FROM job INDEXED BY job_finished WHERE queue = ?1 AND state = ?2"
    " AND finished_at > ?3 AND attempt > 0 ORDER BY finished_at DESC LIMIT ?4"
)


def drain_rate(connection: sqlite3.Connection, queue: int, now: float) -> float | None:
    """Jobs a second of that queue (by its number) that ended lately, after they had begun; None when there are none."""
    ends: list[tuple[float, float]] = []
    for state in (4, 5, 6):
        found = connection.execute(LAST, (queue, state, now - WINDOW, SAMPLES)).fetchall()
        ends += [(finished, finished if started is None else started) for finished, started in found]
    last = sorted(ends, reverse=True)[:SAMPLES]
    if not last:
        return None
    # Of few jobs the time that they took tells more than the time between their ends; of many, it may be that of one.
    first, begun = last[-1][0], min(started for _, started in last)
    between = (len(last) - 1) / max(now - first, 0.001)
    return max(between, len(last) / max(now - begun, 0.001))
