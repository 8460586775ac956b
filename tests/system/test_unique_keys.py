"""Unique keys under kills: whatever happens to those who submit and to those who work, one key is one job."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.system.service import ROOT, until
from tests.system.workers import machine

from heavylift import State
from heavylift.store import Query

SUBMITS = int(os.environ.get("UNIQUE_SUBMITS", "1000"))
PROCESSES = 4
AT_ONCE = 10
SUBMITTER = (
    f"AT_ONCE = {AT_ONCE}"
    """
import asyncio, sys
from heavylift.bound_task import BoundTask
from heavylift.client import Client
from heavylift.store import SystemClock
from heavylift.stores import open_store
from tests.system import jobs

url, mode, count, path = sys.argv[1:]

async def main():
    client = Client(open_store(url), SystemClock())
    task = BoundTask(jobs.lift.registry["hold_thread"], lambda: client).using(unique="the key", on_conflict=mode)
    with open(path, "a", buffering=1) as told:
        async def submit():
            told.write((await task.submit()).id + "\\n")
        for _ in range(int(count) // AT_ONCE):
            await asyncio.gather(*[submit() for _ in range(AT_ONCE)])
    await client.close()

asyncio.run(main())
"""
)


class Submitters:
    """Processes that submit the same key, and write down the id of each job that they were told."""

    def __init__(self, folder: Path, url: str, mode: str) -> None:
        self._folder, self._url, self._mode = folder, url, mode
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, count: int) -> subprocess.Popen[bytes]:
        path = self._folder / f"told-{len(self._started)}"
        command = [sys.executable, "-c", SUBMITTER, self._url, self._mode, str(count), str(path)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "AUDIT_FILE": str(self._folder / "audit")}
        self._started.append(subprocess.Popen(command, env=environment))
        return self._started[-1]

    def told(self, process: subprocess.Popen[bytes]) -> list[str]:
        """What a process was answered so far."""
        path = self._folder / f"told-{self._started.index(process)}"
        text = path.read_text() if path.exists() else ""
        return text[: text.rfind("\n") + 1].split()

    async def all_told(self) -> list[str]:
        """What all of them were answered, when they have ended."""
        for process in self._started:
            await asyncio.to_thread(process.wait, 60)
        return [name for process in self._started for name in self.told(process)]

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


@pytest.mark.parametrize(("mode", "most"), [("return", 1), ("queue-one", 2)])
async def test_a_thousand_submits_of_a_key_from_processes_that_are_killed_are_one_job(tmp_path, mode, most):
    async with machine(tmp_path) as found:
        submitters = Submitters(tmp_path, found.url, mode)
        try:
            workers = [await found.worker(), await found.worker()]
            share = SUBMITS // PROCESSES
            processes = [submitters.start(share) for _ in range(PROCESSES)]
            for process in processes[:2]:
                await until(lambda process=process: len(submitters.told(process)) >= share // 4)
                process.kill()
                submitters.start(share - share // 4)
            await found.marked("start")
            first = next(line[1] for line in found.marks() if line[0] == "start")
            holder = (await found.client.get(first)).worker
            statuses = [(worker, await found.status(worker)) for worker in workers]
            next(worker for worker, status in statuses if status and status.worker.id == holder).kill()
            await until(lambda: len(found.starts(first)) == 2)
            told = Counter(await submitters.all_told())
        finally:
            submitters.end()
        jobs = (await found.client.page(Query(limit=100))).jobs
        assert sum(told.values()) >= SUBMITS - 2 * AT_ONCE
        assert told.keys() <= {job.id for job in jobs}, "what was acknowledged is there"
        assert first in told
        assert len(jobs) == most
        running = [job.id for job in jobs if job.state is State.RUNNING]
        assert running == [first], "one of a key runs at a time"
        for job in jobs:
            await found.client.cancel(job.id, wait=30)
        # Nobody has it any more.
        again = await found.task("rest").using(unique="the key").submit(0.0)
        assert await again.result(timeout=30) == 1
