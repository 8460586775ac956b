"""The real worker process, started as the web process starts it; and how to wait for what it does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import machine
from heavylift import Heavylift, State
from heavylift.executor import Application

ROOT = Path(__file__).resolve().parent.parent
APPLICATION = Application("benchmarks.application", "lift", (), (str(ROOT), str(ROOT / "src")))
ASYNC_APPLICATION = replace(APPLICATION, target="benchmarks.async_application")
QUEUE = "default"
BATCH = 1000


@dataclass(frozen=True, slots=True)
class WorkerProcesses:
    """The processes of one worker. The nanny is its child, the hosts are the nanny's."""

    worker: int

    @property
    def nanny(self) -> int:
        """The process that forks the hosts."""
        return next(pid for pid in machine.tree(self.worker) if pid != self.worker)

    @property
    def hosts(self) -> list[int]:
        """The processes that run task code."""
        return [pid for pid in machine.tree(self.nanny) if pid != self.nanny]

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by kind of process."""
        return {
            "worker": machine.cpu(self.worker),
            "nanny": machine.cpu(self.nanny),
            "hosts": sum(map(machine.cpu, self.hosts)),
        }


@contextlib.contextmanager
def running_worker(url: str, *, application: Application = APPLICATION, **settings: Any) -> Iterator[WorkerProcesses]:
    """A worker on this store, warm when this yields; told to stop at the end."""
    with tempfile.TemporaryFile() as output:
        ready_read, ready_write = os.pipe()
        alive_read, alive_write = os.pipe()
        config = {
            "application": asdict(application),
            "settings": settings | {"store": url},
            "alive": alive_read,
            "ready": ready_write,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "heavylift.process", json.dumps(config)],
            env=environment(),
            pass_fds=(alive_read, ready_write),
            start_new_session=True,
            stdout=output,
            stderr=output,
        )
        os.close(alive_read)
        os.close(ready_write)
        try:
            with open(ready_read, "rb") as pipe:  # noqa: PTH123  a descriptor
                answer = pipe.read()
            if answer != b"ready\n":
                output.seek(0)
                message = f"The worker did not start: {answer!r}\n{output.read().decode(errors='replace')}"
                raise RuntimeError(message)
            yield WorkerProcesses(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
            os.close(alive_write)


def environment() -> dict[str, str]:
    """The environment in which a process of ours finds the package and the benchmarks."""
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}


@contextlib.contextmanager
def fresh_store() -> Iterator[str]:
    """The URL of a store that is not there yet, on the disk, and gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/jobs.db"


async def fill(lift: Heavylift, task: str, count: int, **arguments: Any) -> None:
    """Queue so many jobs in a queue that is paused: `release` lets them go."""
    bound = lift.find_task(task)
    await lift.client.pause(QUEUE)
    for first in range(0, count, BATCH):
        await bound.submit_many(kwargs=[arguments] * min(BATCH, count - first))


async def release(lift: Heavylift) -> None:
    """Open the queue."""
    await lift.client.resume(QUEUE)


async def drained(lift: Heavylift, count: int, every: float = 0.005) -> None:
    """Wait until so many jobs succeeded, looking every so many seconds near the end, and seldom before it: a look takes
    CPU from what is measured. Raises when a job ended otherwise.
    """
    began = time.perf_counter()
    while True:
        counts = await state_counts(lift)
        if counts.get(State.FAILED, 0) or counts.get(State.CANCELLED, 0):
            message = f"Jobs of the benchmark failed: {counts}"
            raise RuntimeError(message)
        succeeded = counts.get(State.SUCCEEDED, 0)
        if succeeded >= count:
            return
        left = (count - succeeded) / max(1, succeeded) * (time.perf_counter() - began)
        await asyncio.sleep(max(every, min(left / 2, 0.25)))


async def state_counts(lift: Heavylift) -> dict[State, int]:
    """How many jobs of the queue are in which state."""
    for queue in await lift.client.queues():
        if queue.name == QUEUE:
            return dict(queue.counts)
    return {}
