"""The tail of GET /healthz of a served application: while nothing runs, and while jobs burn every core."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys

from benchmarks.application import opened
from benchmarks.machine import Foreign
from benchmarks.report import Line, at_most, percentile, say
from benchmarks.running import begun
from benchmarks.served import started
from benchmarks.workers import ROOT, environment, fresh_store

PATH = "/healthz"
RATE = 200.0
SETTLED = 0.3


def run(*, quick: bool) -> list[Line]:
    """Interleaved rounds of both."""
    rounds, count = (2, 100) if quick else (6, 400)
    cores = len(os.sched_getaffinity(0))
    idle: list[float] = []
    busy: list[float] = []
    with fresh_store() as url, served(url, cores) as port:
        for number in range(rounds):
            with Foreign() as foreign:
                calm = requests(port, count)
                pressed = asyncio.run(while_burning(url, port, count, cores))
            idle += calm
            busy += pressed
            say(
                f"healthz {number + 1}/{rounds}: p99 idle {percentile(calm, 99) * 1e3:.2f} ms,"
                f" busy {percentile(pressed, 99) * 1e3:.2f} ms; {foreign}"
            )
    return [
        Line(
            "healthz",
            f"GET {PATH} at {RATE:.0f}/s, p{percent} while {cores} cores burn",
            percentile(busy, percent) * 1e3,
            "ms",
            percentile(idle, percent) * 1e3,
            "idle",
            at_most(2.0) if percent == 99 else None,
            note=f"n = {len(busy)} each",
        )
        for percent in (50, 99)
    ]


async def while_burning(url: str, port: int, count: int, cores: int) -> list[float]:
    """The requests, while one job for each core burns it; the jobs are cancelled afterwards."""
    async with opened(url) as (_, tasks):
        burners = [await tasks["spin"].submit() for _ in range(cores)]
        for burner in burners:
            await begun(burner)
        await asyncio.sleep(SETTLED)
        times = await asyncio.to_thread(requests, port, count)
        for burner in burners:
            await burner.cancel(force=True)
        return times


def requests(port: int, count: int) -> list[float]:
    """Seconds of each request, by a client in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.paced", str(port), PATH, str(RATE), str(count)]
    done = subprocess.run(command, env=environment(), cwd=ROOT, check=True, capture_output=True)
    times: list[float] = json.loads(done.stdout)
    return times


def served(url: str, concurrency: int) -> contextlib.AbstractContextManager[int]:
    """The application behind our server, with its own worker; the port that answers."""
    return started("benchmarks.served", {"BENCHMARK_STORE": url, "HEAVYLIFT_CONCURRENCY": str(concurrency)})
