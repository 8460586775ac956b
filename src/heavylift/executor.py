"""CONTRACT Executor: turns one attempt into one outcome, and can stop it.

An executor never raises for what a task did: every attempt that it took ends in exactly one Outcome. Timeout, cancel
and drain are one path: ask, wait for the grace, kill. The prose here is the case list of
`heavylift.testing.ExecutorContract`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from heavylift.core.job import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from heavylift.core.job import Job
    from heavylift.core.limits import Rate
    from heavylift.core.options import Options, Slots
    from heavylift.core.outcome import Outcome
    from heavylift.core.stack import Stack
    from heavylift.core.tally import Tally


class StopReason(StrEnum):
    """Why an attempt is stopped; decides its outcome: Cancelled, TimedOut, Interrupted, Failed (a limit)."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    DRAIN = "drain"
    MEMORY = "memory"
    CPU = "cpu"
    PROCESSES = "processes"


class Ability(StrEnum):
    """What not every executor can do. The suite leaves out the cases of what one lacks."""

    KILL = "kill"
    """Runs code in processes of its own: ends what does not listen, with all that it started, keeps it within its
    limits, and survives whatever it does to its process.
    """
    PARALLEL = "parallel"
    """Runs more than one attempt at a time."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A value to resume from, as JSON bytes."""

    value: bytes


@dataclass(frozen=True, slots=True)
class LogLines:
    """Lines of the job's log, each {at, level, message}: `size` bytes of it, and `dropped` lines beyond its limit."""

    lines: Sequence[Mapping[str, Any]]
    size: int
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Reserve:
    """The code waits for the next free place in a rate. `answer` is called with the seconds until it is due, once, on
    the executor's loop; the executor lets the code go on then, if it still waits.
    """

    rate: Rate
    answer: Callable[[float], None]


Fact = Progress | Checkpoint | LogLines
"""What becomes part of the job."""
Report = Fact | Reserve


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What the process that imported the application tells of a task to one that did not."""

    name: str
    options: Options


@dataclass(frozen=True, slots=True)
class Application:
    """Where to find the application: a module's name or a file's path, the attribute, and further modules to import.

    `store` is the URL that its jobs submit to; None: the one in its code. `log_json`: what its processes say goes to
    standard error as JSON.
    """

    target: str
    attribute: str
    imports: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    store: str | None = None
    log_json: bool = False


class Executor(Protocol):
    """The contract. One event loop owns it."""

    lacks: frozenset[Ability]
    """What it cannot do."""

    tasks: Mapping[str, TaskInfo]
    """The application's tasks, known after `start`."""

    tally: Tally
    """What it counts of its faults, and its worker of the rest."""

    @property
    def hosts(self) -> Mapping[str, int]:
        """How many processes it has for jobs, by kind and phase; see `store.WorkerRecord`."""

    @property
    def free(self) -> Slots:
        """How many more attempts it would take now, by where they run: free hosts, and as much depth as very short
        tasks allow; coroutines and threads, if the application has tasks of that kind.
        """

    async def start(self) -> None:
        """Be ready to run; raises ConfigError when the application cannot be imported (with its traceback)."""

    def run(self, job: Job, report: Callable[[Job, Report], None], finished: Callable[[Job, Outcome], None]) -> None:
        """Run a claimed job; `finished` is called once with its outcome, and never from within this call.

        `report` is called in order with what the running code reports, and never after the outcome.
        A job of an unknown task, or whose arguments no longer fit, ends Failed without a start and not retryable.
        The timeout of its options counts from its start.
        """

    def stop(self, job: str, attempt: int, reason: StopReason, grace: float, *, force: bool = False) -> None:
        """Ask the attempt to stop, and kill it and all its processes when `grace` seconds are over (`force`: now).

        One that never started ends at once. One that is over, or unknown, is left alone. No other job is touched. An
        answer that came before the kill wins: its outcome is what really happened.
        """

    async def look(self, job: str, attempt: int) -> Stack | None:
        """Where the attempt's code is now, within some seconds; None when it is over, or unknown.

        It is not disturbed: what it waits for goes on, its reports stay whole, and its outcome is what it would have
        been. What does not answer, because native code has its interpreter, is told of nevertheless, and marked
        (`Source.SIGNAL`); so is what has not begun (`Source.NONE`). Neither other attempts nor stops wait for it.
        """

    async def close(self, grace: float) -> None:
        """Stop for good: no new attempts, running ones get `grace` seconds in all to end, then are asked to stop with
        their own grace's share of what remains, then killed: those end Interrupted, without cost. No process of any
        kind is left behind.
        """
