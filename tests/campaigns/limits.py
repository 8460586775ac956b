"""Limits by key under load and kills: what ran at once, how fast jobs started, and who had which share, by the marks of
the jobs themselves and the times that the store kept.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.campaigns import audit
from tests.campaigns.audit import Expected, Mark
from tests.campaigns.fleet import ROOT, children, processes_with, unfinished
from tests.campaigns.report import Report

from heavylift.client import Client
from heavylift.core.job import Job
from heavylift.core.limits import Concurrency, Rate
from heavylift.core.options import Options
from heavylift.store import SystemClock
from heavylift.stores import open_store

AT_ONCE = 3


class Workers:
    """`heavylift worker` so many times on one store; who is killed is started again."""

    def __init__(self, folder: Path, count: int, concurrency: int) -> None:
        self.url = f"sqlite:///{folder}/jobs.db"
        self.audit = folder / "audit"
        self.kills = 0
        self.died: dict[int, float] = {}
        """When each of the killed workers' processes was killed with it, or a moment later."""
        self._command = [
            *(str(Path(sys.executable).with_name("heavylift")), "worker", "tests.campaigns.jobs:lift"),
            *("--store", self.url, "--concurrency", str(concurrency)),
        ]
        self._log = (folder / "serve.log").open("ab")
        self.running = [self._started() for _ in range(count)]

    def _started(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"AUDIT_FILE": str(self.audit), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(self._command, cwd=ROOT, env=environment, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        """Kill one at random, and start another in its place."""
        number = random.randrange(len(self.running))
        worker = self.running[number].pid
        below = [worker]
        for pid in below:
            below += children(pid)
        os.kill(worker, signal.SIGKILL)
        self.kills += 1
        self.died |= dict.fromkeys(below, time.monotonic())
        self.running[number].wait()
        self.running[number] = self._started()

    def close(self) -> list[int]:
        """Stop all as a service manager does; the processes that are left over."""
        for worker in self.running:
            worker.terminate()
        for worker in self.running:
            try:
                worker.wait(40)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self._log.close()
        return processes_with(f"AUDIT_FILE={self.audit}\0")


@contextlib.asynccontextmanager
async def working(
    folder: Path, report: Report, workers: int, concurrency: int
) -> AsyncIterator[tuple[Workers, Client]]:
    """So many workers on a store of their own, and a client beside them."""
    found = Workers(folder, workers, concurrency)
    client = Client(open_store(found.url), SystemClock())
    try:
        await client.open()
        yield found, client
    finally:
        report.wrong += [f"process {pid} is left over" for pid in await asyncio.to_thread(found.close)]
        await client.close()


async def limits(folder: Path, jobs: int = 2000, kills: int = 20, seconds: float = 20.0) -> Report:
    """All of them, one after the other."""
    report = Report(
        f"limits: {jobs:,} jobs of which {AT_ONCE} run at once, {kills} kills; a rate for {seconds:g} s; shares"
    )
    for name, part in (("gate", _concurrency), ("rate", _rate), ("shares", _shares)):
        (folder / name).mkdir()
        await part(report, folder / name, jobs, kills, seconds)
    return report


# --- so many at once -------------------------------------------------------------------------------------------------


async def _concurrency(report: Report, folder: Path, jobs: int, kills: int, _: float) -> None:
    """Jobs with a key of which few may run at once, while their workers are killed."""
    async with working(folder, report, 4, 2) as (workers, client):
        options = Options(limits=(Concurrency(AT_ONCE, "the key"),))
        names = [f"job-{number}" for number in range(jobs)]
        for at in range(0, jobs, 500):
            requests = [("linger", f'{{"number":{at + n},"seconds":0.02}}'.encode(), options) for n in range(500)]
            await client.submit(requests[: jobs - at], names[at : at + 500])
        for killed in range(kills):
            await _more_ended(client, jobs * killed // (kills + 1))
            while not unfinished(workers.audit):
                await asyncio.sleep(0.005)
            await asyncio.to_thread(workers.kill)
        while not await audit.all_over(client):
            await asyncio.sleep(0.1)
        marks = audit.marks(workers.audit)
        expected = {name: Expected(result=str(number).encode()) for number, name in enumerate(names)}
        report.wrong += await audit.violations(client, expected, workers.audit)
        _at_once(report, marks, workers.died)
        await _no_slot_is_lost(report, client, workers)
        report.add("kills of workers", workers.kills)
        report.add("attempts of the limited jobs that began", sum(mark.kind == "start" for mark in marks))


def _at_once(report: Report, marks: list[Mark], died: dict[int, float]) -> None:
    """Never more ran at once than the key allows: an attempt runs from its start to its end, or to the kill of its
    worker, with which its host dies.
    """
    ends = {(mark.job, mark.attempt): mark.at for mark in marks if mark.kind == "end"}
    changes: list[tuple[float, int]] = []
    for mark in marks:
        if mark.kind != "start":
            continue
        end = ends.get((mark.job, mark.attempt), died.get(mark.pid))
        if end is None:
            report.wrong.append(f"attempt {mark.attempt} of {mark.job} has no end, and nobody killed its host")
            continue
        changes += [(mark.at, 1), (max(end, mark.at), -1)]
    most = running = 0
    for at, change in sorted(changes):
        running += change
        most = max(most, running)
        if running > AT_ONCE:
            report.wrong.append(f"{running} of {AT_ONCE} jobs ran at once at {at:.3f}")
    report.add("most jobs of the key at once", most, "", AT_ONCE)
    if most < AT_ONCE:
        report.wrong.append(f"never more than {most} of {AT_ONCE} ran at once: the slots were not used")


async def _no_slot_is_lost(report: Report, client: Client, workers: Workers) -> None:
    """After all that, as many as the key allows run at once again."""
    options = Options(limits=(Concurrency(AT_ONCE, "the key"),))
    requests = [("linger", f'{{"number":{number},"seconds":600}}'.encode(), options) for number in range(AT_ONCE + 2)]
    jobs = await client.submit(requests)
    deadline = time.monotonic() + 60
    found: list[Job] = []
    while len(found) < AT_ONCE and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        found = [job for job in await client.store.get([job.id for job in jobs]) if job is not None and job.started_at]
    if len(found) != AT_ONCE:
        report.wrong.append(f"afterwards {len(found)} of {AT_ONCE} run at once")
    for job in jobs:
        await client.cancel(job.id, grace=0, wait=30)


# --- so many in a time -----------------------------------------------------------------------------------------------


async def _rate(report: Report, folder: Path, _: int, __: int, seconds: float) -> None:
    """Jobs of a key that start fifty times a second, over so many seconds."""
    wanted = int(50 * seconds)
    async with working(folder, report, 2, 2) as (workers, client):
        options = Options(limits=(Rate("50/s", "the rate"),))
        for _at in range(0, wanted + 200, 200):
            await client.submit([("pass_by", b"{}", options) for _ in range(200)])
        while len(starts := await _started(client)) < wanted:
            await asyncio.sleep(0.5)
        starts = sorted(starts)[:wanted]
        lasted = starts[-1] - starts[0]
        report.add("starts a second at a rate of 50/s", wanted / lasted)
        if not 0.95 * seconds <= lasted <= 1.05 * seconds:
            report.wrong.append(f"{wanted} starts took {lasted:.2f} s, not {seconds:g} s ± 5 %")
        # In any second a rate's worth, and the tenth of a second's that may come at once.
        most = max(sum(at <= other < at + 1 for other in starts) for at in starts)
        report.add("most starts in a second", most, "", 50 + 5 + 1)
        assert workers.running


async def _started(client: Client) -> list[float]:
    return [job.started_at async for job in client.find(task="pass_by") if job.started_at is not None]


# --- shares and ages -------------------------------------------------------------------------------------------------


async def _shares(report: Report, folder: Path, jobs: int, _: int, __: float) -> None:
    """Ten jobs of one tenant come after very many of another; and an old job stands beside a stream of urgent ones."""
    many = 5 * jobs
    async with working(folder, report, 2, 2) as (_, client):
        await client.store.set_queue("default", paused=True)
        for at in range(0, many, 1000):
            ids = [f"a-{number}" for number in range(at, min(many, at + 1000))]
            await client.submit([("pass_by", b"{}", Options(fair_share="a"))] * len(ids), ids)
        names = [f"b-{number}" for number in range(10)]
        await client.submit([("pass_by", b"{}", Options(fair_share="b"))] * 10, names)
        await client.store.set_queue("default", paused=False)
        while not await audit.all_over(client):
            await asyncio.sleep(0.2)
        begun = [job.started_at or 0.0 for job in await client.store.get(names) if job is not None]
        theirs = [job.started_at or 0.0 async for job in client.find(task="pass_by") if job.id.startswith("a-")]
        before = sum(at < max(begun) for at in theirs)
        report.add("jobs of the busy tenant that began before the last of ten others", before / many, "", 0.05)
        if before > 0.05 * many:
            report.wrong.append(f"{before} of {many} jobs of the busy tenant went first")


async def _more_ended(client: Client, wanted: int) -> None:
    """Wait until so many jobs are over."""
    while True:
        counts = [queue.counts for queue in await client.queues()]
        if sum(count for each in counts for state, count in each.items() if state.final) >= wanted:
            return
        await asyncio.sleep(0.01)
