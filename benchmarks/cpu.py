"""How much of two cores CPU-bound jobs of 5 ms get, beside two bare processes that do the same work."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from benchmarks.application import opened
from benchmarks.machine import Foreign
from benchmarks.report import Line, at_least, median, say
from benchmarks.workers import ROOT, drained, environment, fill, fresh_store, release, running_worker

HOSTS = 2
MILLISECONDS = 5.0
ROUNDS = 3


def run(*, quick: bool) -> list[Line]:
    """Interleaved rounds of both; the ratio is that of the medians of their seconds."""
    jobs = 100 if quick else 400
    ours, ideals = [], []
    for number in range(ROUNDS):
        with Foreign() as foreign:
            ideals.append(ideal(jobs))
            ours.append(asyncio.run(through_the_store(jobs)))
        say(f"cpu {number + 1}/{ROUNDS}: {ours[-1]:.3f} s, two bare processes {ideals[-1]:.3f} s; {foreign}")
    rate, best = jobs / median(ours), jobs / median(ideals)
    what = f"{jobs} jobs of {MILLISECONDS:g} ms CPU on {HOSTS} hosts"
    return [Line("cpu", what, rate, "jobs/s", best, "two bare processes", at_least(0.92))]


async def through_the_store(jobs: int) -> float:
    """Seconds from the opening of the queue until the last result is stored."""
    with fresh_store() as url:
        async with opened(url) as (lift, tasks):
            with running_worker(url, concurrency=HOSTS):
                # Both hosts are warm, and the pool has seen how long this task takes.
                handles = await tasks["burn"].submit_many([(MILLISECONDS,)] * 2 * HOSTS)
                await drained(lift, len(handles))
                await fill(lift, "burn", jobs, milliseconds=MILLISECONDS)
                began = time.perf_counter()
                await release(lift)
                await drained(lift, jobs + len(handles))
                return time.perf_counter() - began


def ideal(jobs: int) -> float:
    """Seconds of the bare processes."""
    command = [sys.executable, "-m", "benchmarks.floors.bare", str(HOSTS), str(jobs), str(MILLISECONDS)]
    done = subprocess.run(command, env=environment(), cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout)
