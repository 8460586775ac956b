"""How fast innocent jobs go through a worker that is poisoned again and again, beside the same without poison."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.application import Tasks, opened
from benchmarks.machine import Foreign
from benchmarks.report import Line, at_least, median, say
from benchmarks.workers import APPLICATION, QUEUE, fresh_store, release, running_worker, state_counts
from heavylift import Handle, Heavylift, Retry, State, fixed
from heavylift.testing import poison

HOSTS = 2
ROUNDS = 3
MILLISECONDS = 10.0
STARTS = 3
POISONOUS = replace(APPLICATION, target="benchmarks.poisonous")
POISONED = {"retry": Retry(STARTS, fixed(0.1)), "crashes": STARTS, **poison.LIMITS}


@dataclass(frozen=True, slots=True)
class Run:
    """Innocents a second, and how many jobs were poison that was given up after exactly its starts."""

    rate: float
    given_up: int


def run(*, quick: bool) -> list[Line]:
    """Interleaved rounds without and with: one poisoned job of each kind for so many innocent ones."""
    innocents, times = (800, 1) if quick else (4000, 2)
    calm, poisoned = [], []
    for number in range(ROUNDS):
        with Foreign() as foreign:
            calm.append(asyncio.run(drain(innocents, 0)))
            poisoned.append(asyncio.run(drain(innocents, times)))
        say(
            f"poison {number + 1}/{ROUNDS}: {poisoned[-1].rate:,.0f} jobs/s with,"
            f" {calm[-1].rate:,.0f} jobs/s without; {foreign}"
        )
    rates = [median([one.rate for one in runs]) for runs in (poisoned, calm)]
    count = times * len(poison.CODES)
    what = f"{innocents:,} jobs of {MILLISECONDS:g} ms on {HOSTS} hosts among {count} poisoned ones"
    given_up = min(one.given_up for one in poisoned)
    return [
        Line("poison", what, rates[0], "jobs/s", rates[1], "without poison", at_least(0.8)),
        Line("poison", f"given up after {STARTS} starts", given_up, "jobs", count, "all", at_least(1.0)),
    ]


async def drain(innocents: int, times: int, **settings: Any) -> Run:
    """Drain a fresh store with a fresh worker; poison of each kind, so many times, stands evenly between the others.

    Raises when an innocent job failed, or the worker was not the same at the end.
    """
    from benchmarks.poisonous import lift as application  # noqa: PLC0415  it is imported when it is measured

    with fresh_store() as url:
        async with opened(url, application) as (lift, tasks):
            handles = await fill(lift, tasks, innocents, times)
            with running_worker(url, application=POISONOUS, concurrency=HOSTS, **settings) as processes:
                began = time.perf_counter()
                await release(lift)
                while (await state_counts(lift)).get(State.SUCCEEDED, 0) < innocents:  # noqa: ASYNC110  poison fails
                    await asyncio.sleep(0.02)
                seconds = time.perf_counter() - began
                given_up = [await is_given_up(lift, kind, handle) for kind, handle in handles]
                if len(processes.hosts) > HOSTS:
                    message = f"Processes of poisoned jobs are left: {processes.hosts}"
                    raise RuntimeError(message)
    return Run(innocents / seconds, sum(given_up))


async def fill(lift: Heavylift, tasks: Tasks, innocents: int, times: int) -> list[tuple[str, Handle[Any]]]:
    """Queue both in a queue that is paused; the poisoned ones with their kinds."""
    await lift.client.pause(QUEUE)
    kinds = list(poison.CODES) * times
    share = innocents // (len(kinds) or 1)
    handles = []
    for kind in kinds:
        handles.append((kind, await tasks["poisoned"].using(**POISONED).submit(kind)))
        await tasks["burn"].submit_many([(MILLISECONDS,)] * share)
    rest = innocents - share * len(kinds)
    if rest:
        await tasks["burn"].submit_many([(MILLISECONDS,)] * rest)
    return handles


async def is_given_up(lift: Heavylift, kind: str, handle: Handle[Any]) -> bool:
    """Whether a poisoned job ended with its reason and its budget used up, when it is over."""
    job = await asyncio.wait_for(lift.client.finished(handle.id), 60)
    starts = job.failures + job.crashes
    return job.error is not None and (job.state, job.error.code, starts) == (State.FAILED, poison.CODES[kind], STARTS)
