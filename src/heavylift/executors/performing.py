"""Where task code runs without a host of its own: one attempt, in this thread, told of a stop only when it reports."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Awaitable, Callable, Coroutine
from types import CodeType, TracebackType
from typing import Any

from heavylift.context import Context
from heavylift.core import codec
from heavylift.core.errors import Cancelled
from heavylift.core.job import Job, Progress
from heavylift.core.outcome import Outcome
from heavylift.core.task import Task
from heavylift.executor import Checkpoint, LogLines, Report
from heavylift.executors import answers, verdicts
from heavylift.executors.answers import Answer
from heavylift.executors.stopping import was_led_to
from heavylift.executors.verdicts import Run
from heavylift.executors.wire import NOT_STARTED, USAGE, Kind
from heavylift.settings import Settings

EXACT = 200
"""Reports of progress that are passed on one by one; beyond them only every EVERYth, and the last."""
EVERY = 50

Awaited = Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]
"""Runs the coroutine of an `async def` task: blocks until it is over, or awaits it."""


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
                raise fault  # noqa: TRY301  its traceback is to begin here, as that of a task
            value = task.function(**arguments)
            if task.is_coroutine:
                value = await self._awaited(value)
        except BaseException as error:  # noqa: BLE001  whatever a task raises is its answer
            self.raised = error
            if self._stopping() and (was_led_to(error, Cancelled) or was_led_to(error, asyncio.CancelledError)):
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
        try:
            return self._runner.run(self._followed(coroutine))
        except BaseException as error:  # noqa: BLE001  it is raised again
            raise error.with_traceback(_below(error.__traceback__, Coroutines._followed.__code__)) from error.__cause__

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


def _below(frames: TracebackType | None, code: CodeType) -> TracebackType | None:
    """The frames that this code called: those above are the event loop's."""
    found = frames
    while found is not None:
        if found.tb_frame.f_code is code:
            return found.tb_next
        found = found.tb_next
    return frames
