"""The rules, one by one: what each request and each outcome makes of a job."""

from collections import Counter
from dataclasses import fields, replace
from random import Random
from typing import get_args

import pytest

from heavylift.core import event, lifecycle
from heavylift.core.codec import encode
from heavylift.core.errors import JobFinished, JobNotFinished
from heavylift.core.job import CancelRequest, Error, Job, Progress, State, Stopped
from heavylift.core.options import FollowUp, Options
from heavylift.core.outcome import (
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
from heavylift.core.retry import Retry, exponential, fixed

NOW = 1770000000.0
BOOM = Error("failed", "boom", "ValueError", traceback="…")
LATE = Error("timed-out", "ran longer than 5 s")
DEAD = Error("crashed", "died", signal="SIGSEGV", stderr="…")

FAILED, TIMED_OUT, CRASHED = Failed(BOOM), TimedOut(LATE), Crashed(DEAD)
LOST = Interrupted("its worker vanished", lost=True)
HANDED_BACK = Interrupted("the worker stops")
SNOOZED = Snoozed(60.0)
OUTCOMES = {
    "succeeded": Succeeded(b"1"),
    "failed": FAILED,
    "timed-out": TIMED_OUT,
    "crashed": CRASHED,
    "cancelled": Cancelled(),
    "lost": LOST,
    "handed back": HANDED_BACK,
    "snoozed": SNOOZED,
}


def submitted(now=NOW, **options) -> Job:
    return lifecycle.submit("j1", "build", b"{}", Options().using(**options), now)[0]


def running(now=NOW, **options) -> Job:
    return claimed(submitted(now, **options), now)


def claimed(job, now=NOW) -> Job:
    return lifecycle.claim(job, "w1", 1, now).apply(job)


def settled(job, outcome, now=NOW, random=0.5) -> Job:
    return lifecycle.settle(job, outcome, now, random).apply(job)


def cancelled(job, at=NOW, **request) -> Job:
    return lifecycle.cancel(job, CancelRequest(at, **request)).apply(job)


def fact(change):
    [found] = change.events
    return found.data


# --- submit and claim ------------------------------------------------------------------------------------------


def test_a_submitted_job_is_queued_and_says_so():
    """With its first event, and due at once."""
    job, first = lifecycle.submit("j1", "build", b"{}", Options(), NOW)
    assert (job.state, job.run_at, job.created_at, job.attempt, job.seq) == (State.QUEUED, NOW, NOW, 0, 1)
    assert (first.kind, first.data) == (event.STATE, {"state": State.QUEUED, "attempt": 0})


@pytest.mark.parametrize(
    ("options", "run_at"),
    [
        ({"delay": "10m"}, NOW + 600),
        ({"run_at": NOW + 60}, NOW + 60),
        ({"run_at": NOW + 60, "delay": "10m"}, NOW + 60),
    ],
)
def test_a_later_job_waits_and_says_until_when(options, run_at):
    """`run_at` wins over `delay`."""
    job, first = lifecycle.submit("j1", "build", b"{}", Options().using(**options), NOW)
    assert job.run_at == run_at
    assert first.data["run_at"] == run_at


@pytest.mark.parametrize("run_at", [0, NOW - 1, NOW])
def test_a_time_of_the_past_means_now(run_at):
    """It must not jump the queue: the place in the line grows with run_at."""
    assert submitted(run_at=run_at).run_at == NOW


def test_a_claim_counts_the_start_before_it_happens():
    """The attempt grows, its holder is known, and the fence is the queued job's."""
    job = submitted()
    change = lifecycle.claim(job, "w1", 7, NOW + 1)
    assert (change.state, change.attempt) == (State.QUEUED, 0)
    after = change.apply(job)
    assert (after.state, after.attempt, after.worker, after.epoch, after.started_at) == (
        *(State.RUNNING, 1, "w1", 7, NOW + 1),
    )
    assert fact(change) == {"state": State.RUNNING, "attempt": 1, "worker": "w1"}
    assert (after.failures, after.crashes, after.losses) == (0, 0, 0)


# --- settle ----------------------------------------------------------------------------------------------------


def test_a_success_ends_the_job_with_its_result():
    """The error of an earlier attempt is gone."""
    job = settled(replace(running(), error=BOOM), Succeeded(b"42"), NOW + 3)
    assert (job.state, job.result, job.error, job.finished_at) == (State.SUCCEEDED, b"42", None, NOW + 3)
    assert (job.worker, job.epoch) == (None, None)


BUDGETS = [
    ("failures", FAILED, 3),
    ("failures", TIMED_OUT, 3),
    ("crashes", CRASHED, 3),
    ("losses", LOST, 60),
]


@pytest.mark.parametrize(("budget", "outcome", "starts"), BUDGETS, ids=["failed", "timed-out", "crashed", "lost"])
def test_a_job_is_started_as_often_as_its_budget_says(budget, outcome, starts):
    """By default three, three, three and sixty starts; then it failed, with the last error."""
    job, now = submitted(), NOW
    for number in range(1, starts + 1):
        job = claimed(job, now)
        assert (job.state, job.attempt) == (State.RUNNING, number)
        job = settled(job, outcome, now)
        assert getattr(job, budget) == number
        now = max(now, job.run_at)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.finished_at == now
    others = {"failures", "crashes", "losses"} - {budget}
    assert all(getattr(job, other) == 0 for other in others)


@pytest.mark.parametrize(
    ("options", "outcome"),
    [({"retry": 1}, FAILED), ({"max_attempts": 1}, TIMED_OUT), ({"crashes": 1}, CRASHED), ({"losses": 1}, LOST)],
)
def test_a_budget_of_one_is_one_start(options, outcome):
    """No retry at all."""
    assert settled(running(**options), outcome).state is State.FAILED


def test_failures_and_timeouts_share_a_budget():
    """Both are the task's own doing."""
    job = settled(running(retry=2), FAILED)
    assert settled(claimed(job), TIMED_OUT).state is State.FAILED


def test_the_budgets_do_not_touch_each_other():
    """Two of each, in turn, and the job still runs."""
    job = submitted()
    for outcome in (FAILED, CRASHED, LOST) * 2:
        job = settled(claimed(job), outcome)
        assert job.state is State.QUEUED
    assert (job.failures, job.crashes, job.losses, job.attempt) == (2, 2, 2, 6)


@pytest.mark.parametrize(
    "outcome", [HANDED_BACK, SNOOZED, Interrupted("not started")], ids=["drain", "snooze", "unstarted"]
)
def test_what_is_no_fault_of_the_job_costs_nothing(outcome):
    """Neither a budget, nor the error and the checkpoint of before; a hundred times over."""
    job = replace(submitted(retry=1, crashes=1, losses=1), checkpoint=b"7", error=BOOM)
    for _ in range(100):
        job = settled(claimed(job), outcome)
    assert (job.state, job.failures, job.crashes, job.losses) == (State.QUEUED, 0, 0, 0)
    assert (job.attempt, job.checkpoint, job.error) == (100, b"7", BOOM)


def test_a_handed_back_job_keeps_its_place_in_the_line():
    """It stands where it stood, in front of all that came later."""
    job = settled(claimed(submitted(), NOW + 500), HANDED_BACK, NOW + 900)
    assert job.run_at == NOW
    assert "run_at" not in fact(lifecycle.settle(claimed(submitted()), HANDED_BACK, NOW + 900))


def test_a_snoozed_job_comes_back_when_it_asked_to():
    """And says until when it waits."""
    change = lifecycle.settle(running(), SNOOZED, NOW + 1)
    assert change.fields["run_at"] == NOW + 61
    assert fact(change)["run_at"] == NOW + 61


def test_a_failure_that_is_not_to_be_retried_ends_the_job():
    """GiveUp, an exception class that is not covered, a result that is no JSON."""
    job = settled(running(), Failed(BOOM, retryable=False))
    assert (job.state, job.failures, job.error) == (State.FAILED, 1, BOOM)


@pytest.mark.parametrize(("random", "share"), [(0.0, 0.5), (0.5, 0.75), (0.999999, 1.0)])
@pytest.mark.parametrize(("before", "whole"), [(0, 2.0), (1, 4.0), (2, 8.0)])
@pytest.mark.parametrize(("budget", "outcome"), [("failures", FAILED), ("failures", TIMED_OUT), ("crashes", CRASHED)])
def test_a_retry_waits_exponentially_longer_with_jitter(budget, outcome, before, whole, random, share):
    """From two seconds, each kind by its own count."""
    job = replace(running(retry=9, crashes=9), **{budget: before})
    assert settled(job, outcome, NOW, random).run_at - NOW == pytest.approx(whole * share, rel=1e-4)


def test_a_delay_that_the_task_asked_for_wins():
    """RetryLater, or a function as the retry's delay."""
    job = running(retry=Retry(9, fixed(100)))
    assert settled(job, Failed(BOOM, delay=7.0)).run_at == NOW + 7
    assert settled(job, Failed(BOOM, delay=0.0)).run_at == NOW
    assert settled(job, FAILED).run_at == NOW + 100


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
def test_a_checkpoint_survives_every_outcome(outcome):
    """Cancel, drain, crash and loss included."""
    change = lifecycle.settle(running(), outcome, NOW)
    assert "checkpoint" not in change.fields


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
@pytest.mark.parametrize("asked", [False, True], ids=["", "cancel requested"])
def test_an_attempt_that_ended_has_no_holder(outcome, asked):
    """Whatever became of the job, its slot is free."""
    job = cancelled(running()) if asked else running()
    job = settled(job, outcome)
    assert (job.worker, job.epoch) == (None, None)
    assert job.state is not State.RUNNING


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
def test_a_settle_is_fenced_by_the_attempt_that_it_settles(outcome):
    """Nobody else's."""
    job = running()
    change = lifecycle.settle(job, outcome, NOW)
    assert (change.id, change.state, change.attempt, change.queue) == ("j1", State.RUNNING, 1, "default")
    assert change.knows_cancel is None
    assert lifecycle.settle(cancelled(job), outcome, NOW).knows_cancel == CancelRequest(NOW)


# --- cancel ----------------------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once():
    """It never starts."""
    job = cancelled(submitted(), NOW + 5, reason="not needed")
    assert (job.state, job.stopped, job.finished_at) == (State.CANCELLED, Stopped.BEFORE_START, NOW + 5)
    assert job.cancel == CancelRequest(NOW + 5, reason="not needed")


def test_a_job_that_waits_for_its_retry_is_cancelled_between_attempts():
    """It did run, and the record says so."""
    job = cancelled(settled(running(), FAILED))
    assert (job.state, job.stopped) == (State.CANCELLED, Stopped.BETWEEN_ATTEMPTS)


def test_a_blocked_job_is_cancelled_at_once():
    """Whatever it waits for."""
    assert cancelled(replace(submitted(), state=State.BLOCKED)).state is State.CANCELLED


def test_a_running_job_is_asked_to_stop_and_runs_on():
    """The request is a fact of its own; nothing else of the job changes."""
    job = running()
    change = lifecycle.cancel(job, CancelRequest(NOW + 1, 3.0, reason="enough"))
    assert change.fields == {"cancel": CancelRequest(NOW + 1, 3.0, reason="enough")}
    [asked] = change.events
    assert (asked.kind, asked.data) == (event.CANCEL, {"grace": 3.0, "force": False, "reason": "enough"})


SHARPER = {
    "a shorter grace": ({"grace": 9.0}, {"grace": 2.0}, {"grace": 2.0}),
    "a longer grace changes nothing": ({"grace": 2.0}, {"grace": 9.0}, {"grace": 2.0}),
    "no grace": ({"grace": 2.0}, {"grace": 0.0}, {"grace": 0.0}),
    "the job's own is shorter": ({"grace": 60.0}, {}, {}),
    "the job's own is longer": ({"grace": 2.0}, {}, {"grace": 2.0}),
    "longer than the job's own changes nothing": ({}, {"grace": 60.0}, {}),
    "shorter than the job's own": ({}, {"grace": 2.0}, {"grace": 2.0}),
    "force": ({"grace": 2.0}, {"force": True}, {"grace": 2.0, "force": True}),
    "force stays": ({"force": True}, {"grace": 2.0}, {"grace": 2.0, "force": True}),
    "the first reason stays": ({"reason": "a"}, {"reason": "b"}, {"reason": "a"}),
    "a reason comes late": ({}, {"reason": "b"}, {"reason": "b"}),
    "the same again": ({"grace": 2.0}, {"grace": 2.0}, {"grace": 2.0}),
}


@pytest.mark.parametrize(("first", "second", "merged"), SHARPER.values(), ids=SHARPER)
def test_a_repeated_request_may_only_sharpen_the_first(first, second, merged):
    """The job's own grace is five seconds here; the time of the first request counts on."""
    once = cancelled(running(grace=5), NOW + 1, **first)
    twice = cancelled(once, NOW + 2, **second)
    assert twice.cancel == CancelRequest(NOW + 1, **merged)
    change = lifecycle.cancel(once, CancelRequest(NOW + 2, **second))
    changed = once.cancel != twice.cancel
    assert (bool(change.fields), len(change.events)) == (changed, int(changed))


def test_a_request_says_which_other_one_it_knows_of():
    """So that a store refuses what was decided by another, and it is decided anew."""
    job = running()
    assert lifecycle.cancel(job, CancelRequest(NOW)).knows_cancel is None
    once = cancelled(job, grace=3.0)
    assert lifecycle.cancel(once, CancelRequest(NOW, force=True)).knows_cancel == CancelRequest(NOW, 3.0)


@pytest.mark.parametrize(
    ("outcome", "state"), [(Succeeded(b"1"), State.SUCCEEDED), (Failed(BOOM, retryable=False), State.FAILED)]
)
def test_an_answer_that_came_before_the_stop_wins(outcome, state):
    """The state follows what happened; the request stays on record."""
    job = settled(cancelled(running()), outcome)
    assert (job.state, job.stopped) == (state, None)
    assert job.cancel is not None


GOING_BACK = {name: outcome for name, outcome in OUTCOMES.items() if name not in ("succeeded", "cancelled")}


@pytest.mark.parametrize("outcome", GOING_BACK.values(), ids=GOING_BACK)
def test_a_job_whose_cancel_was_requested_never_goes_back(outcome):
    """Retry, crash, loss, hand-back and snooze all settle it cancelled; what it cost is counted."""
    change = lifecycle.settle(cancelled(running(), reason="enough"), outcome, NOW + 4)
    job = change.apply(running())
    assert (job.state, job.stopped, job.finished_at) == (State.CANCELLED, Stopped.BETWEEN_ATTEMPTS, NOW + 4)
    assert fact(change)["stopped"] == Stopped.BETWEEN_ATTEMPTS
    assert fact(change)["outcome"] in lifecycle.OUTCOME_NAMES.values()
    lost, crashed = outcome == LOST, outcome == CRASHED
    assert (job.losses, job.crashes, job.failures) == (lost, crashed, outcome in (FAILED, TIMED_OUT))


@pytest.mark.parametrize(
    ("outcome", "attempt", "stopped"),
    [
        (Cancelled(), 1, Stopped.SOFT),
        (Cancelled(killed=True), 1, Stopped.KILLED),
        (Cancelled(started=False), 1, Stopped.BEFORE_START),
        (Cancelled(started=False), 2, Stopped.BETWEEN_ATTEMPTS),
    ],
)
def test_a_stopped_job_says_how_it_ended(outcome, attempt, stopped):
    """Softly, by a kill, or without a start."""
    change = lifecycle.settle(replace(cancelled(running(), reason="enough"), attempt=attempt), outcome, NOW + 1)
    assert (change.fields["state"], change.fields["stopped"]) == (State.CANCELLED, stopped)
    assert fact(change) == {
        "state": State.CANCELLED,
        "attempt": attempt,
        "outcome": "cancelled",
        "stopped": stopped,
        "reason": "enough",
    }


@pytest.mark.parametrize("outcome", [FAILED, CRASHED, LOST], ids=["failed", "crashed", "lost"])
def test_a_last_start_that_ended_by_itself_ends_the_job_as_it_ended(outcome):
    """With a cancel requested, but no budget left: it would not have gone back anyway."""
    job = settled(cancelled(running(retry=1, crashes=1, losses=1)), outcome)
    assert job.state is State.FAILED


@pytest.mark.parametrize(
    "outcome", [Succeeded(b"1"), Failed(BOOM, retryable=False), Cancelled()], ids=["succeeded", "failed", "cancelled"]
)
def test_a_job_that_is_over_cannot_be_cancelled(outcome):
    """The error says how it ended."""
    job = settled(running(), outcome)
    with pytest.raises(JobFinished) as caught:
        lifecycle.cancel(job, CancelRequest(NOW))
    assert caught.value.state == job.state


# --- retry by hand ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(State))
def test_only_a_job_that_is_over_can_be_retried(state):
    """Final is final but for this."""
    job = replace(submitted(), state=state)
    if state.final:
        assert lifecycle.retry(job, NOW).apply(job).state is State.QUEUED
    else:
        with pytest.raises(JobNotFinished, match="only a job that is over can be retried"):
            lifecycle.retry(job, NOW)


def test_a_manual_retry_gives_new_budgets_and_is_logged():
    """Nothing of the old end is left; what it learned (the checkpoint, the attempts, the log's size) stays."""
    old = replace(
        cancelled(submitted()),
        attempt=4,
        failures=3,
        crashes=2,
        losses=19,
        checkpoint=b"7",
        log_bytes=9,
        seq=12,
        result=b"1",
        error=BOOM,
        progress=Progress(1),
        started_at=NOW,
    )
    change = lifecycle.retry(old, NOW + 50)
    job = change.apply(old)
    assert fact(change) == {"state": State.QUEUED, "attempt": 4, "retry": True, "from_checkpoint": True}
    fresh = replace(submitted(), attempt=4, checkpoint=b"7", log_bytes=9, seq=13, run_at=NOW + 50)
    assert job == fresh
    assert (change.state, change.attempt) == (State.CANCELLED, 4)


def test_a_manual_retry_from_the_start_forgets_the_checkpoint_and_says_so():
    """One without a checkpoint begins from the start whatever was asked for."""
    old = replace(cancelled(submitted()), checkpoint=b"7")
    for from_checkpoint, kept, resumes in ((True, b"7", True), (False, None, False)):
        change = lifecycle.retry(old, NOW, from_checkpoint=from_checkpoint)
        assert (change.apply(old).checkpoint, fact(change)["from_checkpoint"]) == (kept, resumes)
    assert fact(lifecycle.retry(replace(old, checkpoint=None), NOW))["from_checkpoint"] is False


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
@pytest.mark.parametrize("asked", [False, True], ids=["", "cancel requested"])
def test_what_a_job_said_of_its_progress_outlives_every_outcome(outcome, asked):
    """How far it came is known of one that failed or was cancelled, too."""
    job = replace(cancelled(running()) if asked else running(), progress=Progress(7, 10))
    assert settled(job, outcome).progress == Progress(7, 10)


def test_a_retried_job_has_all_its_starts_again():
    """The attempts go on counting, and none is used twice."""
    job = settled(running(retry=1), FAILED)
    for attempt in (2, 3):
        job = lifecycle.retry(job, NOW).apply(job)
        job = settled(claimed(job), FAILED)
        assert (job.state, job.attempt, job.failures) == (State.FAILED, attempt, 1)


# --- events ----------------------------------------------------------------------------------------------------


def test_every_outcome_has_a_name_and_a_rule():
    """An outcome that is added later has to be given both."""
    assert set(lifecycle.OUTCOME_NAMES) == set(get_args(Outcome)) == {type(outcome) for outcome in OUTCOMES.values()}
    assert len(set(lifecycle.OUTCOME_NAMES.values())) == len(lifecycle.OUTCOME_NAMES)


def all_changes():
    yield lifecycle.claim(submitted(), "w1", 1, NOW)
    yield lifecycle.cancel(submitted(), CancelRequest(NOW, reason="x"))
    yield lifecycle.cancel(running(), CancelRequest(NOW))
    yield lifecycle.retry(settled(running(), Succeeded(b"1")), NOW)
    for outcome in OUTCOMES.values():
        yield lifecycle.settle(running(), replace(outcome, usage=Usage(1.0, 0.5, 4096)), NOW)
        yield lifecycle.settle(cancelled(running()), outcome, NOW)


def test_every_change_writes_one_fact_that_is_json_and_known():
    """A new state and its event are never written apart; the event repeats the state and the attempt."""
    job_fields = {field.name for field in fields(Job)}
    for change in all_changes():
        [written] = change.events
        encode(dict(written.data))
        assert written.kind in (event.STATE, event.CANCEL)
        assert change.fields.keys() <= job_fields - {"id", "seq", "task", "args", "options", "created_at"}
        if written.kind == event.STATE:
            assert written.data["state"] == change.fields["state"]
            assert written.data["attempt"] == change.fields.get("attempt", change.attempt)
        assert (written.kind == event.STATE) == ("state" in change.fields)


@pytest.mark.parametrize(("name", "outcome"), OUTCOMES.items(), ids=OUTCOMES)
def test_the_event_of_an_ended_attempt_tells_how_it_ended(name, outcome):
    """The outcome's name, its error without what is absent, its reason, and what it took."""
    data = fact(lifecycle.settle(running(), replace(outcome, usage=Usage(2.0, 1.5, 4096)), NOW))
    assert data["outcome"] == {"lost": "interrupted", "handed back": "interrupted"}.get(name, name)
    assert data["usage"] == {"wall": 2.0, "cpu": 1.5, "peak_rss": 4096}
    error = {"lost": Error("lost", "its worker vanished")}.get(name, getattr(outcome, "error", None))
    assert ("error" in data) == (error is not None)
    if error is not None:
        assert Error(**data["error"]) == error
        assert None not in data["error"].values()
    assert data.get("reason") == getattr(outcome, "reason", None)


def test_the_kinds_of_events_are_documented():
    """Each with its data, in the module's docstring."""
    kinds = {value for name, value in vars(event).items() if name.isupper() and isinstance(value, str)}
    assert kinds == {"state", "cancel", "checkpoint", "progress", "log"}
    for kind in kinds:
        assert f"`{kind}`" in event.__doc__


def test_the_rules_are_pure():
    """The same job, time and chance make the same change; the job itself is never touched."""
    job = running(retry=Retry(3, exponential(2)))
    before = replace(job)
    first, second = (lifecycle.settle(job, FAILED, NOW, 0.25) for _ in range(2))
    assert first == second
    assert job == before


# --- hosts that are shared ----------------------------------------------------------------------------------------


def test_who_may_have_killed_a_shared_host_goes_back_at_no_cost_and_runs_alone():
    """Until it is over, or somebody starts it anew."""
    job = settled(running(), Interrupted("its host died", suspect=True))
    assert (job.state, job.failures, job.crashes, job.losses) == (State.QUEUED, 0, 0, 0)
    assert job.suspected
    again = settled(claimed(job), Interrupted("drain"))
    assert again.suspected
    over = settled(claimed(again), Succeeded(b"1"))
    assert not lifecycle.retry(over, NOW).apply(over).suspected


def test_the_neighbour_of_one_that_was_stopped_is_not_suspected():
    assert not settled(running(), Interrupted("a neighbour in its host was stopped")).suspected


# --- expiry, and what follows a failure ---------------------------------------------------------------------------

TELL = FollowUp("tell", Options(queue="ops", priority=7))
EXHAUSTED = {"failed": FAILED, "timed-out": TIMED_OUT, "crashed": CRASHED, "lost": LOST}
LAST_STARTS = {"on_exhausted": TELL, "retry": 1, "crashes": 1, "losses": 1}


@pytest.mark.parametrize(
    ("attempt", "after", "late"), [(0, 9.9, False), (0, 10, False), (0, 10.1, True), (1, 10.1, False)]
)
def test_a_job_expires_that_never_began_and_is_to_have_begun(attempt, after, late):
    assert lifecycle.is_late(Options(expires=10.0), NOW, attempt, NOW + after) == late
    assert not lifecycle.is_late(Options(), NOW, attempt, NOW + after)


def test_an_expired_job_has_failed_and_says_how_long_it_waited():
    job = submitted(expires=10)
    change = lifecycle.expire(job, NOW + 12.34)
    over = change.apply(job)
    assert (over.state, over.finished_at, over.attempt, over.failures) == (State.FAILED, NOW + 12.34, 0, 0)
    assert over.error == Error("expired", "it was to be started within 10 s, and waited 12.3 s")
    assert fact(change) == {
        "state": "failed",
        "attempt": 0,
        "outcome": "expired",
        "error": {"code": "expired", "message": over.error.message},
    }
    assert (change.state, change.attempt) == (State.QUEUED, 0), "whoever begins it first has it"


def test_a_retry_by_hand_lifts_an_expiry_that_is_past():
    job = submitted(expires=10)
    expired = lifecycle.expire(job, NOW + 20).apply(job)
    assert lifecycle.retry(expired, NOW + 30).apply(expired).expires_at is None
    assert lifecycle.retry(expired, NOW + 5).apply(expired).expires_at is None, "by a clock that is behind"
    stopped = cancelled(job, NOW + 1)
    assert lifecycle.retry(stopped, NOW + 2).apply(stopped).expires_at == NOW + 10
    assert lifecycle.retry(stopped, NOW + 30).apply(stopped).expires_at is None
    begun = settled(running(expires=10), Failed(BOOM, retryable=False), NOW + 20)
    assert lifecycle.retry(begun, NOW + 30).apply(begun).options == begun.options


@pytest.mark.parametrize("outcome", EXHAUSTED.values(), ids=EXHAUSTED)
def test_a_job_follows_one_that_has_failed_for_good(outcome):
    """Whatever it failed of; not one that is tried again."""
    job = running(**LAST_STARTS)
    [(follower, first)] = lifecycle.settle(job, outcome, NOW + 5).then
    assert (follower.task, follower.options, follower.args) == ("tell", TELL.options, b'{"job_id":"j1"}')
    assert (follower.state, follower.created_at, follower.run_at) == (State.QUEUED, NOW + 5, NOW + 5)
    assert first.data == {"state": "queued", "attempt": 0}
    assert lifecycle.settle(running(on_exhausted=TELL), outcome, NOW).then == ()


def test_a_job_follows_one_that_was_not_to_be_retried_and_one_that_has_expired():
    assert len(lifecycle.settle(running(on_exhausted=TELL), Failed(BOOM, retryable=False), NOW).then) == 1
    assert len(lifecycle.expire(submitted(expires=1, on_exhausted=TELL), NOW + 2).then) == 1
    assert lifecycle.expire(submitted(expires=1), NOW + 2).then == ()


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
def test_no_job_follows_one_that_was_cancelled_or_succeeded(outcome):
    job = cancelled(running(on_exhausted=TELL))
    change = lifecycle.settle(job, outcome, NOW)
    assert change.then == ()
    assert lifecycle.cancel(submitted(on_exhausted=TELL), CancelRequest(NOW)).then == ()
    assert lifecycle.settle(running(**LAST_STARTS), Succeeded(b"1"), NOW).then == ()


def test_each_failure_of_a_job_has_one_follower_of_its_own():
    """The same change makes the same one; after a retry by hand it is another."""
    job = running(on_exhausted=TELL)
    last = Failed(BOOM, retryable=False)
    ids = [lifecycle.settle(job, last, NOW).then[0][0].id for _ in range(2)]
    assert ids[0] == ids[1]
    failed = settled(job, last)
    again = claimed(lifecycle.retry(failed, NOW).apply(failed))
    assert lifecycle.settle(again, last, NOW).then[0][0].id not in ids


def test_ten_thousand_jobs_that_fail_at_once_do_not_start_at_once():
    """Of the 10 s between the shortest and the longest delay no tenth of a second has more than twice its share."""
    chance = Random(1)
    delay = Retry(3, exponential(20))
    job = running(retry=delay)
    starts = [settled(job, FAILED, NOW, chance.random()).run_at - NOW for _ in range(10_000)]
    assert min(starts) >= 10
    assert max(starts) <= 20
    crowds = Counter(int(start * 10) for start in starts)
    assert len(crowds) == 100
    assert max(crowds.values()) <= 200
