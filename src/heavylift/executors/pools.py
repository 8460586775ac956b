"""All hosts of a worker: the Executor that gives each attempt to the pool of the place where it runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from heavylift.core.options import Slots
from heavylift.executor import Ability
from heavylift.executors.host_pool import PATIENCE
from heavylift.executors.pool import Pool
from heavylift.executors.shared_pool import SharedPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from heavylift.core.job import Job
    from heavylift.core.outcome import Outcome
    from heavylift.core.stack import Stack
    from heavylift.executor import Report, StopReason, TaskInfo
    from heavylift.executors.link import Nanny
    from heavylift.settings import Settings


class Pools:
    """An Executor of exclusive and shared hosts that one nanny forks. `patience`: see `host_pool.PATIENCE`."""

    lacks: frozenset[Ability] = frozenset()

    def __init__(self, nanny: Nanny, settings: Settings, *, patience: float = PATIENCE) -> None:
        self.nanny = nanny
        self.exclusive = Pool(nanny, settings, patience=patience)
        self.shared = SharedPool(nanny, settings, self.exclusive.size)
        self.tally = nanny.tally

    @property
    def tasks(self) -> Mapping[str, TaskInfo]:
        """See `Executor.tasks`."""
        return self.nanny.tasks

    @property
    def hosts(self) -> Mapping[str, int]:
        """See `Executor.hosts`."""
        return {**self.exclusive.hosts, **self.shared.hosts}

    @property
    def free(self) -> Slots:
        """See `Executor.free`."""
        _, loop, thread = self.shared.free
        return Slots(self.exclusive.free.process, loop, thread)

    async def start(self) -> None:
        """See `Executor.start`."""
        await asyncio.gather(self.exclusive.start(), self.shared.start())

    def run(self, job: Job, report: Callable[[Job, Report], None], finished: Callable[[Job, Outcome], None]) -> None:
        """See `Executor.run`."""
        info, place = self.nanny.tasks.get(job.task), job.options.run_in
        if info is not None and (info.options.run_in == "loop") != (place == "loop"):
            # The job is of another version of the application, in which its task was, or was not, a coroutine.
            here = replace(job, options=replace(job.options, run_in=info.options.run_in))
            self.run(here, lambda _, said: report(job, said), lambda _, outcome: finished(job, outcome))
        elif info is None or place == "process":
            self.exclusive.run(job, report, finished)
        else:
            self.shared.run(job, report, finished)

    def stop(self, job: str, attempt: int, reason: StopReason, grace: float, *, force: bool = False) -> None:
        """See `Executor.stop`."""
        self.exclusive.stop(job, attempt, reason, grace, force=force)
        self.shared.stop(job, attempt, reason, grace, force=force)

    async def look(self, job: str, attempt: int) -> Stack | None:
        """See `Executor.look`."""
        return await self.exclusive.look(job, attempt) or await self.shared.look(job, attempt)

    async def close(self, grace: float) -> None:
        """See `Executor.close`."""
        await asyncio.gather(self.exclusive.close_hosts(grace), self.shared.close_hosts(grace))
        await self.nanny.close()
        await asyncio.gather(self.exclusive.gone(), self.shared.gone())
