"""The rules: what each request and each outcome does to a job. The only place that knows them.

Pure functions from a job (and the time, and a random number) to a Change, which a store writes under its fence.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, assert_never

from heavylift.core import codec, event
from heavylift.core.errors import JobFinished, JobNotFinished, JobNotWaiting
from heavylift.core.job import CancelRequest, Change, Draft, Error, Job, NewEvent, State, Stopped, derived_id, filled
from heavylift.core.options import Options
from heavylift.core.outcome import (
    VANISHED,
    Cancelled,
    Crashed,
    Failed,
    Interrupted,
    Outcome,
    Snoozed,
    Succeeded,
    TimedOut,
)
from heavylift.core.retry import Exponential

if TYPE_CHECKING:
    from collections.abc import Sequence

LOSS_BACKOFF = Exponential(base=5.0, factor=2.0, maximum=300.0)
EXPIRED = "expired"
FREE_LOSSES = 2
"""Losses without a wait: a restart of the worker must not delay what it ran. Who has as many is suspected."""


def submit(job_id: str, task: str, args: bytes, options: Options, now: float) -> tuple[Job, NewEvent]:
    """A new job, and its first event."""
    # A run_at of the past means now: rank grows with run_at, so an old one would jump the queue.
    delay = options.delay if options.debounce is None else max(options.delay, options.debounce)
    run_at = now + delay if options.run_at is None else max(options.run_at, now)
    job = filled(Draft(job_id, task, args, options, State.QUEUED, created_at=now, run_at=run_at, seq=1))
    return job, _state(State.QUEUED, 0, **_later(run_at, now))


def claim(job: Job, worker: str, epoch: int, now: float) -> Change:
    """A queued job begins an attempt: its number grows before anything runs. Stores do this inside `claim`."""
    attempt = job.attempt + 1
    fields = {"state": State.RUNNING, "attempt": attempt, "worker": worker, "epoch": epoch, "started_at": now}
    return _change(job, fields, now, _state(State.RUNNING, attempt, worker=worker))


def is_late(options: Options, created_at: float, attempt: int, now: float) -> bool:
    """Whether a waiting job may not begin any more: it was to do so by now, and never did."""
    return options.expires is not None and attempt == 0 and created_at + options.expires < now


def expire(job: Job, now: float) -> Change:
    """A job that was to be started by now, and was not, has failed."""
    waited = now - job.created_at
    error = Error(EXPIRED, f"it was to be started within {job.options.expires:g} s, and waited {waited:.1f} s")
    fields = {"state": State.FAILED, "finished_at": now, "error": error}
    data = {"outcome": EXPIRED, "error": {"code": error.code, "message": error.message}}
    change = _change(job, fields, now, _state(State.FAILED, job.attempt, **data))
    return change._replace(then=_follow_up(job, now))


def move(job: Job, now: float, *, priority: int | None = None, run_at: float | None = None) -> Change:
    """A waiting job gets another place in the line: another priority, another time to run at, or both. A time that is
    past means now.

    Raises JobNotWaiting for a job that runs or is over.
    """
    if job.state is not State.QUEUED:
        raise JobNotWaiting(job.id, job.state)
    fields: dict[str, Any] = {}
    if priority is not None and priority != job.options.priority:
        fields["options"] = replace(job.options, priority=priority)
    if run_at is not None and max(run_at, now) != job.run_at:
        fields["run_at"] = max(run_at, now)
    if not fields:
        return _change(job, {}, now)
    data = {"moved": True, "priority": job.options.priority if priority is None else priority}
    at = fields.get("run_at", job.run_at)
    # Of two who move it at once, the second decides anew, by what the first has made of it.
    change = _change(job, fields, now, _state(State.QUEUED, job.attempt, **data, **_later(at, now)))
    return change._replace(seq=job.seq)


def replaced(job: Job, by: str, now: float) -> Change | None:
    """A job makes room for another one with its unique key; None if it was asked to stop before."""
    change = cancel(job, CancelRequest(now, reason=f"replaced by job {by}"))
    return change if change.fields else None


def debounced(job: Job, first: NewEvent, latest: float) -> tuple[Job, NewEvent]:
    """A new job that takes the place of others that waited, with its first event: its debounce puts it off no longer
    than until `latest`, its own delay does.
    """
    run_at = max(job.created_at + job.options.delay, min(job.run_at, latest))
    if run_at == job.run_at:
        return job, first
    return replace(job, run_at=run_at), _state(job.state, job.attempt, **_later(run_at, job.created_at))


def settle(job: Job, outcome: Outcome, now: float, random: float = 0.5) -> Change:
    """What an attempt's outcome makes of a running job; `random` in [0, 1) spreads the retries."""
    match outcome:
        case Succeeded():
            return _succeeded(job, outcome, now)
        case Cancelled():
            return _cancelled(job, outcome, now)
        case Failed() | TimedOut():
            failures = job.failures + 1
            retryable = outcome.retryable if isinstance(outcome, Failed) else True
            again = retryable and failures < job.options.retry.attempts
            run_at = now + _failure_delay(job, outcome, failures, random)
            return _again_or_fail(job, outcome, now, again=again, run_at=run_at, failures=failures)
        case Crashed():
            crashes = job.crashes + 1
            again = crashes < job.options.crashes
            run_at = now + job.options.retry.backoff.delay(crashes, random)
            return _again_or_fail(job, outcome, now, again=again, run_at=run_at, crashes=crashes)
        case Interrupted(lost=True):
            losses = job.losses + 1
            again = losses < job.options.losses
            # At first it keeps its place in the line, as with a hand-back.
            run_at = min(job.run_at, now)
            if losses > FREE_LOSSES:
                run_at = now + LOSS_BACKOFF.delay(losses - FREE_LOSSES, random)
            return _again_or_fail(job, outcome, now, again=again, run_at=run_at, losses=losses)
        case Interrupted():
            # It keeps its run_at, and so its place in the line: a hand-back costs nothing.
            suspected = job.suspected or outcome.suspect
            return _again_or_fail(job, outcome, now, again=True, run_at=min(job.run_at, now), suspected=suspected)
        case Snoozed():
            return _again_or_fail(job, outcome, now, again=True, run_at=now + outcome.delay)
    assert_never(outcome)


