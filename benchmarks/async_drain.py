"""How fast a backlog of no-op coroutines is drained, beside the same as functions, each alone in its host."""

from __future__ import annotations

import asyncio
import time

from benchmarks.application import opened
from benchmarks.machine import Foreign
from benchmarks.report import Line, median, say
from benchmarks.workers import ASYNC_APPLICATION, drained, fill, fresh_store, release, running_worker

HOSTS = 2
ROUNDS = 3


def run(*, quick: bool) -> list[Line]:
    """Interleaved rounds of both."""
    jobs = 5_000 if quick else 30_000
    rates: dict[str, list[float]] = {"noop": [], "exclusive_noop": []}
    for number in range(ROUNDS):
        with Foreign() as foreign:
            for task, found in rates.items():
                found.append(jobs / asyncio.run(drain(task, jobs)))
        shown = ", ".join(f"{task} {found[-1]:,.0f} jobs/s" for task, found in rates.items())
        say(f"async_drain {number + 1}/{ROUNDS}: {shown}; {foreign}")
    shared, exclusive = (median(found) for found in rates.values())
    what = f"{jobs:,} no-op coroutines"
    return [Line("async_drain", what, shared, "jobs/s", exclusive, f"functions, {HOSTS} hosts")]


async def drain(task: str, jobs: int) -> float:
    """Seconds in which a fresh worker drains a fresh store of so many jobs of one task."""
    from benchmarks.async_application import lift as application  # noqa: PLC0415  it is imported when it is measured

    with fresh_store() as url:
        async with opened(url, application) as (lift, _):
            await fill(lift, task, jobs)
            with running_worker(url, application=ASYNC_APPLICATION, concurrency=HOSTS):
                began = time.perf_counter()
                await release(lift)
                await drained(lift, jobs)
                return time.perf_counter() - began
