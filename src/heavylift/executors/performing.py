"""Where task code runs without a host of its own: one attempt, in this thread, told of a stop only when it reports."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Callable, Coroutine, Mapping
from types import CodeType, TracebackType
from typing import Any

from heavylift.context import Context
from heavylift.core import codec
from heavylift.core.errors import Cancelled
from heavylift.core.job import Job, Progress
from heavylift.core.limits import Rate
from heavylift.core.outcome import Outcome
from heavylift.core.task import Task
from heavylift.executor import Checkpoint, LogLines, Report, Reserve
from heavylift.executors import answers, verdicts
from heavylift.executors.answers import Answer
from heavylift.executors.providing import Kept, Overrides, Scope
from heavylift.executors.providing_async import AsyncKept, AsyncScope
from heavylift.executors.stopping import was_led_to
from heavylift.executors.turns import LOOK_AGAIN, BellTurn
from heavylift.executors.verdicts import Run
from heavylift.executors.wire import NOT_STARTED, USAGE, Kind
from heavylift.reporter import NOT_HEARD
from heavylift.settings import Settings

EXACT = 200
"""Reports of progress that are passed on one by one; beyond them only every EVERYth, and the last."""
EVERY = 50


class Surroundings:
    """What a host's process would keep from one attempt to the next: the values of scope "host", and a loop.

    Coroutines block the thread that runs them, in which no loop may run.
    """

    def __init__(self, overrides: Overrides | None = None) -> None:
        self.kept, self.async_kept = Kept(overrides), AsyncKept(overrides)
        self._runner = asyncio.Runner()

    async def awaited(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        """What the coroutine of an attempt returns; blocks."""
        try:
            return self._runner.run(_followed(coroutine))
        except BaseException as error:  # noqa: BLE001  it is raised again
            raise error.with_traceback(_below(error.__traceback__, _followed.__code__)) from error.__cause__

    def close(self) -> None:
        """Clean up, in the thread that ran the attempts; raises what that raises."""
        error = self.kept.close()
        try:
            if self.async_kept.exits:
                error = self._runner.run(self.async_kept.aclose()) or error
        finally:
            self._runner.close()
        if error is not None:
            raise error


class LoopSurroundings(Surroundings):
    """The same within a loop, which runs the coroutines."""

    async def awaited(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        """What the coroutine of an attempt returns."""
        return await coroutine

    async def aclose(self) -> None:
        """Clean up; raises what that raises."""
        error = await self.async_kept.aclose()
        if error is not None:
            raise error
        self.close()


class Performance:
    """One attempt in this thread: what a host does with it, without what only a process of its own can do."""

    def __init__(self, run: Run, tell: Callable[[Report], None], settings: Settings, around: Surroundings) -> None:
        self.raised: BaseException | None = None
        """What the task's code raised."""
        self.news = News(run)
        self._run, self._settings, self._around = run, settings, around
        self._reporter = InlineReporter(run.job, tell, self.news, settings.max_log)

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
        if self.news.asked:
            return (Kind.CANCELLED, b""), NOT_STARTED
        ctx = self._context(job)
        if task.context_parameter is not None:
            arguments[task.context_parameter] = ctx
        try:
            return await self._call(task, arguments, ctx, fault), 0
        finally:
            ctx.close()

    def _context(self, job: Job) -> Context:
        return Context(
            self._reporter,
            job_id=job.id,
            task=job.task,
            attempt=job.attempt,
            failures=job.failures,
            checkpoint=job.checkpoint,
            max_checkpoint=self._settings.max_result,
            labels=job.options.labels,
        )

    async def _call(self, task: Task, arguments: dict[str, Any], ctx: Context, fault: BaseException | None) -> Answer:
        number, limit, around = self._run.number, self._settings.max_result, self._around

        def accepted(value: Any) -> Answer:
            return answers.accepted(task, value, limit)

        try:
            if fault is not None:
                raise fault  # noqa: TRY301  its traceback is to begin here, as that of a task
            answer: Answer
            if task.is_coroutine:
                scope = AsyncScope(around.async_kept, task, ctx, self.news, number)
                answer = await around.awaited(self.news.heard(scope.run(arguments, accepted)))
            else:
                answer = Scope(around.kept, task, ctx, self.news, number).run(arguments, accepted, _nothing)
        except answers.Refused as refused:
            return refused.answer
        except BaseException as error:  # noqa: BLE001  whatever a task raises is its answer
            self.raised = error
            if self.news.asked and (was_led_to(error, Cancelled) or was_led_to(error, asyncio.CancelledError)):
                return Kind.CANCELLED, b""
            return answers.raised(task, error, self._run.job.failures + 1)
        return answer


