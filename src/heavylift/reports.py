"""What a worker keeps of each job that it runs, and what running code reports, as changes of its job."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from heavylift.core import event, lifecycle
from heavylift.core.estimate import Pace
from heavylift.core.job import Change, Job, NewEvent, Progress, State
from heavylift.executor import Checkpoint, LogLines

if TYPE_CHECKING:
    from heavylift.core.outcome import Outcome
    from heavylift.executor import Fact


@dataclass(slots=True)
class Running:
    """A claimed job whose outcome is not written yet."""

    job: Job
    heard_at: float
    """When it last reported something, or was claimed, on the monotonic clock."""
    stalled: bool = False
    """It has reported nothing for long, and that was said."""
    pace: Pace | None = None
    """How fast it comes forward, once it has said how far it is."""

    def heard(self, report: Fact, monotonic: float, now: float) -> Change:
        """It reported something: the change to be written."""
        self.heard_at = monotonic
        if self.pace is None and not isinstance(report, LogLines):
            # One that goes on from a checkpoint did not begin at nothing.
            self.pace = Pace(self.job.started_at if self.job.checkpoint is None else None)
        if self.pace is not None and isinstance(report, Progress) and report.percent is not None:
            report = replace(report, rate=self.pace.heard(report.percent, report.at))
        self.job, change = reported(self.job, report, now)
        return change


class Settled(NamedTuple):
    """A change on its way to the store, and what it was made of; a report has no outcome."""

    change: Change
    job: Job
    outcome: Outcome | None


def reported(job: Job, report: Fact, now: float) -> tuple[Job, Change]:
    """What running code reported: the job as its worker has to know it from now on, and the change to be written."""
    fields: dict[str, Any]
    match report:
        case Progress():
            fields = {"progress": report}
            fact = NewEvent(event.PROGRESS, _progress_data(report))
        case Checkpoint(value):
            fields = lifecycle.checkpoint(job, value)
            job = replace(job, **fields)
            fact = NewEvent(event.CHECKPOINT, {"attempt": job.attempt, "size": len(value)})
        case LogLines(lines, size, dropped):
            job = replace(job, log_bytes=job.log_bytes + size)
            fields = {"log_bytes": job.log_bytes}
            fact = NewEvent(event.LOG, {"lines": list(lines)} | ({"dropped": dropped} if dropped else {}))
        case _:
            assert_never(report)
    change = Change(job.id, State.RUNNING, job.attempt, fields, (fact,), now, queue=job.queue)
    return job, change


def _progress_data(progress: Progress) -> dict[str, Any]:
    names = ("done", "total", "percent", "message", "phase", "unit", "rate")
    data = {name: getattr(progress, name) for name in names}
    return {name: value for name, value in data.items() if value is not None}