Suspicion = dict[tuple[str | None, int | None], int]
"""The most losses of any job that a worker (its id, its epoch) held."""


def suspect(jobs: Sequence[Job], before: Suspicion) -> Suspicion:
    """What these jobs of dead workers add to what was known of others that the same workers held."""
    most = dict(before)
    for job in jobs:
        holder = (job.worker, job.epoch)
        most[holder] = max(most.get(holder, 0), job.losses)
    return most


def lose(jobs: Sequence[Job], most: Suspicion) -> list[tuple[Job, Interrupted]]:
    """What the end of workers means for the jobs that they held.

    Nobody knows which of a dead worker's jobs killed it, if one did. So each is charged a loss, until some are
    suspected, having as many as FREE_LOSSES: from then on only those that have most losses of all that this worker
    held; the others go back at no cost.
    """
    found = []
    for job in jobs:
        suspicion = most[job.worker, job.epoch]
        if suspicion >= FREE_LOSSES and job.losses < suspicion:
            outcome = Interrupted("its worker vanished, and another job is suspected")
        else:
            outcome = Interrupted(VANISHED, lost=True)
        found.append((job, outcome))
    return found


def checkpoint(job: Job, value: bytes) -> dict[str, Any]:
    """The fields that a running job's checkpoint changes. A new one shows that the job comes forward whatever happens
    to its workers, so its losses are counted anew.
    """
    if job.losses and value != job.checkpoint:
        return {"checkpoint": value, "losses": 0}
    return {"checkpoint": value}


