"""Workers as `heavylift worker` runs them, beside the test: suspended, killed, and under clocks that the test sets."""

import asyncio
import contextlib
import json
import mmap
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from tests.system import jobs
from tests.system.service import APPLICATION, ROOT, until

from heavylift.bound_task import BoundTask
from heavylift.client import Client
from heavylift.store import WorkerStatus
from heavylift.stores import open_store

BEAT, SWEEP = 0.1, 0.3
STEP = 5.0
"""Seconds of leases that pass at once: less than half a lease, which no worker may miss."""


class Clock:
    """The clocks of all processes of a test: `wall` and `lease` are the seconds by which they are off."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 16)
        self.path = path
        self.off = (0.0, 0.0)

    def shift(self, *, wall: float = 0.0, lease: float = 0.0) -> None:
        """Set the clocks forward, or back; each in one store of eight bytes."""
        self.off = (self.off[0] + wall, self.off[1] + lease)
        for place, seconds in enumerate(self.off):
            self._memory[8 * place : 8 * place + 8] = struct.pack("d", seconds)

    def wall(self) -> float:
        return time.time() + self.off[0]

    def monotonic(self) -> float:
        return time.monotonic() + self.off[1]


class Machine:
    """Some workers on one store, and a client."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.url = folder, f"sqlite:///{folder}/jobs.db"
        self.clock = Clock(folder / "clock")
        self.client = Client(open_store(self.url, self.clock), self.clock)
        self.workers: list[Worker] = []
        self.settings = {"store": self.url, "concurrency": 2, "beat": BEAT, "sweep": SWEEP, "drain": 1.0} | settings

    def task(self, name: str) -> BoundTask[..., ..., Any, Any]:
        return BoundTask(jobs.lift.registry[name], lambda: self.client)

    async def worker(self) -> "Worker":
        """One more, when it is warm."""
        worker = Worker(self, self.folder / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        await worker.warm()
        return worker

    def marks(self) -> list[list[str]]:
        """The lines that jobs wrote, as words."""
        path = self.folder / "audit"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    async def marked(self, *words: object) -> None:
        """Wait until a line begins so."""
        wanted = [str(word) for word in words]
        await until(lambda: any(line[: len(wanted)] == wanted for line in self.marks()))

    def starts(self, job_id: str) -> list[int]:
        """The attempts of a job whose code began."""
        return [int(line[2]) for line in self.marks() if line[:2] == ["start", job_id]]

    async def status(self, worker: "Worker") -> WorkerStatus | None:
        """What the store says of a worker."""
        found = await self.client.store.workers()
        return next((one for one in found if one.worker.pid == worker.pid), None)

    async def beaten(self, *workers: "Worker") -> None:
        """Wait until each of these has beaten after now."""
        began = self.clock.monotonic()
        for worker in workers:
            async with asyncio.timeout(30):
                while (status := await self.status(worker)) is None or not (
                    status.beat_age < self.clock.monotonic() - began
                ):
                    await asyncio.sleep(BEAT / 10)

    async def lease_passes(self, seconds: float, *workers: "Worker") -> None:
        """Let so many seconds of leases pass; these workers beat all the time, and so keep their contact."""
        while seconds > 0:
            await self.beaten(*workers)
            self.clock.shift(lease=min(seconds, STEP))
            seconds -= STEP
        await self.beaten(*workers)


class Worker:
    """One process `heavylift.process`, with its nanny and hosts."""

    def __init__(self, machine: Machine, log: Path) -> None:
        self.log = log
        self._ready, ready = os.pipe()
        config = {"application": asdict(APPLICATION), "settings": machine.settings, "ready": ready}
        environment = os.environ | {
            "AUDIT_FILE": str(machine.folder / "audit"),
            "CLOCK_FILE": str(machine.clock.path),
            "PYTHONPATH": f"{ROOT / 'tests/system/clocks'}:{ROOT}",
        }
        with log.open("ab") as output:
            command = [sys.executable, "-m", "heavylift.process", json.dumps(config)]
            self.process = subprocess.Popen(
                command, pass_fds=[ready], start_new_session=True, env=environment, stdout=output, stderr=output
            )
        os.close(ready)
        self.pid = self.process.pid

    async def warm(self) -> None:
        with os.fdopen(self._ready, "rb") as pipe:
            answer = await asyncio.to_thread(pipe.read)
        assert answer == b"ready\n", answer

    def tree(self) -> list[psutil.Process]:
        """All living processes that it started, however far down."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def stop(self) -> None:
        """Suspend it, and it alone."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def said(self, pattern: str) -> bool:
        """Whether its log has a line that matches."""
        return re.search(pattern, self.log.read_text()) is not None

    async def end(self) -> int:
        """Have it drain; its exit code."""
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 60)


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@contextlib.asynccontextmanager
async def machine(folder: Path, **settings: Any) -> AsyncIterator[Machine]:
    found = Machine(folder, settings)
    await found.client.open()
    try:
        yield found
    finally:
        await found.client.close()
        for worker in found.workers:
            for process in (*worker.tree(), worker.process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            worker.process.wait()


@contextlib.asynccontextmanager
async def stopped(found: Machine, *workers: Worker) -> AsyncIterator[None]:
    """Suspend workers outside of their writing: a store of one file cannot be written while one is stopped in it."""
    for worker in workers:
        while True:
            worker.stop()
            await until(lambda worker=worker: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await found.client.store.set_queue("probe", max_size=1)
                    break
            worker.go_on()
    try:
        yield
    finally:
        for worker in workers:
            worker.go_on()
