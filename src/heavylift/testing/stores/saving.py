"""The cases of `save`."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from heavylift.core import event, lifecycle
from heavylift.core.errors import DuplicateJob
from heavylift.core.job import CancelRequest, Change, Error, Job, NewEvent, Progress, State, Stopped
from heavylift.core.options import Slots
from heavylift.core.outcome import Cancelled, Crashed, Failed, Interrupted, Outcome, Snoozed, Succeeded, TimedOut, Usage
from heavylift.core.retry import Retry
from heavylift.store import Added, Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, SUCCESS, StoreCases

BROKEN = Error("failed", "it broke", "app.Broken", "Traceback …", None, None, "stderr\n")
OUTCOMES: dict[str, Outcome] = {
    "succeeded": Succeeded(b'{"n": 1}', Usage(0.5, 0.25, 4096)),
    "succeeded with much": Succeeded(b'"' + b"x" * 500_000 + b'"'),
    "failed": Failed(BROKEN, usage=Usage(1.0)),
    "failed for good": Failed(BROKEN, retryable=False),
    "timed out": TimedOut(Error("timed-out", "too long"), killed=True),
    "crashed": Crashed(Error("crashed", "host died", exit_code=-9, signal="SIGKILL")),
    "cancelled": Cancelled(),
    "killed": Cancelled(killed=True),
    "handed back": Interrupted("drained"),
    "lost": Interrupted("its worker vanished", lost=True),
    "snoozed": Snoozed(30.0),
}


def report(job: Job, at: float, done: float) -> Change:
    """A progress report of a running job."""
    progress = Progress(done, 100.0, done, at=at)
    fact = NewEvent(event.PROGRESS, asdict(progress))
    return Change(job.id, State.RUNNING, job.attempt, {"progress": progress}, (fact,), at)


def checkpoint(job: Job, at: float, value: bytes) -> Change:
    """A checkpoint of a running job."""
    fact = NewEvent(event.CHECKPOINT, {"attempt": job.attempt, "size": len(value)})
    return Change(job.id, State.RUNNING, job.attempt, {"checkpoint": value}, (fact,), at)


def log(job: Job, at: float, text: str) -> Change:
    """A line of a running job's log."""
    fact = NewEvent(event.LOG, {"lines": [{"at": at, "level": "info", "message": text}]})
    fields = {"log_bytes": job.log_bytes + len(text)}
    return Change(job.id, State.RUNNING, job.attempt, fields, (fact,), at)


