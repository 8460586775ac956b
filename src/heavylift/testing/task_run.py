"""A task run here and now, with everything around it as in production but the store and the processes."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from heavylift.core import checkpoint as checkpoints
from heavylift.core import codec, lifecycle
from heavylift.core.errors import ConfigError
from heavylift.core.job import Error, Job, Progress, new_id
from heavylift.core.outcome import Crashed, Failed, Outcome, Succeeded, TimedOut
from heavylift.executor import Checkpoint, LogLines, Report, Reserve
from heavylift.executors.pace import Pace
from heavylift.executors.performing import LoopSurroundings, Performance, Surroundings, performed
from heavylift.executors.verdicts import Run
from heavylift.settings import Settings
from heavylift.submission import ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from heavylift.bound_task import BoundTask
    from heavylift.core.task import Task
    from heavylift.executors.providing import Overrides

R = TypeVar("R")

SETTINGS = Settings()
"""The defaults: what arguments, results and logs may take."""


class LogLine(NamedTuple):
    """A line of a job's log."""

    level: str
    message: str


@dataclass(frozen=True, slots=True)
class TaskRun(Generic[R]):
    """What became of a run. `outcome` is what a host would have answered; `exception` what the code raised."""

    outcome: Outcome
    progress: Sequence[Progress]
    logs: Sequence[LogLine]
    checkpoints: Sequence[Any]
    exception: BaseException | None
    task: Task = field(repr=False)

    @property
    def error(self) -> Error | None:
        """Why it did not succeed, as it would be stored; None when it did, or was snoozed."""
        return self.outcome.error if isinstance(self.outcome, Failed | TimedOut | Crashed) else None

    @property
    def result(self) -> R:
        """What it returned, written as JSON and read again. Raises AssertionError, with the exception of the task as
        its cause, when it did not succeed.
        """
        if not isinstance(self.outcome, Succeeded):
            message = f"Task {self.task.name!r} has no result: it ended {self.outcome}"
            raise AssertionError(message) from self.exception  # noqa: TRY004  a test reads it
        result: R = self.task.decode_result(self.outcome.result)
        return result


def run_task(
    task: BoundTask[..., ..., Any, R],
    /,
    *args: Any,
    overrides: Overrides | None = None,
    checkpoint: Any = None,
    attempt: int = 1,
    **kwargs: Any,
) -> TaskRun[R]:
    """Run a task in this thread, without a store and without a process.

    The arguments are checked and pass through JSON as those of `submit`, and so does the result. `overrides` puts other
    functions in the place of providers: `{open_session: fake_session}`; dependencies of every scope are opened for this
    run and closed after it. `checkpoint` is what an earlier attempt saved, `attempt` the number of this start. A task's
    own arguments of these names are given by position.

    Raises InvalidArguments and PayloadTooLarge as `submit` does; what the task raises is in the answer.
    """
    if task.task.is_coroutine and _loop_runs():
        message = f"Task {task.name!r} is async, and a loop runs here: await run_task_async({task.name}, …) instead."
        raise ConfigError(message)
    heard = _Heard(_claimed(task, args, kwargs, checkpoint, attempt))
    around = Surroundings(overrides)
    try:
        performance = heard.performance(around)
        outcome = performed(performance.outcome(task.task))
    finally:
        around.close()
    return heard.task_run(task.task, performance, outcome)


async def run_task_async(
    task: BoundTask[..., ..., Any, R],
    /,
    *args: Any,
    overrides: Overrides | None = None,
    checkpoint: Any = None,
    attempt: int = 1,
    **kwargs: Any,
) -> TaskRun[R]:
    """Like `run_task`, from code with an event loop: the coroutine of an `async def` task runs on this very loop.

    A task that is a plain function blocks the loop meanwhile.
    """
    heard = _Heard(_claimed(task, args, kwargs, checkpoint, attempt))
    around = LoopSurroundings(overrides)
    try:
        performance = heard.performance(around)
        outcome = await performance.outcome(task.task)
    finally:
        await around.aclose()
    here = asyncio.current_task()
    if isinstance(performance.raised, asyncio.CancelledError) and here is not None and here.cancelling():
        raise performance.raised  # it is the caller that was cancelled
    return heard.task_run(task.task, performance, outcome)


class _Heard:
    """What a run reports."""

    def __init__(self, job: Job) -> None:
        self._run = Run(1, job, _ignore, _ignore, time.monotonic(), Pace())
        self._reports: list[Report] = []

    def performance(self, around: Surroundings) -> Performance:
        """The run, to be performed."""
        return Performance(self._run, self._hear, SETTINGS, around)

    def _hear(self, report: Report) -> None:
        if isinstance(report, Reserve):
            report.answer(0.0)  # nobody else is there who would take a place
        else:
            self._reports.append(report)

    def task_run(self, task: Task, performance: Performance, outcome: Outcome) -> TaskRun[Any]:
        """The run, performed. Raises what was meant for more than the job, such as a Ctrl-C."""
        if performance.escaped is not None:
            raise performance.escaped
        lines = [line for report in self._reports if isinstance(report, LogLines) for line in report.lines]
        return TaskRun(
            outcome,
            tuple(report for report in self._reports if isinstance(report, Progress)),
            tuple(LogLine(line["level"], line["message"]) for line in lines),
            tuple(_checkpoints(report.value for report in self._reports if isinstance(report, Checkpoint))),
            performance.raised,
            task,
        )


def _claimed(
    bound: BoundTask[..., ..., Any, Any], args: Sequence[Any], kwargs: dict[str, Any], checkpoint: Any, attempt: int
) -> Job:
    """The job as a worker has it when it runs for the `attempt`th time, having failed before."""
    if attempt < 1:
        message = f"attempt: {attempt!r} is no number of a start; give an integer ≥ 1."
        raise ConfigError(message)
    now = time.time()
    name, data, options = bound.request(bound.task.bind(args, kwargs, SETTINGS.max_payload))
    job, _ = lifecycle.submit(new_id(now, os.urandom(ID_BYTES)), name, data, options, now)
    running = lifecycle.claim(job, "run_task", 1, now).apply(job)
    saved = None if checkpoint is None else codec.encode(checkpoint)
    return replace(running, attempt=attempt, failures=attempt - 1, checkpoint=saved)


def _checkpoints(saved: Iterable[bytes]) -> Iterator[Any]:
    """The values that the code saved, without what its steps add to them."""
    steps = 0
    for data in saved:
        read = checkpoints.read(data)
        if len(read.steps) == steps and read.value is not None:
            yield codec.decode(read.value)
        steps = len(read.steps)


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _ignore(*_: object) -> None:
    """Nobody else is interested."""
