"""What the tests of a store are written with: a store on a clock that stands still, and short ways to move jobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from heavylift.core import lifecycle
from heavylift.core.event import Event
from heavylift.core.job import CancelRequest, Job
from heavylift.core.options import Options, Slots
from heavylift.core.outcome import Outcome, Succeeded
from heavylift.store import Added, Clock, Query, Store, WorkerRecord
from heavylift.testing.clock import FakeClock

LEASE = 15.0
SUCCESS = Succeeded(b"null")


class StoreCases:
    """Base of the suites. A subclass says how its store is made."""

    _names = count(1)

    def make_store(self, clock: Clock) -> Store:
        """A new, empty store, not opened yet."""
        raise NotImplementedError

    def make_again(self, store: Store, clock: Clock) -> Store:
        """Another object on the same jobs, as another process has it, not opened yet."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The time of the test."""
        return FakeClock()

    @pytest.fixture
    async def store(self, clock: FakeClock) -> AsyncIterator[Store]:
        """An open store with nothing in it."""
        store = self.make_store(clock)
        await store.open()
        yield store
        await store.close()

    @pytest.fixture
    async def other(self, store: Store, clock: FakeClock) -> AsyncIterator[Store]:
        """The same store, as another process has it."""
        other = self.make_again(store, clock)
        await other.open()
        yield other
        await other.close()

    def job(
        self, clock: Clock, name: str | None = None, *, args: bytes = b"{}", task: str = "task", **options: Any
    ) -> tuple[Any, Any]:
        """A new job and its first event, as `add` takes them."""
        name = name or f"job-{next(self._names)}"
        return lifecycle.submit(name, task, args, Options().using(**options), clock.wall())

    async def added(self, store: Store, clock: Clock, *names: str, **options: Any) -> list[Job]:
        """Jobs that were added."""
        answers = await store.add([self.job(clock, name, **options) for name in names])
        assert all(isinstance(answer, Added) and answer.created for answer in answers), answers
        return [answer.job for answer in answers if isinstance(answer, Added)]

    async def begun(
        self,
        store: Store,
        slots: int | Slots = 10,
        queues: Collection[str] = (),
        *,
        worker: str = "worker",
        **values: Any,
    ) -> dict[str, Job]:
        """The jobs that a worker gets now, by id, in their order; a number means slots for processes."""
        await store.beat(self.worker(worker, **values), LEASE)
        jobs = await store.claim(worker, 1, Slots(slots) if isinstance(slots, int) else slots, queues)
        return {job.id: job for job in jobs}

    async def started(
        self, store: Store, clock: Clock, *names: str, worker: str = "worker", **options: Any
    ) -> list[Job]:
        """Jobs that were added and claimed."""
        await self.added(store, clock, *names, **options)
        await store.beat(self.worker(worker), LEASE)
        jobs = await store.claim(worker, 1, Slots(len(names)))
        assert {job.id for job in jobs} == set(names)
        return sorted(jobs, key=lambda job: names.index(job.id))

    async def finished(
        self, store: Store, clock: Clock, *names: str, outcome: Outcome = SUCCESS, **options: Any
    ) -> list[Job]:
        """Jobs that were added, claimed and settled."""
        return [
            await self.settle(store, clock, job, outcome) for job in await self.started(store, clock, *names, **options)
        ]

    async def settle(self, store: Store, clock: Clock, job: Job, outcome: Outcome = SUCCESS) -> Job:
        """The job after its outcome was saved."""
        change = lifecycle.settle(job, outcome, clock.wall())
        (seq,) = await store.save([change])
        after = change.apply(job)
        assert seq == after.seq
        return after

    async def cancel(self, store: Store, clock: Clock, job: Job, **request: Any) -> Job:
        """The job after its cancel was requested."""
        change = lifecycle.cancel(job, CancelRequest(clock.wall(), **request))
        (seq,) = await store.save([change])
        after = change.apply(job)
        assert seq == after.seq
        return after

    async def read(self, store: Store, name: str) -> Job:
        """The job as it is kept."""
        (job,) = await store.get([name])
        assert job is not None
        return job

    async def events(self, store: Store, name: str, after: int = 0) -> list[Event]:
        """The job's events."""
        return await store.events({name: after})

    async def found(self, store: Store, **query: Any) -> list[str]:
        """The ids of all jobs that match, over all pages."""
        names: list[str] = []
        token = None
        while True:
            page = await store.find(Query(page_token=token, **query))
            assert len(page.jobs) <= query.get("limit", 50)
            names += [job.id for job in page.jobs]
            token = page.next_page_token
            if token is None:
                return names

    def worker(self, name: str = "worker", **values: Any) -> WorkerRecord:
        """A worker's record, with the marks of this very process, which lives."""
        record: dict[str, Any] = {
            "epoch": 1,
            "hostname": "here",
            "pid": os.getpid(),
            "process_started": _process_started(),
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
            "pid_namespace": str(Path("/proc/self/ns/pid").readlink()),
            "concurrency": 2,
        }
        return WorkerRecord(name, **record | values)


def _process_started() -> int:
    return int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])


async def eventually(hints: Any, seconds: float = 10.0) -> bool:
    """Whether a hint comes."""
    async with asyncio.timeout(seconds + 5):
        return bool(await hints.wait(seconds))
