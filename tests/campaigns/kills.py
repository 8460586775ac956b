"""`kill -9` of the worker, and of hosts, again and again while jobs run; with default settings."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from tests.campaigns import audit
from tests.campaigns.audit import Expected, Mark
from tests.campaigns.fleet import Fleet, children, name_of, unfinished
from tests.campaigns.report import Report

from heavylift import State
from heavylift.client import Client
from heavylift.core.errors import StoreUnavailable
from heavylift.core.options import PLACES, Options
from heavylift.store import SystemClock
from heavylift.stores import open_store

SWEEP = 5.0
LIVES = (0.2, 9.0)
"""Seconds that a worker lives from when it works; whoever always dies within five is started later and later."""
TURN = 7.0
"""Seconds from one kill to the next, about."""


async def kill_workers(folder: Path, jobs: int, kills: int) -> Report:
    """Kill the worker so many times while it drains so many jobs of all kinds of hosts."""
    report = Report(f"kill -9 of the worker, {kills} times during {jobs:,} jobs")
    async with running(folder) as (fleet, client):
        # A third of them runs two at a time, and lasts as long as the kills.
        expected = await _submitted(client, jobs, seconds=2 * len(PLACES) * TURN * kills / jobs)
        again: list[float] = []
        for _ in range(kills):
            await _working(fleet)
            await asyncio.sleep(random.uniform(*LIVES))
            if await audit.all_over(client):
                break
            wanted = random.choice([None, 1, 1, 2, 2])
            killed = await asyncio.to_thread(fleet.kill, "worker", wanted)
            if killed is not None:
                cut = unfinished(folder / "audit")
                restarted = await _restarted(fleet, killed)
                again += await _begun_again(folder / "audit", cut, restarted)
        await finish(report, fleet, client, expected)
        report.times("killed jobs begin again after the restart", again, 2.0)
    return report


async def kill_hosts(folder: Path, jobs: int, kills: int) -> Report:
    """Kill a random host so many times while jobs run in exclusive hosts."""
    report = Report(f"kill -9 of a random host, {kills} times")
    async with running(folder) as (fleet, client):
        expected = await _submitted(client, jobs, seconds=0.3 * kills / jobs, places=("process",))
        refilled: list[float] = []
        for _ in range(kills):
            await _working(fleet)
            await asyncio.sleep(random.uniform(0.0, 0.3))
            if await audit.all_over(client):
                break
            hosts = set(fleet.tree()["host"])
            killed = await asyncio.to_thread(fleet.kill, "host")
            at = time.monotonic()
            if killed in hosts and len(hosts) > 1:
                refilled += await _refilled(fleet, hosts, at)
        await finish(report, fleet, client, expected)
        report.times("another host is there, ready or about to be", refilled, 0.1)
    return report


async def kill_anything(folder: Path, jobs: int) -> Report:
    """Kill hosts, nannies, workers and servers at random until all jobs are over."""
    report = Report(f"kill -9 of anything during {jobs:,} jobs")
    plan = ["host"] * 4 + ["nanny"] * 2 + ["worker"] * 2 + ["serve"]
    async with running(folder) as (fleet, client):
        submits = asyncio.create_task(_submitted(client, jobs, seconds=0.1))
        ended = 0
        while not submits.done() or not await audit.all_over(client):
            await asyncio.sleep(random.uniform(0.01, 0.15))
            # On a busy machine no life between two kills would be long enough: something ends first, or time passes.
            ended = await _more_ended(client, ended, 1.5)
            part = random.choice(plan)
            wanted = random.choice([None, 1, 1, 2, 2, 2]) if part in ("worker", "serve") else None
            await asyncio.to_thread(fleet.kill, part, wanted)
        await finish(report, fleet, client, await submits)
    return report


@contextlib.asynccontextmanager
async def running(folder: Path, **variables: str) -> AsyncIterator[tuple[Fleet, Client]]:
    """A server on a store of its own, and a client beside it."""
    fleet = Fleet(folder, **variables)
    fleet.start()
    client = Client(open_store(fleet.url), SystemClock())
    try:
        await client.open()
        yield fleet, client
    finally:
        fleet.close()
        await client.close()


async def _submitted(client: Client, jobs: int, seconds: float, places=PLACES) -> dict[str, Expected]:
    """Queue the jobs, each of about so many seconds; how they have to end. Their ids make a repeated submit safe."""
    expected = {}
    for at in range(0, jobs, 50):
        ids = [f"job-{number}" for number in range(at, min(jobs, at + 50))]
        requests = []
        for number, name in enumerate(ids, at):
            place = places[number % len(places)]
            # What shares a process waits: with CPU work a hundred of them would wait for each other.
            task = {"process": "work", "thread": "linger", "loop": "linger_awaiting"}[place]
            arguments = f'{{"number":{number},"seconds":{random.uniform(0.5, 1.5) * seconds:.4f}}}'
            # A host that is killed costs a crash, which is no fault of these.
            requests.append((task, arguments.encode(), Options(run_in=place, crashes=1000)))
            expected[name] = Expected(result=str(number).encode())
        while True:
            try:
                await client.submit(requests, ids)
                break
            except StoreUnavailable:
                await asyncio.sleep(0.05)
    return expected


async def _more_ended(client: Client, before: int, seconds: float) -> int:
    """How many jobs are over: more than before, unless so many seconds pass."""
    deadline = time.monotonic() + seconds
    while True:
        queues = await client.queues()
        ended = sum(count for queue in queues for state, count in queue.counts.items() if State(state).final)
        if ended > before or time.monotonic() > deadline:
            return ended
        await asyncio.sleep(0.01)


async def _working(fleet: Fleet) -> None:
    """Wait until all parts are there and a job runs."""
    while not (all(fleet.tree().values()) and unfinished(fleet.folder / "audit")):
        await asyncio.sleep(0.01)


async def _restarted(fleet: Fleet, killed: int) -> float:
    """When the next worker was there (monotonic): its process, which has still to import, to open and to claim."""
    while not any(pid != killed and name_of(pid) for pid in children(fleet.pid)):
        await asyncio.sleep(0.005)
    return time.monotonic()


async def _begun_again(path: Path, cut: dict[str, int], restarted: float) -> list[float]:
    """Seconds from the restart until each of the jobs that were cut off began again; those that wait for room too."""
    waiting = dict(cut)
    found: list[float] = []
    deadline = time.monotonic() + 30
    while waiting and time.monotonic() < deadline:
        for mark in audit.marks(path):
            if mark.kind == "start" and mark.attempt > waiting.get(mark.job, mark.attempt):
                found.append(mark.at - restarted)
                del waiting[mark.job]
        await asyncio.sleep(0.05)
    return found + [30.0] * len(waiting)


async def _refilled(fleet: Fleet, hosts: set[int], at: float) -> list[float]:
    """Seconds until as many hosts live as before, a new one among them; nothing if they are not needed any more."""
    while time.monotonic() < at + 5:
        living = set(fleet.tree()["host"])
        if living - hosts and len(living) >= len(hosts):
            return [time.monotonic() - at]
        await asyncio.sleep(0.002)
    return []


async def finish(report: Report, fleet: Fleet, client: Client, expected: Mapping[str, Expected]) -> None:
    """Let everything end, then audit."""
    while not await audit.all_over(client):
        await asyncio.sleep(0.1)
    await audit.rest(client, 2 * SWEEP + 1)
    for part, count in sorted(fleet.kills.items()):
        report.add(f"kills: {part}", count)
    path = fleet.folder / "audit"
    marks: list[Mark] = audit.marks(path)
    report.add("attempts that began", sum(mark.kind == "start" for mark in marks))
    report.wrong += await audit.violations(client, expected, path)
    code = await asyncio.to_thread(fleet.stop)
    if code != 0:
        report.wrong.append(f"the server ended with exit code {code}")
    report.wrong += [f"process {pid} is left over" for pid in fleet.left_over()]
