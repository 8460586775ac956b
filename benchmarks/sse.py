"""How soon a reader of server-sent events knows what a job reported: while nothing else runs, and on busy cores."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from benchmarks.application import opened
from benchmarks.healthz import served
from benchmarks.machine import Foreign
from benchmarks.report import Line, at_most, median, percentile, say
from benchmarks.running import begun
from benchmarks.workers import ROOT, environment, fresh_store

HOSTS = 2
ROUNDS = 3
LIMIT = 15.0


def run(*, quick: bool) -> list[Line]:
    """Interleaved rounds of both."""
    count = 20 if quick else 150
    times: dict[bool, list[float]] = {False: [], True: []}
    with fresh_store() as url, served(url, HOSTS) as port:
        for number in range(ROUNDS):
            with Foreign() as foreign:
                for busy, known in times.items():
                    known.extend(asyncio.run(reports(url, port, count, busy=busy)))
            shown = ", ".join(
                f"{'busy' if busy else 'idle'} {milliseconds(found):.2f}" for busy, found in times.items()
            )
            say(f"sse {number + 1}/{ROUNDS}: p95 ms so far: {shown}; {foreign}")
    return [
        Line(
            "sse",
            f"report to reader p95, {f'{HOSTS} hosts busy' if busy else 'nothing else runs'}",
            milliseconds(found),
            "ms",
            median(found) * 1e3,
            "its p50",
            at_most(LIMIT, "value"),
            note=f"n = {len(found)}",
        )
        for busy, found in times.items()
    ]


async def reports(url: str, port: int, count: int, *, busy: bool) -> list[float]:
    """Seconds of each report of a job; `busy`: it burns its core between them, and another job the other one."""
    async with opened(url) as (_, tasks):
        others = [await tasks["spin"].submit() for _ in range(HOSTS - 1 if busy else 0)]
        for other in others:
            await begun(other)
        emitter = await tasks["emit"].submit(burning=busy)
        await begun(emitter)
        command = [sys.executable, "-m", "benchmarks.listening", str(port), f"/v1/jobs/{emitter.id}/events", str(count)]
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment(), cwd=ROOT, check=True, capture_output=True
        )
        for job in (*others, emitter):
            await job.cancel(force=True)
        times: list[float] = json.loads(done.stdout)
        return times


def milliseconds(times: list[float]) -> float:
    """The 95th percentile."""
    return percentile(times, 95) * 1e3
