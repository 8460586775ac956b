"""Runs attempts in this very process, one at a time: for tests. It asks code to stop, and can kill none."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

from heavylift.core.job import Job
from heavylift.core.options import Slots
from heavylift.core.outcome import Interrupted, Outcome
from heavylift.core.stack import Source, Stack
from heavylift.core.task import Task
from heavylift.executor import Ability, Report, StopReason, TaskInfo
from heavylift.executors import sightings, verdicts
from heavylift.executors.pace import Pace
from heavylift.executors.performing import Performance, Surroundings, performed
from heavylift.executors.verdicts import Run, Stop
from heavylift.settings import Settings

PATIENCE = 0.5
"""Seconds that a run waits for the one before it; then it goes back."""

Call = Callable[[], None]
Place = Callable[[Call], None]
"""Has a function called where task code is to run; in the order in which they come, one at a time."""
Fault = Callable[[Job], BaseException | None]
"""What is to be raised in place of this job's code, if anything."""


class Registered(Protocol):
    """What is needed of an application."""

    registry: dict[str, Task]
    host_start_hooks: list[Callable[[], None]]
    dependency_overrides: dict[Callable[..., Any], Callable[..., Any]]


class Inline:
    """An executor on the tasks of an application that is imported here.

    `place` has task code run where the caller wants it; without one it runs in a thread of its own.
    """

    lacks = frozenset({Ability.KILL, Ability.PARALLEL})

    def __init__(
        self, application: Registered, settings: Settings, place: Place | None = None, fault: Fault | None = None
    ) -> None:
        self._application, self._settings, self._place, self._fault = application, settings, place, fault
        self.tasks: Mapping[str, TaskInfo] = {}
        self.escaped: BaseException | None = None
        """What ended the last run and was meant for more than its job, such as a Ctrl-C: its owner may raise it."""
        self._loop = asyncio.get_running_loop()
        self._runs: dict[tuple[str, int], Run] = {}
        self._waiting: deque[Run] = deque()
        self._current: Run | None = None
        self._numbers = 0
        self._closing = False
        self._changed = asyncio.Event()
        self._around = Surroundings(application.dependency_overrides)
        self._performance: Performance | None = None
        self._thread = 0
        """Where it runs."""

    # --- the contract ------------------------------------------------------------------------------------------

    @property
    def free(self) -> Slots:
        """See `Executor.free`: one attempt, whatever its place would be elsewhere."""
        return Slots() if self._closing or self._runs else Slots(1, 1, 1)

    async def start(self) -> None:
        """See `Executor.start`."""
        self.tasks = {name: TaskInfo(name, task.options) for name, task in self._application.registry.items()}
        if self._place is None:
            self._place = _thread()
        await self._called(partial(_call_all, tuple(self._application.host_start_hooks)))

    def run(self, job: Job, report: Callable[[Job, Report], None], finished: Callable[[Job, Outcome], None]) -> None:
        """See `Executor.run`."""
        if self._closing:
            self._loop.call_soon(finished, job, Interrupted("drain"))
            return
        self._numbers += 1
        run = Run(self._numbers, job, report, finished, time.monotonic(), Pace())
        self._runs[job.id, job.attempt] = run
        self._waiting.append(run)
        run.timer = self._loop.call_later(PATIENCE, self._hand_back, run)
        self._loop.call_soon(self._next)

    def stop(self, job: str, attempt: int, reason: StopReason, grace: float, *, force: bool = False) -> None:
        """See `Executor.stop`. Code that does not listen goes on: nothing is killed here, whatever the grace."""
        del grace, force
        run = self._runs.get((job, attempt))
        if run is None or run.stop is not None:
            return
        run.stop = Stop(reason, 0.0, 0.0)
        if run is self._current:
            if self._performance is not None:
                self._performance.news.tell()
        else:
            self._waiting.remove(run)
            self._finish(run, verdicts.stopped(run, started=False))

    async def look(self, job: str, attempt: int) -> Stack | None:
        """See `Executor.look`. Code in C that keeps the interpreter keeps the answer waiting, too."""
        run = self._runs.get((job, attempt))
        if run is None:
            return None
        frame = sys._current_frames().get(self._thread) if run is self._current else None  # noqa: SLF001
        if frame is None:
            return Stack(time.time(), attempt, Source.NONE)
        text = sightings.of_frames(frame, lambda one: one.f_code is Inline._perform.__code__)
        return Stack(time.time(), attempt, Source.INTERPRETER, text)

    async def close(self, grace: float) -> None:
        """See `Executor.close`. What does not end goes on in its thread, and is not heard any more."""
        closed, self._closing = self._closing, True
        while self._waiting:
            self._finish(self._waiting.popleft(), Interrupted("drain"))
        if self._current is not None:
            job = self._current.job
            share = min(job.options.grace, grace / 2)
            await self._idle(grace - share)
            self.stop(job.id, job.attempt, StopReason.DRAIN, share)
            await self._idle(share)
        if self._current is not None:
            self._finish(self._current, Interrupted("drain"))
        elif not closed and self._place is not None:
            await self._called(self._around.close)

    # --- on the loop ---------------------------------------------------------------------------------------------

    def _next(self) -> None:
        if self._current is not None or not self._waiting or self._place is None:
            return
        run = self._current = self._waiting.popleft()
        _stop_timer(run)
        options = run.job.options
        if options.timeout is not None:
            key = (run.job.id, run.job.attempt)
            run.timer = self._loop.call_later(options.timeout, self.stop, *key, StopReason.TIMEOUT, options.grace)
        self._place(partial(self._perform, run))

    def _hand_back(self, run: Run) -> None:
        if run in self._waiting:
            self._waiting.remove(run)
            self._finish(run, Interrupted("not started"))

    def _report(self, run: Run, report: Report) -> None:
        if (run.job.id, run.job.attempt) in self._runs:
            run.report(run.job, report)

    def _finish(self, run: Run, outcome: Outcome) -> None:
        if self._runs.pop((run.job.id, run.job.attempt), None) is None:
            return
        _stop_timer(run)
        if run is self._current:
            self._current = None
            self._changed.set()
            self._loop.call_soon(self._next)
        self._loop.call_soon(run.finished, run.job, outcome)

    async def _idle(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._current is not None:
                    self._changed.clear()
                    await self._changed.wait()

    async def _called(self, call: Call) -> None:
        """Have it called where task code runs, and wait for its end; raises what it raises."""
        assert self._place is not None  # noqa: S101  it was given one when it started
        done: asyncio.Future[None] = self._loop.create_future()

        def tell() -> None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001  a hook is user code
                self._loop.call_soon_threadsafe(done.set_exception, error)
            else:
                self._loop.call_soon_threadsafe(done.set_result, None)

        self._place(tell)
        await done

    # --- where task code runs --------------------------------------------------------------------------------------

    def _perform(self, run: Run) -> None:
        def tell(report: Report) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody listens
                self._loop.call_soon_threadsafe(self._report, run, report)

        self._thread = threading.get_ident()
        task = self._application.registry.get(run.job.task)
        fault = None if self._fault is None else self._fault(run.job)
        performance = self._performance = Performance(run, tell, self._settings, self._around)
        outcome = performed(performance.outcome(task, fault))
        self.escaped = performance.escaped
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish, run, outcome)


def _call_all(hooks: Sequence[Callable[[], None]]) -> None:
    for hook in hooks:
        hook()


def _stop_timer(run: Run) -> None:
    if run.timer is not None:
        run.timer.cancel()
        run.timer = None


def _thread() -> Place:
    """A new thread for task code. A daemon: what does not end must not keep the process."""
    calls: SimpleQueue[Call] = SimpleQueue()

    def serve() -> None:
        while True:
            calls.get()()

    threading.Thread(target=serve, name="heavylift inline", daemon=True).start()
    return calls.put