def cancel(job: Job, request: CancelRequest) -> Change:
    """A waiting job ends at once; a running one is asked to stop, and a repeated request may only sharpen the first.

    Raises JobFinished for a job that is over.
    """
    if job.state.final:
        raise JobFinished(job.id, job.state)
    if job.state is not State.RUNNING:
        fields = {
            "state": State.CANCELLED,
            "finished_at": request.at,
            "cancel": request,
            "stopped": Stopped.BEFORE_START if job.attempt == 0 else Stopped.BETWEEN_ATTEMPTS,
        }
        data = _reason(request)
        return _change(job, fields, request.at, _state(State.CANCELLED, job.attempt, **data))
    merged = request if job.cancel is None else _sharper(job.cancel, request, job.options.grace)
    if merged == job.cancel:
        return _change(job, {}, request.at)
    data = {"grace": merged.grace, "force": merged.force, "reason": merged.reason}
    return _change(job, {"cancel": merged}, request.at, NewEvent(event.CANCEL, data))


def retry(job: Job, now: float, *, from_checkpoint: bool = True) -> Change:
    """A job that is over starts anew with new budgets; its attempts go on counting. Its checkpoint stays, unless it is
    to begin from the start. The time by which it was to begin holds no more if it is past.

    Raises JobNotFinished for a job that is not over.
    """
    if not job.state.final:
        raise JobNotFinished(job.id, job.state, "only a job that is over can be retried.")
    fields = _requeued(now) | {
        "failures": 0,
        "crashes": 0,
        "losses": 0,
        "suspected": False,
        "finished_at": None,
        "cancel": None,
        "stopped": None,
        "result": None,
        "error": None,
        "progress": None,
    }
    if not from_checkpoint:
        fields["checkpoint"] = None
    # The clock by which it has expired may be ahead of this one.
    has_expired = job.error is not None and job.error.code == EXPIRED
    if has_expired or is_late(job.options, job.created_at, job.attempt, now):
        fields["options"] = replace(job.options, expires=None)
    resumes = from_checkpoint and job.checkpoint is not None
    return _change(job, fields, now, _state(State.QUEUED, job.attempt, retry=True, from_checkpoint=resumes))


def _again_or_fail(job: Job, outcome: Outcome, now: float, *, again: bool, run_at: float, **budgets: int) -> Change:
    """Back to the queue, unless a budget is used up (then it failed) or the cancel was requested (then it ends so)."""
    error = _error(outcome)
    if not again:
        return _finish(job, State.FAILED, outcome, now, error=error, **budgets)
    if job.cancel is not None:
        return _finish(job, State.CANCELLED, outcome, now, stopped=Stopped.BETWEEN_ATTEMPTS, **budgets)
    fields = _requeued(run_at) | budgets
    if error is not None:
        fields["error"] = error
    data = _ended(outcome) | _later(run_at, now)
    return _change(job, fields, now, _state(State.QUEUED, job.attempt, **data))


def _cancelled(job: Job, outcome: Cancelled, now: float) -> Change:
    stopped = Stopped.KILLED if outcome.killed else Stopped.SOFT
    if not outcome.started:
        stopped = Stopped.BEFORE_START if job.attempt <= 1 else Stopped.BETWEEN_ATTEMPTS
    return _finish(job, State.CANCELLED, outcome, now, stopped=stopped)


def _succeeded(job: Job, outcome: Succeeded, now: float) -> Change:
    # Written out, and not by way of `_finish`: nearly all of very many attempts end so.
    fields = {
        "state": State.SUCCEEDED,
        "finished_at": now,
        "worker": None,
        "epoch": None,
        "result": outcome.result,
        "error": None,
    }
    data: dict[str, Any] = {"state": State.SUCCEEDED, "attempt": job.attempt, "outcome": "succeeded"}
    wall, cpu, peak_rss = outcome.usage
    if wall:
        data["usage"] = {"wall": wall, "cpu": cpu, "peak_rss": peak_rss}
    fact = NewEvent(event.STATE, data)
    return Change(job.id, job.state, job.attempt, fields, (fact,), now, job.cancel, job.options.queue)