def performed(outcome: Coroutine[Any, Any, Outcome]) -> Outcome:
    """The outcome of a Performance in Surroundings that block, so that there is nothing to wait for."""
    try:
        outcome.send(None)
    except StopIteration as end:
        found: Outcome = end.value
        return found
    message = "the attempt did not block"
    raise RuntimeError(message)


class News:
    """How an attempt hears that it is to stop: a coroutine is cancelled, a function finds out when it reports.

    `run` as in `providing.Stops`.
    """

    def __init__(self, run: Run) -> None:
        self.run = 0
        self.shields = 0
        self._attempt = run
        self._told = False
        self._own: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._turns: set[BellTurn] = set()

    @property
    def asked(self) -> bool:
        """Whether it is to stop."""
        return self._attempt.stop is not None

    def tell(self) -> None:
        """A stop came: cancel the coroutine, if it is one. From any thread."""
        own = self._own
        if own is not None:
            with contextlib.suppress(RuntimeError):  # its loop has just ended
                own[0].call_soon_threadsafe(self.settle)
        for turn in list(self._turns):
            turn.stop()

    def turn(self) -> BellTurn:
        """One that its code is to wait for."""
        own = self._own
        turn = BellTurn(LOOK_AGAIN, self._turns.discard, None if own is None else own[0])
        self._turns.add(turn)
        return turn

    def settle(self) -> None:
        """Where the code runs: stop it, if that is due. Once, not under a shield, and not in its clean-ups."""
        if not self.asked or self._told or self.shields or not self.run:
            return
        self._told = True
        if self._own is not None:
            self._own[1].cancel()
            return
        message = "the job was asked to stop"
        raise Cancelled(message)

    def known(self) -> bool:
        """Whether it is to stop, for code that asks, and then ends in its own way."""
        asked = self.asked  # once: it may come between two looks, and then be told again
        self._told = self._told or asked
        return asked

    async def heard(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        """What the coroutine returns, which is cancelled when a stop comes."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a coroutine runs in a task
        self._own = asyncio.get_running_loop(), task
        try:
            return await coroutine
        finally:
            self._own = None


class InlineReporter:
    """A Context's reporter that passes reports on at once."""

    def __init__(self, job: Job, tell: Callable[[Report], None], news: News, max_log: int) -> None:
        self._tell, self._news = tell, news
        self._log_left = max_log - job.log_bytes
        self._dropped = 0
        self._reports = 0
        self._unsent: Progress | None = None
        self._over = False

    def progress(self, value: dict[str, Any]) -> None:
        """See `context.Reporter`."""
        self._reports += 1
        self._unsent = Progress(**value)
        if self._reports <= EXACT or self._reports % EVERY == 0:
            self._send_progress()
        self._news.settle()

    def checkpoint(self, value: bytes) -> None:
        """See `context.Reporter`."""
        self._send_progress()
        self._send(Checkpoint(value))
        self._news.settle()

    def log(self, level: str, message: str, extra: Mapping[str, Any] | None = None) -> None:
        """See `context.Reporter`."""
        line = {"at": time.time(), "level": level, "message": message, **(extra or {})}
        size = len(codec.encode(line))
        if size > self._log_left:
            self._log_left = 0  # a shorter line that would still fit must not follow a gap
            self._dropped += 1
        else:
            self._log_left -= size
            self._send_progress()
            self._send(LogLines((line,), size))
        self._news.settle()

    def reserve(self, rate: Rate) -> BellTurn:
        """See `context.Reporter`."""
        if self._over:
            raise RuntimeError(NOT_HEARD)
        turn = self._news.turn()

        def taken(seconds: float) -> None:
            if seconds > 0:
                asyncio.get_running_loop().call_later(seconds, turn.come)
            else:
                turn.come()

        self._tell(Reserve(rate, taken))
        return turn

    def cancelled(self) -> bool:
        """See `context.Reporter`. Code that got the news here ends in its own way."""
        return self._news.known()

    def shield(self) -> None:
        """See `context.Reporter`."""
        self._news.shields += 1

    def unshield(self, name: str, *, quiet: bool) -> None:
        """See `context.Reporter`."""
        if self._news.asked:
            self.log("info", f"A stop waited for the end of {name!r}.")
        self._news.shields -= 1
        if not quiet:
            self._news.settle()

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


async def _followed(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    return await coroutine


def _below(frames: TracebackType | None, code: CodeType) -> TracebackType | None:
    """The frames that this code called: those above are the event loop's."""
    found = frames
    while found is not None:
        if found.tb_frame.f_code is code:
            return found.tb_next
        found = found.tb_next
    return frames


def _nothing() -> None:
    """A process that is forked here is the caller's own business."""
