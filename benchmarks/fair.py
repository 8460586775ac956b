"""How fast a backlog of ten thousand tenants is drained in fair share, beside the same jobs in one line; and what the
store takes of that.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.application import opened
from benchmarks.claims import ME, submitted
from benchmarks.claims import opened as opened_store
from benchmarks.drain import Drain
from benchmarks.machine import Foreign
from benchmarks.report import Line, at_least, median, say
from benchmarks.workers import BATCH, QUEUE, drained, fresh_store, release, running_worker
from heavylift.core import lifecycle
from heavylift.core.options import Options, Slots
from heavylift.core.outcome import Succeeded

HOSTS = 2
ROUNDS = 3
LIMIT = 0.5
CLAIMED = 200
"""Jobs of one claim, and of one save."""
CASES: dict[str, dict[str, Any]] = {"plain": {}, "fair": {"fair_share": "{value}"}}


def run(*, quick: bool) -> list[Line]:
    """Interleaved rounds of both, through a worker and through the store alone."""
    tenants, jobs = (500, 5_000) if quick else (10_000, 30_000)
    drains: dict[str, list[Drain]] = {case: [] for case in CASES}
    costs: dict[str, list[float]] = {case: [] for case in CASES}
    for number in range(ROUNDS):
        with Foreign() as foreign:
            for case in CASES:
                drains[case].append(asyncio.run(drain(case, jobs, tenants)))
                costs[case].append(asyncio.run(store_alone(case, jobs, tenants)) / jobs * 1e6)
        shown = ", ".join(
            f"{case} {jobs / drains[case][-1].seconds:,.0f} jobs/s ({costs[case][-1]:.1f} us of the store)"
            for case in CASES
        )
        say(f"fair {number + 1}/{ROUNDS}: {shown}; {foreign}")
    what = f"{jobs:,} no-op jobs of {tenants:,} tenants in fair share, {HOSTS} hosts"
    plain, fair = (median([jobs / one.seconds for one in drains[case]]) for case in CASES)
    lines = [Line("fair", what, fair, "jobs/s", plain, "in one line", at_least(LIMIT))]
    plain, fair = (median([one.cpu["worker"] / jobs * 1e6 for one in drains[case]]) for case in CASES)
    lines.append(Line("fair", "CPU of the worker for each job", fair, "us", plain, "in one line"))
    plain, fair = (median(costs[case]) for case in CASES)
    return [*lines, Line("fair", "of which the store, to claim and save it", fair, "us", plain, "in one line")]


async def drain(case: str, jobs: int, tenants: int) -> Drain:
    """Drain a fresh store with a fresh worker."""
    with fresh_store() as url:
        async with opened(url) as (lift, tasks):
            bound = tasks["noop"].using(**CASES[case])
            await lift.client.pause(QUEUE)
            values = in_line(jobs, tenants)
            for first in range(0, jobs, BATCH):
                await bound.submit_many(kwargs=[{"value": value} for value in values[first : first + BATCH]])
            with running_worker(url, concurrency=HOSTS) as processes:
                before, began = processes.cpu(), time.perf_counter()
                await release(lift)
                await drained(lift, jobs)
                seconds, after = time.perf_counter() - began, processes.cpu()
                return Drain(seconds, {kind: after[kind] - before[kind] for kind in after})


async def store_alone(case: str, jobs: int, tenants: int) -> float:
    """CPU seconds of this thread, on which the store does its work, to claim and save all."""
    plain = Options()
    options = {value: Options(fair_share=str(value)) if CASES[case] else plain for value in range(tenants)}
    values, done, seconds = in_line(jobs, tenants), 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        async with opened_store(Path(folder), case) as store:
            for first in range(0, jobs, BATCH):
                await store.add([submitted(options[value]) for value in values[first : first + BATCH]])
            while done < jobs:
                began = time.thread_time()
                claimed = await store.claim(ME.id, ME.epoch, Slots(CLAIMED))
                seconds += time.thread_time() - began
                now = time.time()
                changes = [lifecycle.settle(job, Succeeded(b"null"), now) for job in claimed]
                began = time.thread_time()
                saved = await store.save(changes)
                seconds += time.thread_time() - began
                if not claimed or None in saved:
                    message = f"{len(claimed)} jobs were claimed after {done:,} of {jobs:,}."
                    raise RuntimeError(message)
                done += len(claimed)
    return seconds


def in_line(jobs: int, tenants: int) -> Sequence[int]:
    """The tenant of each job, in order of submission: all of one, then all of the next."""
    return [number * tenants // jobs for number in range(jobs)]
