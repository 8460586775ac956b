"""A worker beside the test, as a web process has it, and what the tests ask of it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.system import jobs as usual_jobs

from heavylift.bound_task import BoundTask
from heavylift.client import Client
from heavylift.executor import Application
from heavylift.monolith import Monolith
from heavylift.store import SystemClock
from heavylift.stores import open_store

ROOT = Path(__file__).parents[2]
APPLICATION = Application("tests.system.jobs", "lift", (), (str(ROOT),))


class Service:
    """A client and its worker; `task` binds a task of the test's application to this client."""

    def __init__(self, client: Client, monolith: Monolith, audit: Path, jobs: ModuleType) -> None:
        self.client, self.monolith, self.audit = client, monolith, audit
        self._tasks = jobs.lift.registry

    def task(self, name: str) -> BoundTask[..., ..., Any, Any]:
        return BoundTask(self._tasks[name], lambda: self.client)

    def marks(self) -> list[list[str]]:
        """The lines that jobs wrote, as words."""
        return [line.split() for line in self.audit.read_text().splitlines()] if self.audit.exists() else []

    async def started(self, job_id: str) -> None:
        """Wait until the job's own code runs."""
        await until(lambda: any(line[:2] == ["start", job_id] for line in self.marks()))

    @property
    def worker_pid(self) -> int:
        assert self.monolith._process is not None
        return self.monolith._process.pid


@contextlib.asynccontextmanager
async def serving(
    folder: Path, url: str = "", jobs: ModuleType = usual_jobs, **settings: Any
) -> AsyncIterator[Service]:
    """The application of a module, on a new store in `folder`, or wherever `url` says."""
    audit = folder / "audit"
    os.environ["AUDIT_FILE"] = str(audit)
    client = Client(open_store(url or f"sqlite:///{folder}/jobs.db"), SystemClock())
    await client.open()
    url = client.store.url
    application = replace(APPLICATION, target=jobs.__name__)
    monolith = Monolith(application, {"store": url, "concurrency": 2, "drain": 1.0} | settings, url)
    try:
        await monolith.start()
        yield Service(client, monolith, audit, jobs)
    finally:
        await monolith.close()
        await client.close()


async def until(condition: Callable[[], Any], timeout: float = 30.0) -> None:
    """Wait for a condition that no event tells of."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


def processes_with(text: str) -> list[int]:
    """Living processes whose command line holds a text."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX" and text.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return found
