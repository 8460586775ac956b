"""What a worker says and counts of the jobs that it runs: how attempts end, what faults there are, who is silent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from heavylift.core.job import State
from heavylift.core.lifecycle import OUTCOME_NAMES
from heavylift.core.log import about
from heavylift.core.logline import FIELDS, JOBS, apart
from heavylift.core.outcome import (
    DRAIN,
    NEIGHBOUR_STOPPED,
    NOT_ALONE,
    NOT_STARTED,
    Cancelled,
    Crashed,
    Failed,
    Interrupted,
    Snoozed,
    Succeeded,
    TimedOut,
)
from heavylift.core.tally import Fault, Tally, fault_of
from heavylift.executor import LogLines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from heavylift.core.errors import StoreUnavailable
    from heavylift.core.job import Change, Job
    from heavylift.core.outcome import Outcome
    from heavylift.reports import Running
    from heavylift.store import Store

log = logging.getLogger("heavylift.worker")
jobs = logging.getLogger(JOBS)
"""Repeats the lines of the jobs' own logs; each keeps the name of the logger that it came from."""

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
WARN_OF = (NEIGHBOUR_STOPPED, NOT_ALONE)
SAID = {
    DRAIN: "was interrupted, as its worker stops",
    NOT_STARTED: "was handed back, as no host was free in time",
    NEIGHBOUR_STOPPED: "was interrupted, as another job in its host had to be killed",
    NOT_ALONE: "was in a shared host that died, and runs alone from now on",
}
"""What the reason of an Interrupted means."""


