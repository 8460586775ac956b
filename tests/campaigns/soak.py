"""A mixed load for a long time, with a kill of something every few seconds: nothing is lost, nothing grows."""

import asyncio
import contextlib
import itertools
import random
import time
from collections import deque
from pathlib import Path

from tests.campaigns.audit import Expected
from tests.campaigns.fleet import Fleet, children, descriptors, resident, stat_of, zombies
from tests.campaigns.kills import finish, running
from tests.campaigns.report import Report

from heavylift import JobFinished, State
from heavylift.client import Client
from heavylift.core.errors import StoreUnavailable
from heavylift.core.options import PLACES, Options

AT_ONCE = 40
"""Jobs that wait or run at a time."""
GROWTH = 10 * 2**20
LINGER = 2.0
"""Seconds that a dead process may wait for its parent, which is busy or was just killed itself."""


async def soak(folder: Path, seconds: float, every: float = 5.0) -> Report:
    """Keep the server busy for so long, and kill a worker, a nanny or a host every so many seconds."""
    report = Report(f"soak of {seconds:,.0f} s, a kill every {every:g} s")
    async with running(folder) as (fleet, client):
        expected: dict[str, Expected | None] = {}
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(_load(client, expected, end))
            group.create_task(_kill(fleet, end, every))
            watcher = group.create_task(_watch(report, fleet, end))
        peak_before, peak_after, files = watcher.result()
        certain = {name: ended for name, ended in expected.items() if ended is not None}
        await finish(report, fleet, client, certain)
        await _cancelled_are_final(report, client, [name for name, ended in expected.items() if ended is None])
    report.add("jobs", len(expected))
    report.add("memory of the server grew by", max(0, peak_after - peak_before) / 2**20, "MiB", GROWTH / 2**20)
    report.add("its open files grew by", files, "", 3)
    return report


async def _load(client: Client, expected: dict[str, Expected | None], end: float) -> None:
    """Jobs that succeed, fail, crash, time out and are cancelled; `expected` None: cancelled at some moment."""
    recent: deque[str] = deque(maxlen=AT_ONCE)
    for number in itertools.count():
        if time.monotonic() > end:
            return
        name, place = f"job-{number}", random.choice(PLACES)
        request, how = _request(number, place)
        while True:
            try:
                waiting = sum(
                    count
                    for queue in await client.queues()
                    for state, count in queue.counts.items()
                    if not State(state).final
                )
                if waiting >= AT_ONCE:
                    await asyncio.sleep(0.05)
                    continue
                await client.submit([request], [name])
                break
            except StoreUnavailable:
                await asyncio.sleep(0.05)
        expected[name] = how
        recent.append(name)
        if random.random() < 0.05:
            chosen = random.choice(recent)
            expected[chosen] = None
            with contextlib.suppress(JobFinished):
                await client.cancel(chosen, grace=random.choice([0.0, 0.5]), wait=0)


def _request(number: int, place: str) -> tuple[tuple[str, bytes, Options], Expected | None]:
    chance = random.random()
    if chance < 0.04:
        return ("give_up", b"{}", Options()), Expected(State.FAILED, code="failed")
    if chance < 0.06:
        return ("crash", b"{}", Options()), Expected(State.FAILED, code="crashed")
    if chance < 0.08:
        options = Options(timeout=0.3, grace=0.2)
        return ("run_away", b'{"kind":"a loop"}', options), None
    if chance < 0.12:
        return ("fail_twice", f'{{"number":{number}}}'.encode(), Options()), Expected(result=str(number).encode())
    task = "work_awaiting" if place == "loop" else "work"
    arguments = f'{{"number":{number},"seconds":{random.uniform(0.001, 0.3):.4f}}}'.encode()
    return (task, arguments, Options(run_in=place, crashes=100)), Expected(result=str(number).encode())  # type: ignore[arg-type]


async def _kill(fleet: Fleet, end: float, every: float) -> None:
    while time.monotonic() < end:
        await asyncio.sleep(every * random.uniform(0.5, 1.5))
        part = random.choice(["host", "host", "nanny", "worker"])
        await asyncio.to_thread(fleet.kill, part, random.choice([None, 1, 2]) if part == "worker" else None)


async def _watch(report: Report, fleet: Fleet, end: float) -> tuple[int, int, int]:
    """The server's own memory in the first and in the last fifth, at most, and by how much its open files grew."""
    began = time.monotonic()
    first, last, files = 0, 0, []
    dead_since: dict[int, float] = {}
    while (now := time.monotonic()) < end:
        await asyncio.sleep(0.5)
        part = (now - began) / (end - began)
        with contextlib.suppress(OSError):
            if part < 0.2:
                first = max(first, resident(fleet.pid))
            elif part > 0.8:
                last = max(last, resident(fleet.pid))
            files.append(descriptors(fleet.pid))
        found = set(zombies(fleet.pid)) | {dead for pid in children(fleet.pid) for dead in zombies(pid)}
        dead_since = {pid: dead_since.get(pid, now) for pid in found}
        for pid, since in dead_since.items():
            if now - since > LINGER and stat_of(pid)[0] == "Z":
                report.wrong.append(f"process {pid} has been a zombie for {now - since:.1f} s")
    # A submit is no request of the server: its files are the same at any two quiet moments.
    return first, last, max(files[-20:]) - max(files[:20])


async def _cancelled_are_final(report: Report, client: Client, names: list[str]) -> None:
    for job in await client.store.get(names):
        if job is None or not job.state.final:
            report.wrong.append(f"{job and job.id} has no end")