def _finish(job: Job, state: State, outcome: Outcome, now: float, **fields: Any) -> Change:
    changed = {"state": state, "finished_at": now, "worker": None, "epoch": None, **fields}
    data = {"state": state, "attempt": job.attempt, **_ended(outcome)}
    if state is State.CANCELLED:
        data |= {"stopped": fields["stopped"]} | (_reason(job.cancel) if job.cancel else {})
    change = _change(job, changed, now, NewEvent(event.STATE, data))
    return change if state is not State.FAILED else change._replace(then=_follow_up(job, now))


def _follow_up(job: Job, now: float) -> tuple[tuple[Job, NewEvent], ...]:
    """The job that follows one that has failed for good. Its id comes of that one's attempt, so it is added once."""
    following = job.options.on_exhausted
    if following is None:
        return ()
    args = codec.encode({"job_id": job.id})
    name = derived_id(now, job.id, str(job.attempt), "exhausted")
    return (submit(name, following.task, args, following.options, now),)


def _failure_delay(job: Job, outcome: Failed | TimedOut, failures: int, random: float) -> float:
    if isinstance(outcome, Failed) and outcome.delay is not None:
        return outcome.delay
    return job.options.retry.backoff.delay(failures, random)


def _error(outcome: Outcome) -> Error | None:
    if isinstance(outcome, (Failed, TimedOut, Crashed)):  # a union would be built anew at each of very many calls
        return outcome.error
    if isinstance(outcome, Interrupted) and outcome.lost:
        return Error("lost", outcome.reason)
    return None


def _requeued(run_at: float) -> dict[str, Any]:
    return {"state": State.QUEUED, "run_at": run_at, "worker": None, "epoch": None, "started_at": None}


def _ended(outcome: Outcome) -> dict[str, Any]:
    data: dict[str, Any] = {"outcome": OUTCOME_NAMES[type(outcome)]}
    error = _error(outcome)
    if error is not None:
        data["error"] = {name: value for name, value in asdict(error).items() if value is not None}
    if isinstance(outcome, Interrupted):
        data["reason"] = outcome.reason
    elif isinstance(outcome, TimedOut) and outcome.killed:
        data["killed"] = True
    wall, cpu, peak_rss = outcome.usage
    if wall:
        data["usage"] = {"wall": wall, "cpu": cpu, "peak_rss": peak_rss}
    return data


OUTCOME_NAMES: dict[type[Outcome], str] = {
    Succeeded: "succeeded",
    Failed: "failed",
    TimedOut: "timed-out",
    Crashed: "crashed",
    Cancelled: "cancelled",
    Interrupted: "interrupted",
    Snoozed: "snoozed",
}


def _sharper(old: CancelRequest, new: CancelRequest, own: float) -> CancelRequest:
    """The earlier request, with the shorter grace of the two (None stands for the job's own), forced if either was."""
    grace = min(old.grace, new.grace, key=lambda grace: own if grace is None else grace)
    return CancelRequest(old.at, grace, old.force or new.force, old.reason or new.reason)


def _reason(request: CancelRequest) -> dict[str, Any]:
    return {"reason": request.reason} if request.reason else {}


def _later(run_at: float, now: float) -> dict[str, Any]:
    return {"run_at": run_at} if run_at > now else {}


def _state(state: State, attempt: int, **data: Any) -> NewEvent:
    return NewEvent(event.STATE, {"state": state, "attempt": attempt} | data)


def _change(job: Job, fields: dict[str, Any], at: float, *events: NewEvent) -> Change:
    return Change(job.id, job.state, job.attempt, fields, events, at, job.cancel, job.queue)
