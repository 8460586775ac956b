"""A worker for tests: claims, runs and settles what is due, one job after the other, until nothing is left."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from heavylift.core import lifecycle
from heavylift.core.job import Job, State
from heavylift.core.options import Slots
from heavylift.core.outcome import Interrupted
from heavylift.executor import Report, Reserve
from heavylift.reports import reported
from heavylift.store import WorkerRecord

if TYPE_CHECKING:
    from heavylift.core.job import Change
    from heavylift.core.outcome import Outcome
    from heavylift.executors.inline import Inline
    from heavylift.store import Store
    from heavylift.testing.clock import FakeClock

LEASE = 100 * 366 * 86400.0
"""Seconds: whatever time a test lets pass, its worker lives."""
NO_JITTER = 1.0
"""In place of a random number: each delay is the whole one that the backoff names."""
ONE_EACH = [Slots(process=1), Slots(loop=1), Slots(thread=1)]
"""Claimed in turn: one job at a time, of each place."""
MOST = 1000
"""Attempts of one drain; more look like a job that goes on for ever."""


class Drains:
    """The worker: on one store, with one executor, by one clock."""

    def __init__(self, store: Store, executor: Inline, clock: FakeClock) -> None:
        self._store, self._executor, self._clock = store, executor, clock
        self._worker = WorkerRecord("test", 1, "localhost", os.getpid(), 0, "", "", concurrency=1)

    async def register(self) -> None:
        """Be known to the store, so that jobs have somebody to wait for."""
        await self._store.beat(self._worker, LEASE)

    async def drain(self) -> list[Job]:
        """Run all jobs that are due, and those that become so by that; each as it was after its run.

        Raises AssertionError when that does not end, and what task code raised that was not meant for its job.
        """
        ran: list[Job] = []
        while True:
            before = len(ran)
            for slots in ONE_EACH:
                for job in await self._store.claim(self._worker.id, self._worker.epoch, slots):
                    await self._check(job, len(ran))
                    ran.append(await self._run(job))
            if len(ran) == before:
                return ran

    async def advance(self, seconds: float) -> list[Job]:
        """Let time pass, and run each job when its time has come."""
        end = self._clock.wall() + seconds
        ran = await self.drain()
        while (due := await self._store.next_due()) is not None and due <= end:
            self._clock.advance(max(0.0, due - self._clock.wall()))
            if self._clock.wall() < due:
                self._clock.set_wall(due)  # the sum was rounded
            ran += await self.drain()
        self._clock.advance(max(0.0, end - self._clock.wall()))
        return ran

    async def _check(self, job: Job, ran: int) -> None:
        if ran == MOST:
            await self._settle(job, [], Interrupted("not started"))
            message = f"{MOST} attempts were made and jobs are still due; the next one is of {job.task!r}."
            raise AssertionError(message)

    async def _run(self, job: Job) -> Job:
        """One attempt, to the end of its last write."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        changes: list[Change] = []

        def report(_: Job, item: Report) -> None:
            nonlocal job
            if isinstance(item, Reserve):
                item.answer(0.0)  # it would wait by another clock than the test's
                return
            job, change = reported(job, item, self._clock.wall())
            changes.append(change)

        self._executor.run(job, report, lambda _, ended: outcome.set_result(ended))
        ended = await outcome
        settled = await self._settle(job, changes, ended)
        escaped, self._executor.escaped = self._executor.escaped, None
        if escaped is not None:
            raise escaped
        return settled

    async def _settle(self, job: Job, reports: list[Change], outcome: Outcome) -> Job:
        now = self._clock.wall()
        seqs = await self._store.save([*reports, lifecycle.settle(job, outcome, now, NO_JITTER)])
        current = await self._current(job.id)
        if seqs[-1] is None and current.cancel is not None and current.state is State.RUNNING:
            # Its cancel was requested while it ran, and the first settle did not know.
            await self._store.save([lifecycle.settle(current, outcome, now, NO_JITTER)])
            current = await self._current(job.id)
        return current

    async def _current(self, job_id: str) -> Job:
        [job] = await self._store.get([job_id])
        assert job is not None, f"job {job_id} vanished from the store while it ran"
        return job
