"""From submit to the result in the caller's hands, one job at a time: client, worker and host are three processes."""

from __future__ import annotations

import asyncio
import time

from benchmarks.application import opened
from benchmarks.floors import pingpong
from benchmarks.machine import Foreign
from benchmarks.report import Line, at_most, median, percentile, say
from benchmarks.workers import fresh_store, running_worker

ROUNDS = 3
WARM_UP = 20
LIMIT = 12.0


def run(*, quick: bool) -> list[Line]:
    """Interleaved rounds of both floors and ours."""
    count = 100 if quick else 500
    ours: list[float] = []
    free: list[float] = []
    apart: list[float] = []
    for number in range(ROUNDS):
        with Foreign() as foreign:
            free.append(median(pingpong.round_trips(4 * count)))
            apart.append(median(pingpong.round_trips(4 * count, pingpong.two_cores())))
            times = asyncio.run(submits(count))
        ours += times
        say(
            f"latency {number + 1}/{ROUNDS}: p50 {median(times) * 1e6:.0f} us, floors {free[-1] * 1e6:.0f} us"
            f" and {apart[-1] * 1e6:.0f} us; {foreign}"
        )
    p50, p99 = median(ours) * 1e6, percentile(ours, 99) * 1e6
    floors = {"ping-pong, two cores": median(apart) * 1e6, "ping-pong, as scheduled": median(free) * 1e6}
    return [
        *(
            Line("latency", "submit to result, p50", p50, "us", floor, name, at_most(LIMIT))
            for name, floor in floors.items()
        ),
        Line("latency", "submit to result, p99", p99, "us"),
    ]


async def submits(count: int) -> list[float]:
    """Seconds of each."""
    with fresh_store() as url, running_worker(url, concurrency=1):
        async with opened(url) as (_, tasks):
            noop = tasks["noop"]
            times = []
            for number in range(count + WARM_UP):
                began = time.perf_counter()
                handle = await noop.submit(number)
                await handle.result(timeout=10)
                times.append(time.perf_counter() - began)
            return times[WARM_UP:]
