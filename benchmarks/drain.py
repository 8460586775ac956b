"""How fast a backlog of no-op jobs is claimed, run in hosts, and stored, beside the least code that does the same."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks.application import opened
from benchmarks.machine import Foreign
from benchmarks.report import Line, at_least, median, say
from benchmarks.workers import ROOT, drained, environment, fill, fresh_store, release, running_worker

HOSTS = 2
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Drain:
    """One drain: its seconds, and the CPU seconds of each kind of process."""

    seconds: float
    cpu: dict[str, float]


def run(*, quick: bool) -> list[Line]:
    """Interleaved rounds of both."""
    jobs = 5_000 if quick else 30_000
    ours, floors = [], []
    for number in range(ROUNDS):
        with Foreign() as foreign:
            floors.append(floor(jobs))
            ours.append(asyncio.run(drain(jobs)))
        say(
            f"drain {number + 1}/{ROUNDS}: {jobs / ours[-1].seconds:,.0f} jobs/s,"
            f" floor {jobs / floors[-1]:,.0f} jobs/s; {foreign}"
        )
    rate, best = median([jobs / one.seconds for one in ours]), median([jobs / seconds for seconds in floors])
    lines = [
        Line("drain", f"{jobs:,} no-op jobs on {HOSTS} hosts", rate, "jobs/s", best, "floor", at_least(0.4)),
    ]
    for kind in ours[0].cpu:
        each = median([one.cpu[kind] for one in ours]) / jobs * 1e6
        lines.append(Line("drain", f"CPU of the {kind} for each job", each, "us"))
    busy = median([one.cpu["worker"] / one.seconds for one in ours])
    return [*lines, Line("drain", "the worker's share of a core", busy * 100, "%")]


async def drain(jobs: int) -> Drain:
    """Drain a fresh store with a fresh worker."""
    with fresh_store() as url:
        async with opened(url) as (lift, _):
            await fill(lift, "noop", jobs)
            with running_worker(url, concurrency=HOSTS) as processes:
                before = processes.cpu()
                began = time.perf_counter()
                await release(lift)
                await drained(lift, jobs)
                seconds = time.perf_counter() - began
                after = processes.cpu()
    return Drain(seconds, {kind: after[kind] - before[kind] for kind in after})


def floor(jobs: int) -> float:
    """Seconds of the floor, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.floors.drain", str(jobs)]
    done = subprocess.run(command, env=environment(), cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout)
