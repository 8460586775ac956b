"""A host: the process in which task code runs, one job at a time on its main thread."""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import io
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from heavylift import context
from heavylift.context import Context
from heavylift.core import codec
from heavylift.core.errors import Cancelled
from heavylift.core.job import Error
from heavylift.core.task import Task
from heavylift.executors import answers, hygiene, processes, providing, sightings, task_logging
from heavylift.executors.answers import Answer
from heavylift.executors.limits import Imposed
from heavylift.executors.providing import Kept, Overrides, Scope
from heavylift.executors.reporting import HostReporter, Wire
from heavylift.executors.sightings import Sightings
from heavylift.executors.stopping import Guard, was_led_to
from heavylift.executors.wire import (
    COULD_NOT_START,
    HIGH_DESCRIPTORS,
    LAST,
    NOT_STARTED,
    USAGE,
    Kind,
    Page,
    Request,
    exit_code_of,
    receive_packet,
    unpack_request,
)

SHORT = 0.001
"""After a run of more seconds than this the host looks closely at what was left changed."""
PATIENCE = 2.0
"""Seconds for the processes that a job left behind to be gone after they were killed."""
CLOSING = 2
"""Seconds that the clean-up of what the host kept may take, in whole ones; then the kernel ends the host."""


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What a host is told when it starts."""

    nice: int
    max_result: int
    max_log: int
    threads: int = 0
    """Jobs that run at once in threads; 0: this host is no shared one."""
    job_log_level: str = "info"
    """From which level on records of `logging` go into the log of their job; "off": none does."""
    temporary: str | None = None
    """The folder for what jobs keep for their own time alone; the worker removes it when the host is gone."""


def main(
    registry: Mapping[str, Task],
    hooks: Sequence[Callable[[], None]],
    descriptors: Sequence[int],
    config: Mapping[str, Any],
    overrides: Overrides | None = None,
) -> NoReturn:
    """Become a host: `descriptors` are requests, stream, page, alive, output and stacks, as the worker made them;
    `overrides` take the place of providers.
    """
    os.setsid()
    processes.set_name("heavylift-host")
    processes.adopt_orphans()
    requests, stream, memory, alive, output, stacks = (_high(descriptor) for descriptor in descriptors)
    processes.die_when_closed(alive)
    _redirect(output)
    settings = HostConfig(**config)
    processes.be_nice(settings.nice)
    _ignore_group_signals()
    page = Page(memory)
    os.close(memory)
    wire = Wire(socket.socket(fileno=stream))
    socket_of_requests = socket.socket(fileno=requests)
    host: Host | SharedHost
    if settings.threads:
        from heavylift.executors.shared import SharedHost  # noqa: PLC0415  most hosts need no event loop

        host = SharedHost(registry, socket_of_requests, wire, page, stacks, settings, overrides)
    else:
        host = Host(registry, socket_of_requests, wire, page, stacks, settings, overrides)
    faulthandler.enable(stacks)
    _reseed()
    try:
        for hook in hooks:
            hook()
    except BaseException as error:  # noqa: BLE001  a hook is user code
        wire.send(0, Kind.BROKEN, answers.traceback_of(error).encode())
        os._exit(COULD_NOT_START)
    host.serve()


class Host:
    """Takes requests, one at a time, runs them, answers."""

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
        self._cpu_of_children = _cpu_of_children()
        self._guard = Guard(page)
        self._reporter = HostReporter(wire, page, self._guard, config.max_log)
        self._kept = Kept(overrides, self._opened)
        self._baseline: hygiene.Baseline | None = None
        self._worn = False
        """A job's limit could not be lifted again."""
        self._hear_logging = task_logging.install(config.job_log_level, self._current)
        own = {Host._call.__code__, *providing.OWN_CODE, *context.OWN_CODE, *self._reporter.unstoppable()}
        looks = Sightings(page, stacks, self._describe)
        self._guard.install(own, self._reporter.protected() | looks.code() | task_logging.protected())
        looks.install(all_threads=False)
        os.register_at_fork(after_in_child=self._forked)

    def serve(self) -> NoReturn:
        """Until the worker closes its end, or a job left the host unfit for another."""
        baseline = self._baseline = hygiene.Baseline()
        self._wire.send(0, Kind.READY, b"")
        while True:
            try:
                received = receive_packet(self._requests)
            except OSError as error:
                os._exit(exit_code_of(error))
            if received is None:
                self._leave()
            self._run(unpack_request(received[0]), baseline)

    def _run(self, request: Request, baseline: hygiene.Baseline) -> None:
        page, number = self._page, request.number
        started_at, cpu_at_start = time.monotonic(), time.process_time()
        # First `started`, then a look at `stop`: a stop that came earlier is seen here, a later one signals us.
        page.start(number, started_at, cpu_at_start)
        (kind, body), flags, ctx = self._attempt(request)
        wall, cpu = time.monotonic() - started_at, time.process_time() - cpu_at_start
        if wall > SHORT:
            cpu += self._cpu_of_new_children()
        fit = baseline.quick_look() and not self._worn
        if not fit:
            processes.kill_children(PATIENCE, spare=baseline.children)
            cpu += self._cpu_of_new_children()
        if ctx is not None:
            ctx.close()  # what is in its folder is not in use any more
        peak = hygiene.peak_resident() if wall > SHORT else 0
        self._wire.send(number, kind, USAGE.pack(wall, cpu, peak) + body, flags if fit else flags | LAST)
        page.clear()
        # The rest keeps nobody waiting. A request that comes meanwhile is not taken before it is done, or goes back.
        if not fit or (wall > SHORT and not baseline.still_fits(peak)):
            self._leave()

    def _cpu_of_new_children(self) -> float:
        """CPU seconds of the children that were reaped since this was asked for last."""
        before, self._cpu_of_children = self._cpu_of_children, _cpu_of_children()
        self._page.cpu_below = self._cpu_of_children
        return self._cpu_of_children - before

    def _leave(self) -> NoReturn:
        """Clean up what the host kept, and go."""
        if self._kept.exits:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
            signal.alarm(CLOSING)
            error = self._kept.close()
            if error is not None:
                with contextlib.suppress(OSError):
                    os.write(2, answers.traceback_of(error).encode())
        os._exit(0)

    def _current(self) -> HostReporter | None:
        """Whose log it is that something goes into now: all threads of this process work for the one job."""
        return self._reporter if self._reporter.active else None

    def _opened(self) -> None:
        """A dependency was opened that the host keeps: what it has started is the host's own."""
        if self._baseline is not None:
            self._baseline.renew()

    def _attempt(self, request: Request) -> tuple[Answer, int, Context | None]:
        """The answer to a request, its flags, and the Context that the code had, to be closed."""
        task = self._registry.get(request.task)
        if task is None:
            return answers.unknown(request.task), 0, None
        try:
            arguments = task.arguments(request.args)
        except BaseException as error:  # noqa: BLE001  a validator is user code
            self._leave_fork()
            return answers.unfit(error), 0, None
        ctx = None
        self._hear_logging()
        self._reporter.begin(request.number, request.log_bytes)
        if task.context_parameter is not None or task.plan.providers:
            ctx = self._context(request)
            if task.context_parameter is not None:
                arguments[task.context_parameter] = ctx
        if request.limits is None:
            result = self._call(task, arguments, request, ctx)
        else:
            result = self._limited(task, arguments, request, ctx, Imposed(request.limits))
        self._reporter.end()
        return *result, ctx

    def _call(
        self,
        task: Task,
        arguments: dict[str, Any],
        request: Request,
        ctx: Context | None,
        imposed: Imposed | None = None,
    ) -> tuple[Answer, int]:
        """Run the task's code. While this frame is the innermost one, the guard raises nothing."""
        guard, page, number = self._guard, self._page, request.number
        if page.stop == number:
            return (Kind.CANCELLED, b""), NOT_STARTED
        try:
            if ctx is not None:
                return self._scoped(task, arguments, number, ctx), 0
            guard.run = number
            value = task.function(**arguments)
            guard.run = 0
        except answers.Refused as refused:
            return refused.answer, 0
        except BaseException as error:  # noqa: BLE001  whatever a task raises is its answer
            guard.run = 0
            self._leave_fork()
            met = None if imposed is None else imposed.met_by(error)
            if page.stop == number and was_led_to(error, Cancelled):
                if not isinstance(error, Cancelled):
                    self._reporter.log("error", f"Raised while it was stopped: {answers.traceback_of(error)}")
                return (Kind.CANCELLED, answers.stack_of(error).encode() if page.tells else b""), 0
            return answers.raised(task, error, request.failures + 1, met), 0
        finally:
            guard.forget()
        self._leave_fork()
        return answers.returned(task, value, self._config.max_result), 0

    def _limited(
        self, task: Task, arguments: dict[str, Any], request: Request, ctx: Context | None, imposed: Imposed
    ) -> tuple[Answer, int]:
        """Like `_call`, within limits."""
        refused = imposed.impose()
        if refused is not None:
            return answers.failed(Error(*refused), retryable=False), 0
        try:
            return self._call(task, arguments, request, ctx, imposed)
        finally:
            imposed.lift()
            self._worn = imposed.worn

    def _scoped(self, task: Task, arguments: dict[str, Any], number: int, ctx: Context) -> Answer:
        """The answer of a task that has a Context, or dependencies, with all that is done at its end."""
        scope = Scope(self._kept, task, ctx, self._guard, number)
        limit = self._config.max_result
        answer: Answer = scope.run(arguments, lambda value: answers.accepted(task, value, limit), self._leave_fork)
        return answer

    def _context(self, request: Request) -> Context:
        return Context(
            self._reporter,
            job_id=request.job,
            task=request.task,
            attempt=request.attempt,
            failures=request.failures,
            checkpoint=request.checkpoint,
            max_checkpoint=self._config.max_result,
            labels=codec.decode(request.labels) if request.labels else None,
            temporary=self._config.temporary,
        )

    def _describe(self, number: int, frame: FrameType | None) -> str:
        """Where a run is, and the threads that it has started; `frame` is the main thread's."""
        if self._page.started != number:
            return ""
        own = sightings.of_frames(frame, lambda one: one.f_code in _BORDERS)
        return own + sightings.other_threads(threading.get_ident())

    def _leave_fork(self) -> None:
        """A fork of the host that comes back from the task's code is no host."""
        if os.getpid() != self._pid:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
            os._exit(0)

    def _forked(self) -> None:
        """In a child that task code forked: it is no host, and TERM ends it as it would any process."""
        self._reporter.abandon()
        self._guard.run = 0
        faulthandler.enable(2)  # its faults are not those of the host
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)


_BORDERS = {Host._call.__code__, *providing.OWN_CODE}  # noqa: SLF001  its own module
"""Our own code that calls the user's."""


def _cpu_of_children() -> float:
    """CPU seconds of the children that are over."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def let_pass(_number: int, _frame: FrameType | None) -> None:
    """A signal handler that does nothing. Not SIG_IGN: the programs that a job starts would inherit that."""


def _ignore_group_signals() -> None:
    # A Ctrl-C or a service manager's TERM reaches the whole group; the worker alone decides what follows.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, let_pass)


def _high(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH_DESCRIPTORS)
    os.close(descriptor)
    return moved


def _redirect(output: int) -> None:
    """Standard input is empty, standard output and error go to the worker."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an application may have replaced it
            stream.reconfigure(line_buffering=True)


def _reseed() -> None:
    # `random` does so by itself after a fork, numpy's global generator does not.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        with contextlib.suppress(Exception):
            numpy_random.seed()
