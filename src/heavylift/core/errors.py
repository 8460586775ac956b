"""Every error that Heavylift raises, as one tree with stable codes.

HeavyliftError
├── ConfigError            a bad URL, setting, option or application
├── SubmitError            refused before anything was queued
│   ├── UnknownTask
│   ├── InvalidArguments   (problems: one pointer per argument)
│   ├── PayloadTooLarge    (size, limit: bytes)
│   ├── QueueFull          (retry_after: seconds)
│   └── DuplicateJob       (existing: job id)
├── JobNotFound
│   └── JobPruned          it existed; its record is past its retention
├── JobFinished            asked to stop a job that is over
├── JobNotFinished         asked to retry a job that is not over, or waited for too long
├── JobChanged             asked to move a job as it was known to be, and it is another by now
├── JobNotWaiting          asked to move a job that has begun or is over
├── JobNotRunning          asked where the code of a job is that does not run
├── NoAnswer               the worker of a running job did not say where its code is
├── StoreError
│   ├── StoreUnavailable
│   ├── SchemaTooNew
│   └── LeaseLost          (heavylift.store) met by workers alone
└── JobError               raised by `Handle.result()`; (job)
    ├── JobFailed
    ├── JobTimedOut
    ├── JobCrashed
    └── JobCancelled

`Cancelled` is no error: it is the BaseException by which running task code is asked to stop.
`RetryLater`, `GiveUp` and `Snooze` are raised by task code to say how the attempt is to be settled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from heavylift.core.job import Job


SHOWN = 200
"""Characters of a wrong value that a message shows."""


class HeavyliftError(Exception):
    """Base of all errors of Heavylift; `code` is stable and used by HTTP and CLI alike."""

    code = "error"


class ConfigError(HeavyliftError):
    """A URL, setting, option or application that cannot be used; the message names the fix."""

    code = "config-error"


class SubmitError(HeavyliftError):
    """A submit that was refused; nothing was queued."""

    code = "submit-error"


class UnknownTask(SubmitError):
    """No task of that name is registered."""

    code = "unknown-task"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        choices = f"known tasks: {', '.join(known)}" if known else "the application has no tasks"
        super().__init__(f"There is no task {name!r}.{did_you_mean(name, known)} ({choices})")
        self.name = name


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one argument: `pointer` is a JSON pointer (RFC 6901) into the arguments."""

    pointer: str
    detail: str


class InvalidArguments(SubmitError):
    """Arguments that do not fit the task's signature; one problem per argument."""

    code = "invalid-arguments"

    def __init__(self, task: str, problems: Sequence[Problem]) -> None:
        lines = "; ".join(f"{problem.pointer or '/'}: {problem.detail}" for problem in problems)
        super().__init__(f"The arguments do not fit task {task!r}: {lines}")
        self.task = task
        self.problems = tuple(problems)


class PayloadTooLarge(SubmitError):
    """Arguments over the limit; `size` and `limit` in bytes."""

    code = "payload-too-large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"The arguments take {size:,} bytes, the limit is {limit:,}."
            " Store the data elsewhere and submit a reference to it, or raise max_payload."
        )
        self.size = size
        self.limit = limit


class QueueFull(SubmitError):
    """The queue holds as many jobs as it may; `retry_after` in whole seconds (1-300)."""

    code = "queue-full"

    def __init__(self, queue: str, limit: int, retry_after: int) -> None:
        super().__init__(
            f"Queue {queue!r} is full: it holds its limit of {limit} waiting jobs. Submit again in {retry_after} s."
        )
        self.queue = queue
        self.limit = limit
        self.retry_after = retry_after


class DuplicateJob(SubmitError):
    """The unique key belongs to another job, and `on_conflict="reject"` was asked for; or (`unique` None) the id that
    was chosen belongs to a job that is `another`: of another task, or with other arguments.
    """

    code = "duplicate-job"

    def __init__(self, unique: str | None, existing: str, another: str = "") -> None:
        if unique is None:
            super().__init__(f"The id {existing!r} belongs to a job {another}; choose another id for this one.")
        else:
            super().__init__(
                f"The unique key {unique!r} belongs to job {existing}: it is not over, or its unique_for is not."
            )
        self.unique = unique
        self.existing = existing


class JobNotFound(HeavyliftError):
    """No job has this id."""

    code = "job-not-found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}.")
        self.job_id = job_id


class JobPruned(JobNotFound):
    """The job existed; its record was removed when its retention was over."""

    code = "job-pruned"

    def __init__(self, job_id: str) -> None:
        HeavyliftError.__init__(self, f"Job {job_id!r} was removed when its retention was over.")
        self.job_id = job_id


class JobFinished(HeavyliftError):
    """The job is over, so it cannot be cancelled."""

    code = "job-finished"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"Job {job_id} is over already: it {_was(state)}.")
        self.job_id = job_id
        self.state = state


