"""A shared host: a process in which many jobs run at once, coroutines on its loop and functions in its threads."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import itertools
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from heavylift.context import Context
from heavylift.core import codec
from heavylift.core.errors import Cancelled
from heavylift.executors import answers, sightings, task_logging
from heavylift.executors.providing import Overrides, Scope
from heavylift.executors.providing_async import AsyncKept, AsyncScope, unbroken
from heavylift.executors.shared_reporting import Sender, SharedReporter, current
from heavylift.executors.shared_runs import LoopRun, ThreadRun, is_own_code
from heavylift.executors.sightings import Sightings
from heavylift.executors.stopping import was_led_to
from heavylift.executors.wire import (
    HEADER,
    NOT_STARTED,
    STOP_PACKET,
    USAGE,
    Kind,
    Page,
    Request,
    exit_code_of,
    number_of,
    receive_packet,
    unpack_request,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Mapping
    from types import FrameType

    from heavylift.core.task import Task
    from heavylift.executors.answers import Answer
    from heavylift.executors.host import HostConfig
    from heavylift.executors.reporting import Wire

BEAT = 0.5
"""Seconds between two signs of life of a loop that has something to run."""
CLOSING = 2
"""Seconds for the clean-up of what the host kept."""
AT_ONCE = 64
"""Requests that are begun before the loop looks after what runs."""

_current: ContextVar[LoopRun | None] = ContextVar("heavylift_run", default=None)


class Steps:
    """Awaits a job's coroutine, and measures its steps; the page says whose step runs."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], run: LoopRun, page: Page, pid: int) -> None:
        self._coroutine, self._run, self._page, self._pid = coroutine, run, page, pid

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, run, page, pid = self._coroutine, self._run, self._page, self._pid
        value: Any = None
        error: BaseException | None = None
        while True:
            page.stepping = run.number
            began = time.thread_time()
            try:
                waits_for = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                run.cpu += time.thread_time() - began
                page.stepping = 0
                if os.getpid() != pid:
                    os._exit(0)  # a fork that comes back from the task's code is no host
            value, error = None, None
            try:
                value = yield waits_for
            except BaseException as thrown:  # noqa: BLE001  whatever is thrown in here is meant for the task's code
                error = thrown


