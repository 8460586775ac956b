"""What is to be expected of jobs that are not over: why they wait, when they start, when they are over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from heavylift.core import estimate, waiting
from heavylift.core.job import Job, State
from heavylift.core.queue import Standing
from heavylift.core.waiting import Server, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from heavylift.core.estimate import Estimate
    from heavylift.store import Store, WorkerStatus


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be expected of a job. `waiting` and `reason` (the same as one line for people) of one that waits;
    `estimate` None where nothing can be said.
    """

    waiting: Waiting | None = None
    reason: str | None = None
    estimate: Estimate | None = None


async def look(store: Store, jobs: Iterable[Job], now: float) -> dict[str, Outlook]:
    """The outlook of each of these jobs that waits or runs, by its id: two reads of the store, if one of them waits."""
    found, queued = dict[str, Outlook](), list[Job]()
    for job in jobs:
        if job.state is State.RUNNING:
            found[job.id] = at_a_glance(job, now)
        elif job.state is State.QUEUED:
            queued.append(job)
    if queued:
        servers = [_server(status) for status in await store.workers() if _takes_jobs(status)]
        standings = await store.standing([job.id for job in queued])
        # One that is not among them was started since it was read: it was next.
        found |= {job.id: _of(job, standings.get(job.id, Standing()), servers, now) for job in queued}
    return found


def at_a_glance(job: Job, now: float) -> Outlook:
    """What the record alone tells, without a look at others."""
    if job.state is State.QUEUED and job.run_at > now:
        return _of(job, Standing(), [Server()], now)
    return Outlook(estimate=estimate.finish(job, now))


def _of(job: Job, standing: Standing, servers: list[Server], now: float) -> Outlook:
    why = waiting.explain(job, standing, servers, now)
    return Outlook(why, waiting.text(job, why, now), estimate.start(job, why, servers, now))


def _takes_jobs(status: WorkerStatus) -> bool:
    return not status.dead and not status.worker.draining


def _server(status: WorkerStatus) -> Server:
    worker = status.worker
    return Server(worker.queues, worker.tasks, worker.concurrency - worker.running)
