"""An application in a test: with a store of its own, a clock that stands still, and a worker that runs on command."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from heavylift.app import Heavylift
from heavylift.core.units import Duration, seconds
from heavylift.executors.inline import Inline
from heavylift.testing.clock import FakeClock
from heavylift.testing.drains import Drains
from heavylift.testing.jobs import Observer
from heavylift.testing.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from heavylift.core.job import Job
    from heavylift.store import Clock
    from heavylift.testing.jobs import AnyTask

Error = BaseException | type[BaseException]


class Environment(Observer):
    """What a test does with its application's jobs; made by `open_environment`, or the fixture `lift_env`.

    Jobs that the test, or the code under test, submits wait in a real store until `drain` or `advance` runs them: in
    this process, one at a time, through the same claims, rules and writes as a worker's. Task code runs on the test's
    own thread; in a test that is async itself, on another one, since the loop of the test runs there.
    """

    def __init__(self, lift: Heavylift, eye: Heavylift, portal: Portal, clock: FakeClock) -> None:
        super().__init__(lift, eye, portal)
        self.clock = clock
        """The application's clock. It begins at the real time, and moves when it is told to."""
        self._faults: dict[str, list[Error]] = {}
        portal.run(self._start())

    def drain(self) -> list[Job]:
        """Run all jobs that are due, and those that become so by that; for each attempt the job as it was after it.

        A retry that has to wait is not due: see `advance`. Raises AssertionError after 1000 attempts, and what task
        code raised that was meant for the test: `pytest.fail`, Ctrl-C.
        """
        return self._portal.run(self._drains.drain())

    def advance(self, duration: Duration) -> list[Job]:
        """Let time pass, and run each job when its time has come: delayed ones, and retries, which wait as long as
        their backoff says, without jitter. Returns what `drain` does.
        """
        return self._portal.run(self._drains.advance(seconds(duration)))

    def fail_next(self, task: AnyTask, error: Error, times: int = 1) -> None:
        """Have the next `times` attempts of a task raise `error` (an exception, or its class) before any of its code:
        what follows is what the task's own retry policy says.
        """
        self._faults.setdefault(task.name, []).extend([error] * times)

    async def _start(self) -> None:
        await self._eye.open()
        self._executor = Inline(self._lift, self._lift.settings, self._portal.place, self._fault)
        await self._executor.start()
        self._drains = Drains(self._eye.store, self._executor, self.clock)
        await self._drains.register()

    def close(self) -> None:
        """Let go of everything."""
        self._portal.run(self._executor.close(0.0))

    def _fault(self, job: Job) -> BaseException | None:
        waiting = self._faults.get(job.task)
        if not waiting:
            return None
        error = waiting.pop(0)
        return error() if isinstance(error, type) else error.with_traceback(None)


@contextlib.contextmanager
def open_environment(lift: Heavylift, folder: Path) -> Iterator[Environment]:
    """The application on a new store in `folder`, until the block ends; its code, and who imported it, notices nothing.

    Raises ConfigError when its store is open already.
    """
    clock = FakeClock(time.time(), time.monotonic())
    with observed(lift, folder, clock) as (eye, portal):
        environment = Environment(lift, eye, portal, clock)
        try:
            yield environment
        finally:
            environment.close()


@contextlib.contextmanager
def observed(lift: Heavylift, folder: Path, clock: Clock, **settings: Any) -> Iterator[tuple[Heavylift, Portal]]:
    """The application on a new store in `folder`, and another object for the same store, with a loop for it."""
    with lift.overridden(clock=clock, store=f"sqlite:///{folder}/jobs.db", **settings):
        eye = Heavylift(**lift.worker_settings())
        portal = Portal()
        try:
            with eye.overridden(clock=clock):
                try:
                    yield eye, portal
                finally:
                    portal.run(_let_go(eye, lift))
        finally:
            portal.close()


async def _let_go(eye: Heavylift, lift: Heavylift) -> None:
    await eye.close()
    # Who follows jobs does so on the test's loop, and ends with it.
    await lift.store.close()
    lift.client.abandon()