class SharedHost:
    """Takes requests as they come, runs them side by side, answers each when it is over."""

    def __init__(
        self,
        registry: Mapping[str, Task],
        requests: socket.socket,
        wire: Wire,
        page: Page,
        stacks: int,
        config: HostConfig,
        overrides: Overrides | None = None,
    ) -> None:
        self._registry, self._requests, self._wire, self._page, self._config = registry, requests, wire, page, config
        self._pid = os.getpid()
        self._running: dict[int, LoopRun | ThreadRun] = {}
        self._kept = AsyncKept(overrides)
        self._sender = Sender(wire)
        self._places, self._thread = itertools.count(), threading.local()
        self._threads = ThreadPoolExecutor(config.threads, "heavylift job", self._thread_begins)
        self._answers: list[bytes] = []
        self._leaving = self._beating = False
        self._over = asyncio.Event()
        sys.unraisablehook = self._on_unraisable
        self._hear_logging = task_logging.install(config.job_log_level, _reporter)
        signal.set_wakeup_fd(-1)
        Sightings(page, stacks, self._describe).install(all_threads=True)
        os.register_at_fork(after_in_child=self._forked)

    def serve(self) -> NoReturn:
        """Until the worker closes its end and everything is answered."""
        asyncio.run(self._serve())
        os._exit(0)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(_track)
        self._sender.start()
        self._requests.setblocking(False)  # noqa: FBT003  the method's only form
        loop.add_reader(self._requests, self._hear)
        self._wire.send(0, Kind.READY, b"")
        await self._over.wait()
        self._send_answers()
        if self._kept.exits:
            signal.alarm(CLOSING)
            error = await self._kept.aclose()
            if error is not None:
                with contextlib.suppress(OSError):
                    os.write(2, answers.traceback_of(error).encode())
        os._exit(0)  # what a job left running in a thread would hold up any other exit

    def _hear(self) -> None:
        """Take what the worker has sent."""
        for _ in range(AT_ONCE):
            try:
                received = receive_packet(self._requests)
            except BlockingIOError:
                return
            except OSError as error:
                os._exit(exit_code_of(error))
            if received is None:
                asyncio.get_running_loop().remove_reader(self._requests)
                self._leaving = True
                self._leave_if_done()
                return
            packet = received[0]
            if packet[0] == STOP_PACKET:
                run = self._running.get(number_of(packet))
                if run is not None:
                    run.stop()
            else:
                self._page.received += 1
                self._begin(unpack_request(packet))

    def _begin(self, request: Request) -> None:
        task = self._registry.get(request.task)
        if task is None:
            self._say(request.number, answers.unknown(request.task), USAGE.pack(0, 0, 0))
            return
        run: LoopRun | ThreadRun = (LoopRun if task.is_coroutine else ThreadRun)(request, task)
        try:
            arguments = task.arguments(request.args)
        except BaseException as error:  # noqa: BLE001  a validator is user code
            self._say(request.number, answers.unfit(error), run.usage())
            return
        ctx = self._context(run)
        self._hear_logging()
        if task.context_parameter is not None:
            arguments[task.context_parameter] = ctx
        self._running[run.number] = run
        if not self._beating:
            self._beating = True
            self._beat(run.loop)
        if isinstance(run, LoopRun):
            own = run.own = run.loop.create_task(self._run_coroutine(run, arguments, ctx))
            own.add_done_callback(partial(self._cancelled_unstarted, run))
        else:
            try:
                done = self._threads.submit(self._run_in_thread, run, arguments, ctx)
            except RuntimeError as error:  # no more threads may be started
                run.asked = True  # it may be queued all the same, and must not begin any more
                self._finish(run, answers.raised(task, error, request.failures + 1))
                return
            done.add_done_callback(partial(self._cut_short, run))

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop comes round: whoever watches us sees that nothing blocks it."""
        self._page.beat_at = time.monotonic()
        if self._running:
            loop.call_later(BEAT, self._beat, loop)
        else:
            self._beating = False

    # --- running -----------------------------------------------------------------------------------------------

    async def _run_coroutine(self, run: LoopRun, arguments: dict[str, Any], ctx: Context) -> None:
        _current.set(run)
        current.set(run.reporter)
        run.begun = True
        task, limit = run.task, self._config.max_result
        scope = AsyncScope(self._kept, task, ctx, run, run.number)
        try:
            attempt = run.coroutine = scope.run(arguments, lambda value: answers.accepted(task, value, limit))
            answer: Answer = await Steps(attempt, run, self._page, self._pid)
        except BaseException as error:  # noqa: BLE001  whatever a task raises is its answer
            answer = self._answer_of(run, error)
        _current.set(None)
        current.set(None)
        for other in list(run.others):
            other.cancel()
        try:
            if ctx.has_folder:
                await unbroken(asyncio.to_thread(ctx.close))  # a large folder takes its time
        finally:
            self._finish(run, answer)

    def _cancelled_unstarted(self, run: LoopRun, own: asyncio.Task[None]) -> None:
        """A task of the loop that is cancelled before its first step runs none of its code."""
        if own.cancelled() and run.asked:
            self._finish(run, (Kind.CANCELLED, b""), NOT_STARTED)
        elif own.cancelled():  # by another job's code
            self._finish(run, self._answer_of(run, asyncio.CancelledError()))

    def _run_in_thread(self, run: ThreadRun, arguments: dict[str, Any], ctx: Context) -> None:
        if run.asked:
            run.loop.call_soon_threadsafe(self._finish, run, (Kind.CANCELLED, b""), NOT_STARTED)
            return
        task, limit = run.task, self._config.max_result
        self._page.note_thread(self._thread.place, run.number, threading.get_ident())
        began = time.thread_time()
        current.set(run.reporter)
        try:
            scope = Scope(self._kept, task, ctx, run, run.number)
            answer: Answer = scope.run(arguments, lambda value: answers.accepted(task, value, limit), self._leave_fork)
        except BaseException as error:  # noqa: BLE001  whatever a task raises is its answer
            answer = self._answer_of(run, error)
        current.set(None)
        ctx.close()
        run.cpu = time.thread_time() - began
        run.loop.call_soon_threadsafe(self._finish, run, answer)

    def _thread_begins(self) -> None:
        """The thread that runs this is one for jobs, from now on."""
        self._thread.place = next(self._places)

    def _leave_fork(self) -> None:
        """A fork of the host that comes back from the task's code is no host."""
        if os.getpid() != self._pid:
            os._exit(0)

    def _cut_short(self, run: ThreadRun, done: Future[None]) -> None:
        """Our own code failed: the run must not be without an answer."""
        error = done.exception()
        if error is not None:
            run.loop.call_soon_threadsafe(self._finish, run, self._answer_of(run, error))

    def _answer_of(self, run: LoopRun | ThreadRun, error: BaseException) -> Answer:
        if isinstance(error, answers.Refused):
            return error.answer
        if run.asked and (was_led_to(error, Cancelled) or was_led_to(error, asyncio.CancelledError)):
            if run.reporter is not None and not isinstance(error, Cancelled | asyncio.CancelledError):
                run.reporter.log("error", f"Raised while it was stopped: {answers.traceback_of(error)}")
            return Kind.CANCELLED, b""
        return answers.raised(run.task, error, run.request.failures + 1)

    def _finish(self, run: LoopRun | ThreadRun, answer: Answer, flags: int = 0) -> None:
        """Answer, and end what its code left on the loop."""
        if self._running.pop(run.number, None) is None:
            return
        if run.reporter is not None:
            run.reporter.end()
        self._say(run.number, answer, run.usage(), flags)
        self._leave_if_done()

    def _context(self, run: LoopRun | ThreadRun) -> Context:
        request = run.request
        left = self._config.max_log - request.log_bytes
        run.reporter = SharedReporter(self._sender, run, left)
        return Context(
            run.reporter,
            job_id=request.job,
            task=request.task,
            attempt=request.attempt,
            failures=request.failures,
            checkpoint=request.checkpoint,
            max_checkpoint=self._config.max_result,
            labels=codec.decode(request.labels) if request.labels else None,
            temporary=self._config.temporary,
        )

    # --- where they are --------------------------------------------------------------------------------------------

    def _describe(self, number: int, frame: FrameType | None) -> str:
        """Where a run is; `frame` is the loop's."""
        run = self._running.get(number)
        if isinstance(run, ThreadRun):
            innermost = sys._current_frames().get(self._page.thread_of(number) or 0)  # noqa: SLF001
            return sightings.of_frames(innermost, lambda one: one.f_code is _IN_THREAD)
        if run is None or run.own is None:
            return ""
        return self._of_task(run, run.own, run.coroutine, frame) + sightings.some(
            [
                f"\nTask {task.get_name()}:\n{self._of_task(run, task, task.get_coro(), frame)}"
                for task in run.others
                if not task.done()
            ]
        )

    @staticmethod
    def _of_task(run: LoopRun, task: asyncio.Task[Any], coroutine: Any, frame: FrameType | None) -> str:
        """Where a task of the loop is: on its way, or awaiting something, also while a step begins or ends."""
        if task is asyncio.current_task(run.loop) and getattr(coroutine, "cr_running", True):
            return sightings.of_frames(frame, lambda one: one.f_code is _OF_LOOP)
        return sightings.of_awaits(coroutine)

    # --- answers -----------------------------------------------------------------------------------------------

    def _say(self, number: int, answer: Answer, usage: bytes, flags: int = 0) -> None:
        """Answer with all that are over in this round of the loop: to wake the worker costs more than to run a job."""
        kind, body = answer
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._send_answers)
        self._answers.append(HEADER.pack(len(usage) + len(body), kind, flags, number) + usage + body)

    def _send_answers(self) -> None:
        answers, self._answers = self._answers, []
        if answers:
            self._wire.send_all(b"".join(answers))

    def _leave_if_done(self) -> None:
        if self._leaving and not self._running:
            self._over.set()

    # --- what Python would hide from us --------------------------------------------------------------------------

    def _on_unraisable(self, unraisable: Any) -> None:
        """A Cancelled that was raised in a `__del__` is lost: raise it again, in the code that dropped the object."""
        frame = sys._getframe(1)  # noqa: SLF001
        if unraisable.exc_type is Cancelled and not is_own_code(frame):
            for run in list(self._running.values()):
                if isinstance(run, ThreadRun) and run.lost(frame):
                    return
        sys.__unraisablehook__(unraisable)

    def _forked(self) -> None:
        """In a child that task code forked: it is no host, and TERM ends it as it would any process."""
        for run in self._running.values():
            if run.reporter is not None:
                run.reporter.abandon()
        faulthandler.enable(2)
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)


_IN_THREAD = SharedHost._run_in_thread.__code__  # noqa: SLF001  its own module
_OF_LOOP = asyncio.Handle._run.__code__  # noqa: SLF001  what calls each step of a task


def _reporter() -> SharedReporter | None:
    """Whose log it is that something goes into which is said here."""
    reporter = current.get()
    return reporter if reporter is not None and reporter.active else None


def _track(loop: asyncio.AbstractEventLoop, coroutine: Any, context: Any = None) -> asyncio.Task[Any]:
    """The loop's task factory: a task belongs to the job whose code made it."""
    task = asyncio.Task(coroutine, loop=loop, context=context)
    run = _current.get()
    if run is not None:
        run.others.add(task)
        task.add_done_callback(run.others.discard)
    return task
