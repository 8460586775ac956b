"""In the worker: the outcome that an answer, a stop or a death makes of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from heavylift.core import codec
from heavylift.core.job import Error
from heavylift.core.outcome import (
    DRAIN,
    Cancelled,
    Crashed,
    Failed,
    Interrupted,
    Outcome,
    Snoozed,
    Succeeded,
    TimedOut,
    Usage,
)
from heavylift.executor import Report, StopReason
from heavylift.executors.pace import Pace
from heavylift.executors.processes import exit_meaning
from heavylift.executors.wire import CLOSED_BY_TASK, NOT_STARTED, OUT_OF_DESCRIPTORS, USAGE, Kind

if TYPE_CHECKING:
    from asyncio import TimerHandle
    from collections.abc import Callable

    from heavylift.core.job import Job
    from heavylift.executors.host_link import HostLink
    from heavylift.executors.meter import Excess

# Looked up once: this is done for every run.
_usage, _USAGE_SIZE, _SUCCEEDED = USAGE.unpack_from, USAGE.size, int(Kind.SUCCEEDED)


@dataclass(slots=True)
class Stop:
    """A run was asked to stop. `deadline` on the loop's clock."""

    reason: StopReason
    deadline: float
    asked_at: float
    told_by: float | None = None
    """The host was asked where it is, and has until then to say so before it is killed."""
    told: int = 0
    """How much it had said when we last looked."""

    @property
    def meaning(self) -> str:
        """Why its host is killed now."""
        limits = {"cancel": "a cancel", "timeout": "its timeout", "drain": "the worker's stop"}
        of = limits.get(self.reason, f"its {self.reason} limit")
        return f"a job did not end after {of}"


@dataclass(slots=True, eq=False)
class Run:
    """One attempt on its way through the pool. `number` is never used again; `may_share`: others may be in its host."""

    number: int
    job: Job
    report: Callable[[Job, Report], None]
    finished: Callable[[Job, Outcome], None]
    accepted_at: float
    pace: Pace
    may_share: bool = True
    host: HostLink | None = None
    stop: Stop | None = None
    killed: bool = False
    excess: Excess | None = None
    """The limit for which it was stopped."""
    deaths: int = 0
    """Hosts that died when they had taken it and not begun it."""
    timer: TimerHandle | None = None
    """The timeout, or the next stop signal."""


def of_answer(run: Run, kind: int, flags: int, body: bytes) -> Outcome:
    """The outcome of an answer: `body` begins with a USAGE."""
    wall, cpu, peak = _usage(body)
    usage = Usage(wall, cpu, peak or None)
    rest = body[_USAGE_SIZE:]
    if kind == _SUCCEEDED:
        return Succeeded(rest, usage)
    if kind == Kind.CANCELLED:
        return stopped(run, started=not flags & NOT_STARTED, usage=usage, stack=rest.decode() or None)
    data = codec.decode(rest)
    if kind == Kind.SNOOZED:
        return Snoozed(data, usage)
    return Failed(Error(**data["error"]), data["retryable"], data["delay"], usage)


def stopped(run: Run, *, started: bool, usage: Usage | None = None, stack: str | None = None) -> Outcome:
    """The outcome of a run that ended because it was asked to stop, or was killed when its grace was over; `stack`
    says where it was then.
    """
    usage = usage or Usage()
    reason = StopReason.CANCEL if run.stop is None else run.stop.reason
    match reason:
        case StopReason.CANCEL:
            return Cancelled(started, run.killed, usage)
        case StopReason.DRAIN:
            return Interrupted(DRAIN, usage=usage)
        case StopReason.TIMEOUT:
            timeout = run.job.options.timeout
            limit = "its limit" if timeout is None else f"its timeout of {timeout:g} s"
            error = Error("timed-out", f"The attempt ran longer than {limit}.", traceback=stack)
            return TimedOut(error, run.killed, usage)
        case StopReason.MEMORY | StopReason.CPU | StopReason.PROCESSES:
            return Failed(_beyond(run.excess, reason, stack), usage=_with(usage, run.excess))
    assert_never(reason)


_CODES = {StopReason.MEMORY: "memory-limit", StopReason.CPU: "cpu-limit", StopReason.PROCESSES: "process-limit"}


def _with(usage: Usage, excess: Excess | None) -> Usage:
    """What it took includes what was seen of the processes that it had started, and that were killed."""
    if excess is not None and excess.reason is StopReason.MEMORY:
        return usage._replace(peak_rss=max(usage.peak_rss or 0, int(excess.used)))
    if excess is not None and excess.reason is StopReason.CPU:
        return usage._replace(cpu=max(usage.cpu, excess.used))
    return usage


def _beyond(excess: Excess | None, reason: StopReason, stack: str | None) -> Error:
    """The error of a run that took more than it may."""
    if excess is None:
        return Error(_CODES[reason], "The attempt took more than its limit.", traceback=stack)
    used, limit = excess.used, excess.limit
    match reason:
        case StopReason.MEMORY:
            text = f"took {used:,.0f} bytes of memory; its limit is {limit:,.0f} (memory)"
        case StopReason.CPU:
            text = f"took {used:.2f} CPU seconds; its limit is {limit:g} (cpu_time)"
        case _:
            text = f"had {used:,.0f} processes at a time; the limit is {limit:,.0f} (processes)"
    return Error(_CODES[reason], f"The attempt, with all that it had started, {text}.", traceback=stack)


def crashed(status: int | None, output: str, usage: Usage, stack: str | None) -> Crashed:
    """The outcome of a run whose host died under it; `output` is the end of what the host wrote, `stack` says where
    the interpreter was.
    """
    code, signal = (None, None) if status is None else exit_meaning(status)
    if code == CLOSED_BY_TASK:
        message = "The task closed descriptors that it had not opened, those of its host among them."
    elif code == OUT_OF_DESCRIPTORS:
        message = "The task used up all descriptors of its host, which could not receive its next job."
    elif signal is not None:
        message = f"The host was killed by {signal}."
        if signal == "SIGKILL":
            message += " Nobody here did that: the kernel does so when memory runs out."
        elif signal == "SIGSEGV":
            message += " Native code used memory that is not its own, or calls went so deep that the stack was used up."
        elif signal == "SIGABRT":
            message += " Native code, or the interpreter, found a fault of its own and gave up."
    elif code is not None:
        message = f"The host exited with code {code} in the middle of the task."
    else:
        message = "The host died."
    error = Error("crashed", message, traceback=stack, exit_code=code, signal=signal, stderr=output or None)
    return Crashed(error, usage)
