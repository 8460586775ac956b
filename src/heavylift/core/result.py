"""What is told of a job that is over: its result, its error, and what a cancel did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heavylift.core import checkpoint as checkpoints
from heavylift.core import codec
from heavylift.core.errors import JobCancelled, JobCrashed, JobError, JobFailed, JobTimedOut
from heavylift.core.job import State

if TYPE_CHECKING:
    from heavylift.core.job import Job, Stopped
    from heavylift.core.task import Task


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a cancel did. `state` and `stopped` say how the job ended (`final` False: it has not, yet), `after_ms`
    milliseconds from the request to its end, `checkpoint` whether there is one to resume from.
    """

    job_id: str
    state: State
    final: bool
    stopped: Stopped | None
    after_ms: float | None
    checkpoint: bool
    reason: str | None = None

    @classmethod
    def of(cls, job: Job) -> Receipt:
        """The receipt of a job whose cancel was requested."""
        after = None
        if job.finished_at is not None and job.cancel is not None:
            after = max(0.0, (job.finished_at - job.cancel.at) * 1000)
        reason = job.cancel.reason if job.cancel else None
        kept = job.checkpoint is not None
        return cls(job.id, job.state, job.state.final, job.stopped, after, kept, reason)


def result_of(job: Job, task: Task | None) -> Any:
    """The result of a job that is over, as the task's own type; raises the JobError that fits its end."""
    if job.state is State.SUCCEEDED:
        data = job.result if job.result is not None else b"null"
        return task.decode_result(data) if task is not None else codec.decode(data)
    raise job_error(job)


def checkpoint_of(job: Job, default: Any = None) -> Any:
    """The value that a job's code saved last, as it would get it by `ctx.resume(default)`."""
    value = checkpoints.read(job.checkpoint).value
    return default if value is None else codec.decode(value)


def job_error(job: Job) -> JobError:
    """The error that says how a job ended that did not succeed."""
    if job.state is State.CANCELLED:
        return JobCancelled(job)
    code = job.error.code if job.error else ""
    return {"timed-out": JobTimedOut, "crashed": JobCrashed, "lost": JobCrashed}.get(code, JobFailed)(job)