class Journal:
    """One worker's. `repeats`: the lines of the jobs' logs are log lines of the worker, too."""

    def __init__(self, tally: Tally, *, repeats: bool) -> None:
        self.tally = tally
        self._repeats = repeats
        self._knows = False
        """Which names the store has counts of."""
        self.tells_all = log.isEnabledFor(logging.DEBUG)
        """Whether `began` has something to say."""

    def began(self, job: Job) -> None:
        """An attempt was claimed."""
        log.debug("job %s (%s), attempt %d, begins", job.id, job.task, job.attempt, extra=about(job))

    def ended(self, job: Job, outcome: Outcome, change: Change) -> None:
        """An attempt is over; `change` is what becomes of its job."""
        waited = 0.0 if job.started_at is None else job.started_at - job.run_at
        self.tally.attempt(job.task, job.options.queue, OUTCOME_NAMES[type(outcome)], waited, outcome.usage.wall)
        if type(outcome) is Succeeded and not self.tells_all:
            return
        fault = fault_of(outcome)
        if fault is not None:
            self.tally.fault(fault)
        level, said = _said(outcome)
        if level < logging.WARNING and not log.isEnabledFor(level):
            return
        fields = about(job) | {"outcome": OUTCOME_NAMES[type(outcome)], "seconds": round(outcome.usage.wall, 6)}
        if fault is not None:
            fields["fault"] = fault.value
        text = "job %s (%s), attempt %d, %s; %s"
        log.log(level, text, job.id, job.task, job.attempt, said, _then(change), extra=fields)

    def lost(self, job: Job, change: Change) -> None:
        """A job of a dead worker was settled."""
        self.tally.fault(Fault.LOSS)
        text = "job %s (%s), attempt %d, is lost: worker %s vanished; %s"
        fields = about(job) | {"fault": Fault.LOSS.value, "lost_worker": job.worker}
        log.warning(text, job.id, job.task, job.attempt, job.worker, _then(change), extra=fields)
        if (state := change.fields["state"]) is not State.QUEUED:
            self.tally.finished(job.task, state)

    def expired(self, job: Job) -> None:
        """A job that was to begin by now was settled."""
        self.tally.fault(Fault.EXPIRED)
        self.tally.finished(job.task, State.FAILED)
        fields = about(job) | {"fault": Fault.EXPIRED.value}
        log.warning("job %s (%s) has expired: it did not begin in time", job.id, job.task, extra=fields)

    def stale(self, job: Job, what: str) -> None:
        """A write of an attempt that is the job's no more was refused."""
        self.tally.fault(Fault.STALE_WRITE)
        fields = about(job) | {"fault": Fault.STALE_WRITE.value}
        log.warning("a stale %s of job %s, attempt %d, was refused", what, job.id, job.attempt, extra=fields)

    def lease_lost(self, lost: Sequence[Job]) -> None:
        """This worker was declared dead, and stops what it runs."""
        self.tally.fault(Fault.LEASE_LOST)
        fields = {"fault": Fault.LEASE_LOST.value}
        log.error("the lease was lost; what ran is stopped: %d jobs", len(lost), extra=fields)
        for job in lost:
            text = "job %s (%s), attempt %d, is stopped, as the lease was lost; another worker runs it"
            log.warning(text, job.id, job.task, job.attempt, extra=about(job) | fields)

    def called(self, name: str, seconds: float) -> None:
        """A call of the store was answered."""
        self.tally.add("store_calls", name)
        self.tally.add("store_sum", name, amount=seconds)

    def away(self, error: StoreUnavailable) -> None:
        """A call of the store failed because it was away."""
        self.tally.fault(Fault.STORE_UNAVAILABLE)
        log.warning("the store is away: %s", error, extra={"fault": Fault.STORE_UNAVAILABLE.value})

    async def write(self, store: Store) -> None:
        """Bring to the store what was counted since the last time; raises StoreUnavailable, and then does so later."""
        if not self._knows:
            self.tally.know(await store.counts())
            self._knows = True
        if counted := self.tally.unwritten():
            await store.count(counted)
            self.tally.written()

    def unwritten(self, outcomes: Sequence[Job]) -> None:
        """The worker ends, and these jobs' outcomes are not in the store."""
        self.tally.fault(Fault.OUTCOME_UNWRITTEN, len(outcomes))
        fields = {"fault": Fault.OUTCOME_UNWRITTEN.value}
        for job in outcomes:
            text = "the outcome of job %s (%s), attempt %d, could not be written; it runs again"
            log.error(text, job.id, job.task, job.attempt, extra=about(job) | fields)

    def wrote(self, job: Job, lines: LogLines) -> None:
        """A job wrote to its log."""
        if lines.dropped:
            self.tally.fault(Fault.LOG_DROPPED, lines.dropped)
            fields = about(job) | {"fault": Fault.LOG_DROPPED.value}
            log.warning("the log of job %s is full: %d lines were dropped", job.id, lines.dropped, extra=fields)
        if not self._repeats:
            return
        for line in lines.lines:
            level = LEVELS.get(line.get("level", "info"), logging.INFO)
            if jobs.isEnabledFor(level):
                job_fields = about(job)
                jobs.handle(
                    logging.makeLogRecord(
                        job_fields
                        | {
                            FIELDS: apart(line.get("fields", {}), job_fields),
                            "name": line.get("logger", jobs.name),
                            "levelno": level,
                            "levelname": logging.getLevelName(level),
                            "msg": line.get("message", ""),
                            "created": line.get("at", 0.0),
                        }
                    )
                )

    def silent(
        self, all_running: Iterable[Running], limit: float, now: float, wall: float
    ) -> list[tuple[Job, LogLines]]:
        """The running jobs that have reported nothing for `limit` seconds (0: any time), once each, and the line for
        the log of each.
        """
        if not limit:
            return []
        found = [running for running in all_running if not running.stalled and now - running.heard_at >= limit]
        for running in found:
            running.stalled = True
        return [(running.job, self._stalled(running.job, now - running.heard_at, wall)) for running in found]

    def unknown(self, job: Job) -> None:
        """A claim's answer was lost, and this job, which it had brought, is handed back."""
        text = "job %s, attempt %d, is handed back: its claim's answer was lost"
        log.warning(text, job.id, job.attempt, extra=about(job))

    def _stalled(self, job: Job, seconds: float, now: float) -> LogLines:
        """A running job has reported nothing for so long; the line that goes into its own log."""
        self.tally.fault(Fault.STALLED)
        fields = about(job) | {"fault": Fault.STALLED.value}
        text = "job %s (%s), attempt %d, runs and has reported nothing for %.0f s"
        log.warning(text, job.id, job.task, job.attempt, seconds, extra=fields)
        message = f"It has reported nothing for {seconds:.0f} s: no progress, no checkpoint, no line of this log."
        return LogLines(({"at": now, "level": "warning", "message": message, "logger": log.name},), 0)


def _said(outcome: Outcome) -> tuple[int, str]:
    """How loud the end of an attempt is to be told, and as what."""
    killed = ", and was killed when its grace was over" if getattr(outcome, "killed", False) else ""
    match outcome:
        case Failed(error=error):
            name = f"{error.exception}: " if error.exception else ""
            return logging.WARNING, f"failed: {name}{error.message.rstrip('.')}"
        case TimedOut(error=error):
            return logging.WARNING, f"ran out of time: {error.message.rstrip('.')}{killed}"
        case Crashed(error=error):
            return logging.WARNING, f"crashed: {error.message.rstrip('.')}"
        case Interrupted(reason=reason):
            return logging.WARNING if reason in WARN_OF else logging.INFO, SAID.get(
                reason, f"was interrupted: {reason}"
            )
        case Cancelled(started=started):
            return logging.INFO, f"was cancelled{killed}" if started else "was cancelled before it began"
        case Snoozed(delay=delay):
            return logging.INFO, f"asked for a pause of {delay:g} s"
        case Succeeded(usage=usage):
            return logging.DEBUG, f"succeeded after {usage.wall:.3f} s"


def _then(change: Change) -> str:
    """What becomes of the job."""
    state = change.fields.get("state", State.RUNNING)
    if state is not State.QUEUED:
        return f"the job is over ({state})"
    pause = change.fields["run_at"] - change.at
    return f"it is tried again in {pause:.1f} s" if pause > 0 else "it is tried again at once"
