"""Runs attempts in this very process, one at a time: for tests. It asks code to stop, and can kill none."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import resource
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

from heavylift.context import Context
from heavylift.core import codec
from heavylift.core.errors import Cancelled
from heavylift.core.job import Job, Progress
from heavylift.core.outcome import Interrupted, Outcome
from heavylift.core.task import Task
from heavylift.executor import Ability, Checkpoint, LogLines, Report, StopReason, TaskInfo
from heavylift.executors import answers, verdicts
from heavylift.executors.answers import Answer
from heavylift.executors.pace import Pace
from heavylift.executors.stopping import Guard
from heavylift.executors.verdicts import Run, Stop
from heavylift.executors.wire import NOT_STARTED, USAGE, Kind
from heavylift.settings import Settings

PATIENCE = 0.5
"""Seconds that a run waits for the one before it; then it goes back."""
EXACT = 200
"""Reports of progress that are passed on one by one; beyond them only every EVERYth, and the last."""
EVERY = 50

Call = Callable[[], None]
Place = Callable[[Call], None]
"""Has a function called where task code is to run; in the order in which they come, one at a time."""
Awaited = Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]
"""Runs the coroutine of an `async def` task: blocks until it is over, or awaits it."""
Fault = Callable[[Job], BaseException | None]
"""What is to be raised in place of this job's code, if anything."""


class Registered(Protocol):
    """What is needed of an application."""

    registry: dict[str, Task]
    host_start_hooks: list[Callable[[], None]]


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
        self._coroutines = Coroutines()

    # --- the contract ------------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """See `Executor.free`."""
        return 0 if self._closing or self._runs else 1

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
        """See `Executor.stop`. Code that does not listen goes on: nothing here is killed, `grace` and `force` or not."""
        del grace, force
        run = self._runs.get((job, attempt))
        if run is None or run.stop is not None:
            return
        run.stop = Stop(reason, 0.0, 0.0)
        if run is self._current:
            self._coroutines.cancel()
        else:
            self._waiting.remove(run)
            self._finish(run, verdicts.stopped(run, started=False))

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
            await self._called(self._coroutines.close)

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

        task = self._application.registry.get(run.job.task)
        fault = None if self._fault is None else self._fault(run.job)
        performance = Performance(run, tell, self._settings, self._coroutines.run)
        outcome = performed(performance.outcome(task, fault))
        self.escaped = performance.escaped
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish, run, outcome)


class Performance:
    """One attempt in this thread: what a host does with it, without what only a process of its own can do.

    `awaited` runs the coroutine of an `async def` task.
    """

    def __init__(self, run: Run, tell: Callable[[Report], None], settings: Settings, awaited: Awaited) -> None:
        self.raised: BaseException | None = None
        """What the task's code raised."""
        self._run, self._settings, self._awaited = run, settings, awaited
        self._reporter = InlineReporter(run, tell, settings.max_log)

    @property
    def escaped(self) -> BaseException | None:
        """What the code raised that was meant for more than its job: Ctrl-C, or a test framework's own."""
        for_its_job = isinstance(self.raised, Exception | Cancelled | SystemExit | asyncio.CancelledError)
        return None if for_its_job else self.raised

    async def outcome(self, task: Task | None, fault: BaseException | None = None) -> Outcome:
        """Run the task's code; `fault` is raised in its place."""
        began, cpu = time.monotonic(), time.thread_time()
        (kind, body), flags = await self._attempt(task, fault)
        self._reporter.end()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        usage = USAGE.pack(time.monotonic() - began, time.thread_time() - cpu, peak)
        return verdicts.of_answer(self._run, kind, flags, usage + body)

    async def _attempt(self, task: Task | None, fault: BaseException | None) -> tuple[Answer, int]:
        job = self._run.job
        if task is None:
            return answers.unknown(job.task), 0
        try:
            arguments = task.arguments(job.args)
        except BaseException as error:  # noqa: BLE001  a validator is user code
            return answers.unfit(error), 0
        if task.context_parameter is not None:
            arguments[task.context_parameter] = self._context(job)
        return await self._call(task, arguments, fault)

    def _context(self, job: Job) -> Context:
        return Context(
            self._reporter,
            job_id=job.id,
            task=job.task,
            attempt=job.attempt,
            failures=job.failures,
            checkpoint=job.checkpoint,
            max_checkpoint=self._settings.max_result,
        )

    async def _call(self, task: Task, arguments: dict[str, Any], fault: BaseException | None) -> tuple[Answer, int]:
        if self._stopping():
            return (Kind.CANCELLED, b""), NOT_STARTED
        try:
            if fault is not None:
                raise fault
            value = task.function(**arguments)
            if inspect.iscoroutinefunction(task.function):
                value = await self._awaited(value)
        except BaseException as error:  # noqa: BLE001  whatever a task raises is its answer
            self.raised = error
            if self._stopping() and (Guard.caused(error) or isinstance(error, asyncio.CancelledError)):
                return (Kind.CANCELLED, b""), 0
            return answers.raised(task, error, self._run.job.failures + 1), 0
        return answers.returned(task, value, self._settings.max_result), 0

    def _stopping(self) -> bool:
        return self._run.stop is not None


