"""When a job will start, and when it will be over, as far as anything can be said of it.

*A running job.* Its worker hears each report of progress, and keeps of them how fast it goes: percent a second, over
the last half minute to minute (Pace). It is over when the rest is done at this speed:
`at + (100 - percent) / rate`, where `at` is the time of the report. When that time is past without another report,
nothing can be said.

*A waiting job.* `ahead` jobs start before it, and workers that would take it have `free` places. Places become free as
jobs end, `drain_rate` a second, so it waits for `need = ahead + 1 - free` of them (`ahead + 1` when its queue runs as
many as it may): it starts at `now + need / drain_rate`, or now if need is 0. It never starts before its time, and never
before the rate of its queue or its key lets it, at `opens_at + ahead * interval`. Where a place is free, it is the rate
alone that holds a queue up. Nothing can be said while its queue is paused, no worker would take it, a running job
holds its key, or too little has ended lately to tell a rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from heavylift.core.job import State
from heavylift.core.limits import pace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heavylift.core.job import Job
    from heavylift.core.waiting import Server, Waiting

WINDOW = 30.0
"""Seconds of the past that tell at least how fast a job goes, once it has run so long; at most twice as many."""
FALL = 5.0
"""Percent that a job may fall back before it counts as begun anew (another phase, say)."""
ALL = 100.0

Basis = Literal["progress", "queue", "schedule", "rate"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is to be expected. `starts_at` of a waiting job and `finishes_at` of a running one in Unix seconds;
    `remaining` seconds until then. `basis`: what it comes of: the job's progress, its queue's line, its own time, or
    the rate of its queue or its key.
    """

    basis: Basis
    remaining: float
    starts_at: float | None = None
    finishes_at: float | None = None


class Pace:
    """How fast a job comes forward; one for each attempt whose code reports progress. `begun`: when it was at 0 percent
    (Unix seconds), None when it goes on from where another attempt was.
    """

    __slots__ = ("_last", "_middle", "_old")

    def __init__(self, begun: float | None) -> None:
        self._old = self._middle = self._last = None if begun is None else (begun, 0.0)

    def heard(self, percent: float, at: float) -> float | None:
        """Percent a second up to this report, None when it cannot be told."""
        now = (at, percent)
        old, middle, last = self._old, self._middle, self._last
        self._last = now
        if old is None or middle is None or last is None or percent < old[1] or percent < last[1] - FALL:
            self._old = self._middle = now
            return None
        if at - middle[0] >= WINDOW:
            self._old, self._middle = middle, now
        gained, took = percent - old[1], at - old[0]
        return gained / took if gained > 0 and took > 0 else None


def left(job: Job, now: float) -> float | None:
    """Seconds that a job still runs, as its last report of progress has it; None when that cannot be told."""
    progress = job.progress
    if job.state is not State.RUNNING or progress is None or job.started_at is None:
        return None
    # What it said in the attempt before says nothing of this one.
    at_report = None if progress.at < job.started_at else rest(progress.percent, progress.rate)
    seconds = -1.0 if at_report is None else at_report - (now - progress.at)
    return seconds if seconds >= 0 else None


def rest(percent: float | None, rate: float | None) -> float | None:
    """Seconds that the rest takes at this rate."""
    return None if percent is None or not rate else (ALL - percent) / rate


def finish(job: Job, now: float) -> Estimate | None:
    """When a running job is over."""
    seconds = left(job, now)
    return None if seconds is None else Estimate("progress", seconds, finishes_at=now + seconds)


def start(job: Job, waiting: Waiting, servers: Sequence[Server], now: float) -> Estimate | None:
    """When a waiting job starts."""
    standing = waiting.standing
    taking = [server for server in servers if server.takes(job)]
    if standing.pause is not None or not taking or waiting.code in ("key-concurrency", "unique-key"):
        return None
    if waiting.code == "key-rate" and standing.gate is not None:
        interval = pace(standing.gate.gate.limit).interval
        return _starting("rate", max(now, waiting.until or now) + waiting.ahead * interval, now)
    free = 0 if standing.full is not None else _free(job, taking)
    if standing.rate is None:
        paced, need = now, max(0, waiting.ahead + 1 - free)
    else:
        paced = max(now, standing.opens_at or now) + waiting.ahead * pace(standing.rate).interval
        need = 0 if free > 0 else waiting.ahead + 1
    if need and not standing.drain_rate:
        # Its own time is all that is known, and the line may be gone by then.
        return _starting("schedule", job.run_at, now) if job.run_at > now else None
    turn = now + (need / standing.drain_rate if need and standing.drain_rate else 0.0)
    at = max(turn, paced)
    if at < job.run_at:
        return _starting("schedule", job.run_at, now)
    return _starting("rate" if paced > turn else "queue", at, now)


def _free(job: Job, taking: Sequence[Server]) -> int:
    """Places for it. Those in shared processes are many and not counted: there is one, at least."""
    return sum(max(0, server.free) for server in taking) if job.options.run_in == "process" else 1


def _starting(basis: Basis, at: float, now: float) -> Estimate:
    return Estimate(basis, at - now, starts_at=at)
