"""How soon a job that spins for ever is gone once its kill is due, with both cores busy; and its slot warm again."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

from benchmarks.application import Tasks, opened
from benchmarks.machine import Foreign
from benchmarks.report import Line, at_most, median, percentile, say
from benchmarks.running import begun, finished, started
from benchmarks.workers import APPLICATION, fresh_store, running_worker
from heavylift import Handle
from heavylift.core.outcome import Cancelled, Outcome, Succeeded
from heavylift.executor import StopReason
from heavylift.executors.link import Nanny
from heavylift.executors.pool import Pool
from heavylift.settings import Settings

BURNERS = 2
HOSTS = BURNERS + 1
SETTLED = 0.02
"""Seconds that the job spins before it is stopped."""
LOOK = 0.0002


@dataclass(slots=True)
class Times:
    """Seconds from when the kill was due: until the process was gone, and until the slot was warm or we knew."""

    gone: list[float]
    over: list[float]


def run(*, quick: bool) -> list[Line]:
    """First the pool alone, then the whole way from another process."""
    count = 20 if quick else 100
    with Foreign() as foreign:
        pool = asyncio.run(through_the_pool(count))
    say(f"stop, pool: gone p95 {percentile(pool.gone, 95) * 1e3:.2f} ms; {foreign}")
    with Foreign() as foreign:
        store = asyncio.run(through_the_store(count))
    say(f"stop, store: gone p95 {percentile(store.gone, 95) * 1e3:.2f} ms; {foreign}")
    return [
        line("kill due to process gone", pool.gone, 10.0),
        line("kill due to slot warm again", pool.over, 20.0),
        line("cancel in another process to process gone", store.gone),
        line("cancel in another process to its receipt", store.over),
    ]


def line(what: str, times: list[float], limit: float | None = None) -> Line:
    """The 95th percentile beside the median."""
    target = None if limit is None else at_most(limit, "value")
    return Line("stop", f"{what}, p95", percentile(times, 95) * 1e3, "ms", median(times) * 1e3, "its p50", target)


# --- the pool alone ---------------------------------------------------------------------------------------------


async def through_the_pool(count: int) -> Times:
    """Stop one job after the other in the third host, while two burn the cores."""
    pool = Pool(await Nanny.start(APPLICATION), Settings(concurrency=HOSTS))
    await pool.start()
    try:
        for _ in range(BURNERS):
            await started(pool, "spin")
        times = Times([], [])
        for _ in range(count):
            victim = await started(pool, "spin")
            await asyncio.sleep(SETTLED)
            gone = watch(victim.pid)
            due = time.perf_counter()
            pool.stop(victim.job.id, victim.job.attempt, StopReason.CANCEL, 0.0, force=True)
            times.gone.append(await gone - due)
            expect(await victim.outcome, Cancelled)
            while pool.free.process < 1:  # noqa: ASYNC110  the contract has no event for it
                await asyncio.sleep(LOOK)
            expect(await finished(pool, "noop"), Succeeded)
            times.over.append(time.perf_counter() - due)
        return times
    finally:
        await pool.close(0.0)


def expect(outcome: Outcome, kind: type[Outcome]) -> None:
    """Raise when the attempt ended otherwise: then the times mean nothing."""
    if not isinstance(outcome, kind):
        message = f"The attempt ended {outcome!r} instead of {kind.__name__}."
        raise TypeError(message)


def watch(pid: int) -> asyncio.Future[float]:
    """The moment at which the process is gone, to come: as the kernel says it, by its pidfd."""
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[float] = loop.create_future()
    pidfd = os.pidfd_open(pid)

    def ended() -> None:
        gone.set_result(time.perf_counter())
        loop.remove_reader(pidfd)
        os.close(pidfd)

    loop.add_reader(pidfd, ended)
    return gone


# --- the whole way ----------------------------------------------------------------------------------------------


async def through_the_store(count: int) -> Times:
    """The same from this process, by a cancel that goes through the store to the worker."""
    with fresh_store() as url, running_worker(url, concurrency=HOSTS):
        async with opened(url) as (_, tasks):
            burners = [await submitted(tasks) for _ in range(BURNERS)]
            times = Times([], [])
            for _ in range(count):
                handle, pid = await submitted(tasks)
                await asyncio.sleep(SETTLED)
                gone = watch(pid)
                due = time.perf_counter()
                await handle.cancel(force=True)
                times.over.append(time.perf_counter() - due)
                times.gone.append(await gone - due)
            for burner, _ in burners:
                await burner.cancel(force=True)
            return times


async def submitted(tasks: Tasks) -> tuple[Handle[None], int]:
    """A job that spins, and the pid of its host."""
    handle = await tasks["spin"].submit()
    return handle, await begun(handle)
