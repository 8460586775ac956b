"""Jobs that tell which process they run in; on a bare pool, as a worker would hand them over, or through a store."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from heavylift import Handle
from heavylift.core import codec, event, lifecycle
from heavylift.core.job import Job, Progress, new_id
from heavylift.core.options import Options
from heavylift.core.outcome import Outcome
from heavylift.executor import Report
from heavylift.executors.pool import Pool
from heavylift.submission import ID_BYTES


@dataclass(frozen=True, slots=True)
class Run:
    """A job that runs in a pool, in the host `pid`."""

    job: Job
    outcome: asyncio.Future[Outcome]
    pid: int


async def started(pool: Pool, task: str, **arguments: Any) -> Run:
    """Run a task that tells its pid as progress, and wait until it did."""
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def report(_job: Job, item: Report) -> None:
        if isinstance(item, Progress) and not told.done():
            told.set_result(int(item.message or 0))

    job = claimed(task, **arguments)
    outcome = _run(pool, job, report)
    return Run(job, outcome, await told)


async def begun(handle: Handle[Any]) -> int:
    """Wait until a job that was submitted told its pid, or another number; that number."""
    async for item in handle.events():
        if item.kind == event.PROGRESS:
            return int(float(item.data["message"]))
    message = f"The job ended before it began: {await handle.refresh()}"
    raise RuntimeError(message)


async def finished(pool: Pool, task: str, **arguments: Any) -> Outcome:
    """Run a task to its end."""
    return await _run(pool, claimed(task, **arguments), _ignore)


def claimed(task: str, **arguments: Any) -> Job:
    """A job as a worker gets it from the store."""
    now = time.time()
    job, _ = lifecycle.submit(new_id(now, os.urandom(ID_BYTES)), task, codec.encode(arguments), Options(grace=0.0), now)
    return lifecycle.claim(job, "benchmark", 1, now).apply(job)


def _run(pool: Pool, job: Job, report: Callable[[Job, Report], None]) -> asyncio.Future[Outcome]:
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    pool.run(job, report, lambda _, outcome: future.set_result(outcome))
    return future


def _ignore(_job: Job, _report: Report) -> None:
    """Nobody is interested."""
