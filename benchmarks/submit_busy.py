"""How long a submit takes while a worker drains a backlog on the same file."""

from __future__ import annotations

import asyncio
import time

from benchmarks.application import Tasks, opened
from benchmarks.machine import Foreign
from benchmarks.report import Line, at_most, median, percentile, say
from benchmarks.workers import drained, fill, fresh_store, release, running_worker, state_counts
from heavylift import Heavylift, State

ROUNDS = 3
PAUSE = 0.002
"""Seconds between two submits: a web process, not a flood."""
LOOK = 50
"""Every so many submits we look whether the backlog is gone."""


def run(*, quick: bool) -> list[Line]:
    """Rounds of: submits beside an idle worker, then beside a busy one."""
    jobs, samples = (5_000, 100) if quick else (40_000, 400)
    idle: list[float] = []
    busy: list[float] = []
    for number in range(ROUNDS):
        with Foreign() as foreign:
            calm, pressed = asyncio.run(both(jobs, samples))
        idle += calm
        busy += pressed
        say(
            f"submit_busy {number + 1}/{ROUNDS}: p50 {milliseconds(pressed, 50):.2f} ms,"
            f" p99 {milliseconds(pressed, 99):.2f} ms of {len(pressed)}; {foreign}"
        )
    while_busy = f"while {jobs:,} jobs are drained"
    return [
        Line("submit_busy", f"submit p50 {while_busy}", milliseconds(busy, 50), "ms", median(idle) * 1e3, "idle"),
        Line(
            "submit_busy",
            f"submit p99 {while_busy}",
            milliseconds(busy, 99),
            "ms",
            milliseconds(idle, 99),
            "idle",
            at_most(20.0, "value"),
            note=f"n = {len(busy)}",
        ),
    ]


async def both(jobs: int, samples: int) -> tuple[list[float], list[float]]:
    """Seconds of each submit beside an idle worker, and beside a busy one."""
    with fresh_store() as url, running_worker(url):
        async with opened(url) as (lift, tasks):
            idle = [await submit(tasks, number) for number in range(samples)]
            await drained(lift, samples)
            await fill(lift, "noop", jobs)
            await release(lift)
            return idle, await until_empty(lift, tasks)


async def until_empty(lift: Heavylift, tasks: Tasks) -> list[float]:
    """Submit until hardly anything is left to drain."""
    times: list[float] = []
    while (await state_counts(lift)).get(State.QUEUED, 0) > LOOK:
        times += [await submit(tasks, number) for number in range(LOOK)]
    return times


async def submit(tasks: Tasks, number: int) -> float:
    """Seconds of one submit, after a pause."""
    await asyncio.sleep(PAUSE)
    began = time.perf_counter()
    await tasks["noop"].submit(number)
    return time.perf_counter() - began


def milliseconds(times: list[float], percent: float) -> float:
    """A percentile of seconds, in milliseconds."""
    return percentile(times, percent) * 1e3