class Saving(StoreCases):
    """Changes of jobs, under their fence."""

    @pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES.keys())
    async def test_an_outcome_is_kept_as_the_rules_say(self, store: Store, clock: FakeClock, outcome: Outcome) -> None:
        (job,) = await self.started(store, clock, "a")
        clock.advance(2)
        change = lifecycle.settle(job, outcome, clock.wall())
        assert await store.save([change]) == [3]
        assert await self.read(store, "a") == change.apply(job)
        (kept,) = await self.events(store, "a", after=2)
        assert (kept.seq, kept.kind, kept.at, kept.data) == (3, "state", clock.wall(), change.events[0].data)

    async def test_nothing_saved_is_nothing_changed(self, store: Store) -> None:
        assert await store.save([]) == []

    @pytest.mark.parametrize(
        "stale",
        [{"state": State.QUEUED}, {"state": State.SUCCEEDED}, {"attempt": 0}, {"attempt": 2}, {"id": "nobody"}],
        ids=str,
    )
    async def test_a_stale_fence_is_refused_and_counted_and_its_neighbours_are_written(
        self, store: Store, clock: FakeClock, stale: dict[str, Any]
    ) -> None:
        one, two, three = await self.started(store, clock, "one", "two", "three")
        good, bad, fine = (lifecycle.settle(job, SUCCESS, clock.wall()) for job in (one, two, three))
        assert await store.save([good, bad._replace(**stale), fine]) == [3, None, 3]
        assert await self.read(store, "two") == two
        assert len(await self.events(store, "two")) == 2
        assert [(await self.read(store, name)).state for name in ("one", "three")] == [State.SUCCEEDED] * 2
        assert store.refused == 1

    async def test_an_attempt_has_one_outcome(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        first = await self.settle(store, clock, job, Succeeded(b"1"))
        late = [lifecycle.settle(job, outcome, clock.wall()) for outcome in OUTCOMES.values()]
        assert await store.save(late) == [None] * len(late)
        assert await self.read(store, "a") == first
        assert len(await self.events(store, "a")) == 3

    async def test_two_outcomes_of_an_attempt_in_one_call_are_the_first_one(
        self, store: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a")
        changes = [lifecycle.settle(job, Succeeded(value), clock.wall()) for value in (b"1", b"2")]
        assert await store.save(changes) == [3, None]
        assert (await self.read(store, "a")).result == b"1"

    async def test_the_outcome_of_an_earlier_attempt_is_refused(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        (first,) = await self.started(store, clock, "a")
        await self.settle(other, clock, first, Interrupted("lost", lost=True))
        await other.beat(self.worker("second"), LEASE)
        (second,) = await other.claim("second", 1, Slots(1))
        assert await store.save([lifecycle.settle(first, SUCCESS, clock.wall())]) == [None]
        assert await self.read(store, "a") == second
        await self.settle(other, clock, second)

    async def test_a_success_is_kept_although_others_wrote_the_job_meanwhile(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        jobs = await self.started(store, clock, "a", "b", "c")
        cancelled = await self.cancel(other, clock, jobs[1])
        changes = [lifecycle.settle(job, SUCCESS, clock.wall()) for job in jobs]
        assert await store.save(changes) == [3, 4, 3]
        after = await self.read(store, "b")
        assert (after.state, after.cancel) == (State.SUCCEEDED, cancelled.cancel)

    async def test_several_changes_of_a_job_in_one_call_are_written_in_order(
        self, store: Store, clock: FakeClock
    ) -> None:
        one, two = await self.started(store, clock, "one", "two")
        changes = [
            report(one, clock.wall(), 1.0),
            lifecycle.settle(two, SUCCESS, clock.wall()),
            checkpoint(one, clock.wall(), b"[1]"),
            report(one, clock.wall(), 2.0),
            lifecycle.settle(one, SUCCESS, clock.wall()),
        ]
        assert await store.save(changes) == [3, 3, 4, 5, 6]
        job = await self.read(store, "one")
        assert job.progress is not None
        assert (job.state, job.checkpoint, job.progress.done, job.seq) == (State.SUCCEEDED, b"[1]", 2.0, 6)
        kinds = [item.kind for item in await self.events(store, "one")]
        assert kinds == ["state", "state", "progress", "checkpoint", "progress", "state"]

    async def test_only_the_fields_of_a_change_are_written(self, store: Store, other: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        await self.cancel(other, clock, job, reason="enough")
        changes = [report(job, clock.wall(), 5.0), checkpoint(job, clock.wall(), b"7"), log(job, clock.wall(), "hello")]
        assert await store.save(changes) == [4, 5, 6]
        now = await self.read(store, "a")
        assert now.progress is not None
        assert now.cancel is not None
        assert (now.progress.done, now.cancel.reason, now.checkpoint, now.log_bytes) == (5.0, "enough", b"7", 5)

    async def test_a_value_replaces_the_one_before_whatever_their_sizes(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        for size in (10, 300_000, 400_000, 20, 2_048, 2_049):
            await store.save([checkpoint(job, clock.wall(), b"x" * size)])
            assert (await self.read(store, "a")).checkpoint == b"x" * size
        await self.settle(store, clock, await self.read(store, "a"))
        assert (await self.read(store, "a")).checkpoint == b"x" * 2_049

    async def test_every_number_of_a_jobs_events_is_used_once(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a", retry=Retry(100))
        for round_ in range(30):
            changes = [log(job, clock.wall(), "x" * 50), checkpoint(job, clock.wall(), b"1")]
            outcome = Failed(replace(BROKEN, traceback="line\n" * (500 if round_ % 7 == 3 else 5)), delay=0.0)
            changes.append(lifecycle.settle(job, outcome, clock.wall()))
            assert None not in await store.save(changes)
            (job,) = await store.claim("worker", 1, Slots(1))
        items = await self.events(store, "a")
        assert [item.seq for item in items] == list(range(1, job.seq + 1))
        assert [item.kind for item in items[2:6]] == ["log", "checkpoint", "state", "state"]
        assert items[4].data["outcome"] == "failed"
        assert [item.seq for item in await self.events(store, "a", after=100)] == list(range(101, job.seq + 1))

    async def test_progress_is_thinned_and_its_newest_and_all_facts_are_kept(
        self, store: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a")
        for part in range(10):
            clock.advance(1)
            await store.save([report(job, clock.wall(), part * 100.0 + number) for number in range(100)])
        items = await self.events(store, "a")
        samples = [item.data["done"] for item in items if item.kind == "progress"]
        assert 100 <= len(samples) <= 256
        assert samples[-1] == 999.0
        assert samples == sorted(samples)
        assert (await self.read(store, "a")).seq == 1002
        assert [item.seq for item in items if item.kind == "state"] == [1, 2]
        await self.settle(store, clock, await self.read(store, "a"))
        assert (await self.events(store, "a"))[-1].seq == 1003

    # --- cancels ------------------------------------------------------------------------------------------------------

    async def test_a_cancelled_job_never_goes_back_to_its_queue_unknowingly(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a")
        cancelled = await self.cancel(other, clock, job)
        back = lifecycle.settle(job, Interrupted("drained"), clock.wall())
        assert await store.save([back]) == [None]
        assert await self.read(store, "a") == cancelled
        aware = lifecycle.settle(cancelled, Interrupted("drained"), clock.wall())
        assert await store.save([aware]) == [4]
        after = await self.read(store, "a")
        assert (after.state, after.stopped) == (State.CANCELLED, Stopped.BETWEEN_ATTEMPTS)

    async def test_a_cancel_never_overwrites_one_that_it_did_not_know_of(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a")
        first = await self.cancel(other, clock, job, grace=1.0)
        assert await store.save([lifecycle.cancel(job, CancelRequest(clock.wall(), 9.0))]) == [None]
        assert await self.read(store, "a") == first
        sharper = await self.cancel(store, clock, first, force=True)
        assert await self.read(store, "a") == sharper

    async def test_of_two_requests_that_sharpen_the_same_one_neither_is_lost(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a")
        first = await self.cancel(store, clock, job, grace=9.0)
        wishes = [CancelRequest(clock.wall(), force=True), CancelRequest(clock.wall(), 1.0, reason="late")]
        one, two = (lifecycle.cancel(first, wish) for wish in wishes)
        assert (await store.save([one]), await other.save([two])) == ([4], [None])
        between = await self.read(store, "a")
        assert between == one.apply(first)
        both = lifecycle.cancel(between, wishes[1])
        assert await other.save([both]) == [5]
        assert (await self.read(store, "a")).cancel == CancelRequest(clock.wall(), 1.0, force=True, reason="late")
        # In one transaction it is no different.
        assert await store.save([one, two, both]) == [None] * 3

    async def test_a_waiting_job_that_was_cancelled_never_starts(self, store: Store, clock: FakeClock) -> None:
        due, later = [*await self.added(store, clock, "due"), *await self.added(store, clock, "later", delay=9)]
        for job in (due, later):
            await self.cancel(store, clock, job, reason="no")
        clock.advance(10)
        await store.beat(self.worker(), LEASE)
        assert await store.claim("worker", 1, Slots(5)) == []
        assert (await self.read(store, "later")).state is State.CANCELLED

    async def test_a_cancel_of_a_job_that_started_meanwhile_is_refused(self, store: Store, clock: FakeClock) -> None:
        (waiting,) = await self.added(store, clock, "a")
        await store.beat(self.worker(), LEASE)
        (running,) = await store.claim("worker", 1, Slots(1))
        assert await store.save([lifecycle.cancel(waiting, CancelRequest(clock.wall()))]) == [None]
        assert await self.read(store, "a") == running

    # --- back to the queue --------------------------------------------------------------------------------------------

    async def test_a_job_that_is_retried_stands_by_its_new_time(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        await self.settle(store, clock, job, Failed(BROKEN, delay=30.0))
        await self.added(store, clock, "b")
        assert [job.id for job in await store.claim("worker", 1, Slots(5))] == ["b"]
        clock.advance(30)
        (again,) = await store.claim("worker", 1, Slots(5))
        assert (again.id, again.attempt, again.failures, again.error) == ("a", 2, 1, BROKEN)
        await self.settle(store, clock, again)
        assert (await self.read(store, "a")).error is None

    async def test_a_job_that_is_handed_back_keeps_its_place(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        clock.advance(1)
        await self.added(store, clock, "b")
        clock.advance(1)
        await self.settle(store, clock, job, Interrupted("drained"))
        assert [job.id for job in await store.claim("worker", 1, Slots(5))] == ["a", "b"]

    async def test_a_job_that_is_over_can_be_begun_anew(self, store: Store, clock: FakeClock) -> None:
        (over,) = await self.finished(store, clock, "a", outcome=Failed(BROKEN, retryable=False))
        change = lifecycle.retry(over, clock.wall())
        assert await store.save([change, change]) == [4, None]
        assert await self.read(store, "a") == change.apply(over)
        assert (await store.queues())[0].counts == {State.QUEUED: 1}
        (again,) = await store.claim("worker", 1, Slots(5))
        assert again.attempt == 2
        await self.settle(store, clock, again)
        assert (await store.queues())[0].counts == {State.SUCCEEDED: 1}

    async def test_one_that_begins_anew_from_the_start_has_no_checkpoint(self, store: Store, clock: FakeClock) -> None:
        for name, size in (("small", 9), ("large", 300_000)):
            (job,) = await self.started(store, clock, name)
            await store.save([checkpoint(job, clock.wall(), b"x" * size)])
            over = await self.settle(store, clock, await self.read(store, name), Failed(BROKEN, retryable=False))
            change = lifecycle.retry(over, clock.wall(), from_checkpoint=False)
            assert await store.save([change]) == [over.seq + 1]
            (again,) = await store.claim("worker", 1, Slots(5))
            assert again.checkpoint is None

    async def test_one_whose_unique_key_is_taken_by_now_does_not_begin_anew(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        (over,) = await self.finished(store, clock, "a", outcome=Failed(BROKEN, retryable=False), unique="key")
        (neighbour,) = await self.finished(store, clock, "b", outcome=Failed(BROKEN, retryable=False), unique="free")
        (holder,) = await self.started(other, clock, "holder", unique="key")
        changes = [lifecycle.retry(job, clock.wall()) for job in (over, neighbour)]
        refused, seq = await store.save(changes)
        assert isinstance(refused, DuplicateJob)
        assert (refused.unique, refused.existing, seq) == ("key", "holder", 4)
        assert await self.read(store, "a") == over
        assert (await store.queues())[0].counts == {State.FAILED: 1, State.RUNNING: 1, State.QUEUED: 1}
        assert store.refused == 0, "no fence did that"
        # A hand-back keeps the key, and when its holder is over it is free.
        back = await self.settle(other, clock, holder, Interrupted("drained"))
        assert isinstance((await store.save(changes[:1]))[0], DuplicateJob)
        await self.cancel(store, clock, back)
        assert await store.save(changes[:1]) == [4]
        (answer,) = await store.add([self.job(clock, "late", unique="key")])
        assert isinstance(answer, Added)
        assert (answer.job.id, answer.created) == ("a", False), "it has the key again"

    async def test_two_that_begin_anew_at_once_with_one_key_are_one(self, store: Store, clock: FakeClock) -> None:
        jobs = []
        for name in "ab":
            jobs += await self.finished(store, clock, name, outcome=Failed(BROKEN, retryable=False), unique="key")
        first, second = await store.save([lifecycle.retry(job, clock.wall()) for job in jobs])
        assert first == 4
        assert isinstance(second, DuplicateJob)
        assert second.existing == "a"

    async def test_hundreds_of_changes_in_one_call_are_all_answered(self, store: Store, clock: FakeClock) -> None:
        names = [f"{number:03}" for number in range(450)]
        jobs = await self.started(store, clock, *names)
        changes = [lifecycle.settle(job, SUCCESS, clock.wall()) for job in jobs]
        changes[7:7] = [changes[0]._replace(attempt=9)]
        answers = await store.save(changes)
        assert answers == [3] * 7 + [None] + [3] * 443
        assert (await store.queues())[0].counts == {State.SUCCEEDED: 450}