def performed(outcome: Coroutine[Any, Any, Outcome]) -> Outcome:
    """The outcome of a Performance whose `awaited` blocks, so that there is nothing to wait for."""
    try:
        outcome.send(None)
    except StopIteration as end:
        found: Outcome = end.value
        return found
    message = "awaited() did not block"
    raise RuntimeError(message)


class InlineReporter:
    """A Context's reporter that passes reports on at once. A stop is raised in the code when it reports something."""

    def __init__(self, run: Run, tell: Callable[[Report], None], max_log: int) -> None:
        self._run, self._tell = run, tell
        self._log_left = max_log - run.job.log_bytes
        self._dropped = 0
        self._reports = 0
        self._unsent: Progress | None = None
        self._told = False
        self._over = False

    def progress(self, value: dict[str, Any]) -> None:
        """See `context.Reporter`."""
        self._reports += 1
        self._unsent = Progress(**value)
        if self._reports <= EXACT or self._reports % EVERY == 0:
            self._send_progress()
        self._settle()

    def checkpoint(self, value: bytes) -> None:
        """See `context.Reporter`."""
        self._send_progress()
        self._send(Checkpoint(value))
        self._settle()

    def log(self, level: str, message: str) -> None:
        """See `context.Reporter`."""
        line = {"at": time.time(), "level": level, "message": message}
        size = len(codec.encode(line))
        if size > self._log_left:
            self._log_left = 0  # a shorter line that would still fit must not follow a gap
            self._dropped += 1
        else:
            self._log_left -= size
            self._send_progress()
            self._send(LogLines((line,), size))
        self._settle()

    def cancelled(self) -> bool:
        """See `context.Reporter`. Code that got the news here ends in its own way."""
        asked = self._run.stop is not None
        self._told = self._told or asked
        return asked

    def end(self) -> None:
        """Pass on what was held back. What a thread of the job says from now on is not heard."""
        self._send_progress()
        if self._dropped:
            self._send(LogLines((), 0, self._dropped))
        self._over = True

    def _send_progress(self) -> None:
        unsent, self._unsent = self._unsent, None
        if unsent is not None:
            self._send(unsent)

    def _send(self, report: Report) -> None:
        if not self._over:
            self._tell(report)

    def _settle(self) -> None:
        if self._run.stop is not None and not self._told:
            self._told = True
            message = "the job was asked to stop"
            raise Cancelled(message)


class Coroutines:
    """Runs coroutines, one at a time, on one loop that lives as long as this: what they connect may stay connected."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    async def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The coroutine's result; blocks, and needs a thread in which no loop runs."""
        return self._runner.run(self._followed(coroutine))

    def cancel(self) -> None:
        """Cancel the coroutine that runs, if any does; from any thread."""
        running = self._running
        if running is not None:
            loop, task = running
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """Let go of the loop; where `run` was called."""
        self._runner.close()

    async def _followed(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a runner runs tasks
        self._running = asyncio.get_running_loop(), task
        try:
            return await coroutine
        finally:
            self._running = None


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