class JobNotFinished(HeavyliftError):
    """The job is not over: it cannot be retried, or a wait for its result ran out of time."""

    code = "job-not-finished"

    def __init__(self, job_id: str, state: str, why: str) -> None:
        super().__init__(f"Job {job_id} is {state}: {why}")
        self.job_id = job_id
        self.state = state


class JobNotRunning(HeavyliftError):
    """The job does not run, so its code is nowhere."""

    code = "job-not-running"

    def __init__(self, job_id: str, state: str, due_in: float = 0.0) -> None:
        if state in ("succeeded", "failed", "cancelled"):
            why = f"it is over ({state})."
        else:
            why = f"it is {state}, and due in {due_in:.0f} s." if due_in > 0 else f"it is {state}."
        super().__init__(f"Job {job_id} is not running: {why}")
        self.job_id = job_id
        self.state = state


class JobChanged(HeavyliftError):
    """The job is another than the one that the caller knows; `seq` is the number of its last event now."""

    code = "job-changed"

    def __init__(self, job_id: str, known: int, seq: int) -> None:
        super().__init__(f"Job {job_id} changed: its last event is {seq} by now, not {known}. Look, and try again.")
        self.job_id = job_id
        self.seq = seq


class JobNotWaiting(HeavyliftError):
    """The job has begun or is over, so its place in the line cannot be changed."""

    code = "job-not-waiting"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"Job {job_id} waits no more: it is {state}. Only a waiting job can be moved.")
        self.job_id = job_id
        self.state = state


class NoAnswer(HeavyliftError):
    """The worker that runs the job did not say in time where its code is."""

    code = "no-answer"

    def __init__(self, job_id: str, worker: str | None, timeout: float) -> None:
        super().__init__(
            f"Worker {worker} runs job {job_id}, and did not answer within {timeout:g} s. It may be gone, or away from"
            " the store: look at `heavylift workers`."
        )
        self.job_id = job_id
        self.worker = worker


class StoreError(HeavyliftError):
    """The store could not do what was asked."""

    code = "store-error"


class StoreUnavailable(StoreError):
    """The store cannot be reached or written now; nothing was changed, trying again is safe."""

    code = "store-unavailable"


class SchemaTooNew(StoreError):
    """The store was made by a newer Heavylift."""

    code = "schema-too-new"


class JobError(HeavyliftError):
    """The job did not succeed; `job` is its record."""

    code = "job-error"

    def __init__(self, job: Job) -> None:
        if job.state == "cancelled":
            # An error that it has is of an earlier attempt, and no reason for its end.
            reason = job.cancel.reason if job.cancel else None
        else:
            reason = job.error.message if job.error else None
        super().__init__(f"Job {job.id} ({job.task}) {_was(job.state)}{f': {reason}' if reason else '.'}")
        self.job = job


class JobFailed(JobError):
    """The task raised, gave up, or its result was refused."""

    code = "job-failed"


class JobTimedOut(JobError):
    """The job ran longer than its timeout, each time it was tried."""

    code = "job-timed-out"


class JobCrashed(JobError):
    """The process that ran the job died, each time it was tried."""

    code = "job-crashed"


class JobCancelled(JobError):
    """The job was cancelled."""

    code = "job-cancelled"


class Cancelled(BaseException):
    """Raised inside running task code that is to stop; let it pass after cleaning up."""


class RetryLater(Exception):
    """Raised by task code: try again after `delay` (seconds, "10m", timedelta); counts as a failure."""

    def __init__(self, delay: object = None, reason: str = "the task asked to be retried") -> None:
        super().__init__(reason)
        self.delay = delay


class CommandFailed(Exception):
    """A command's program ended badly: `exit_code`, or the `signal` that killed it."""

    def __init__(self, message: str, exit_code: int | None = None, signal: str | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.signal = signal


class GiveUp(Exception):
    """Raised by task code: fail now, do not retry."""

    def __init__(self, reason: str = "the task gave up") -> None:
        super().__init__(reason)


class Snooze(Exception):
    """Raised by task code: run again after `delay` (seconds, "10m", timedelta), at no cost."""

    def __init__(self, delay: object) -> None:
        super().__init__(f"snoozed for {delay}")
        self.delay = delay


def shown(value: object) -> str:
    """A value for a message: its repr, cut short, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  the value is the user's, and so may be its repr; integers of 5000 digits have none
        return f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def pointer(*parts: str) -> str:
    """The JSON pointer (RFC 6901) of a value that is reached by these names."""
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean …?' for the nearest of `known`, or an empty string."""
    import difflib  # noqa: PLC0415  only a mistake needs it

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def _was(state: str) -> str:
    return f"was {state}" if state == "cancelled" else state
