"""The cases of `expired` and of `Change.then`: jobs that do not begin in time, and jobs that follow a failure."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

from dataclasses import replace

import pytest

from heavylift.core import lifecycle
from heavylift.core.errors import DuplicateJob
from heavylift.core.job import Error, Job, State
from heavylift.core.options import FollowUp, Options, Slots
from heavylift.core.outcome import VANISHED, Cancelled, Crashed, Failed, Interrupted, Outcome, TimedOut
from heavylift.store import Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases

TELL = FollowUp("tell", Options(queue="ops"))
LAST = Failed(Error("failed", "it broke"), retryable=False)
ENDS: dict[str, Outcome] = {
    "failed": LAST,
    "timed out": TimedOut(Error("timed-out", "too long")),
    "crashed": Crashed(Error("crashed", "its host died")),
    "lost": Interrupted(VANISHED, lost=True),
}


class Ending(StoreCases):
    """What expires, and what follows."""

    async def followers(self, store: Store) -> list[Job]:
        """The jobs that follow others."""
        found = await store.get(await self.found(store, task="tell"))
        return [job for job in found if job is not None]

    async def settle_expired(self, store: Store, clock: FakeClock) -> list[str]:
        """As housekeeping does; the ids of those that were settled."""
        jobs = await store.expired()
        answers = await store.save([lifecycle.expire(job, clock.wall()) for job in jobs])
        return [job.id for job, answer in zip(jobs, answers, strict=True) if answer is not None]

    # --- expiry -------------------------------------------------------------------------------------------------------

    async def test_a_job_that_did_not_begin_in_time_is_found_until_it_is_settled(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "due", "other", expires=10.0)
        await self.added(store, clock, "scheduled", expires=10.0, delay=9.0)
        await self.added(store, clock, "plain", "scheduled-plain", delay=5)
        clock.advance(10)
        assert await store.expired() == []
        clock.advance(0.1)
        for _ in range(2):
            assert sorted(job.id for job in await store.expired()) == ["due", "other", "scheduled"]
        for job in await store.expired():
            assert job == await self.read(store, job.id)
        assert sorted(await self.settle_expired(store, clock)) == ["due", "other", "scheduled"]
        assert await store.expired() == []
        job = await self.read(store, "due")
        assert (job.state, job.attempt, job.finished_at) == (State.FAILED, 0, clock.wall())
        assert job.error == Error("expired", "it was to be started within 10 s, and waited 10.1 s")
        assert [(item.data["state"], item.data.get("outcome")) for item in await self.events(store, "due")] == [
            ("queued", None),
            ("failed", "expired"),
        ]
        (queue,) = await store.queues()
        assert queue.counts == {State.QUEUED: 2, State.FAILED: 3}

    async def test_a_job_that_has_begun_does_not_expire(self, store: Store, clock: FakeClock) -> None:
        (running, back) = await self.started(store, clock, "running", "back", expires=10.0)
        (cancelled,) = await self.added(store, clock, "cancelled", expires=10.0)
        await self.cancel(store, clock, cancelled)
        await self.settle(store, clock, back, Interrupted("drain"))
        clock.advance(20)
        assert await store.expired() == []
        assert [job.id for job in await store.claim("worker", 1, Slots(5))] == ["back"]
        await self.settle(store, clock, running)

    async def test_a_claim_begins_no_job_that_is_to_have_begun(self, store: Store, clock: FakeClock) -> None:
        await store.beat(self.worker(), LEASE)
        await self.added(store, clock, "late-1", "late-2", expires=10.0)
        await self.added(store, clock, "urgent", expires=10.0, priority=9)
        await self.added(store, clock, "scheduled", expires=11.0, delay=10.5)
        clock.advance(10)
        assert [job.id for job in await store.claim("worker", 1, Slots(1))] == ["urgent"]
        await self.added(store, clock, "good")
        clock.advance(1.1)
        assert [job.id for job in await store.claim("worker", 1, Slots(3))] == ["good"]
        assert await self.settle_expired(store, clock) == [], "the claim has met them all"
        for name in ("late-1", "late-2", "scheduled"):
            job = await self.read(store, name)
            assert (job.state, job.attempt, job.error and job.error.code) == (State.FAILED, 0, "expired")
        (queue,) = await store.queues()
        assert queue.counts == {State.RUNNING: 2, State.FAILED: 3}

    async def test_expired_jobs_that_a_claim_meets_are_counted(self, store: Store, clock: FakeClock) -> None:
        await store.beat(self.worker(), LEASE)
        await self.added(store, clock, "a", "b", expires=1.0)
        clock.advance(2)
        assert await store.claim("worker", 1, Slots(9)) == []
        assert await store.counts() == {("finished", "task", "failed"): 2, ("faults", "expired"): 2}

    async def test_many_expired_jobs_hide_none_behind_them(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, *[f"{number}" for number in range(450)], expires=1.0)
        await self.added(store, clock, "behind")
        await store.beat(self.worker(), LEASE)
        clock.advance(2)
        found: list[Job] = []
        async with store.watch(worker="worker") as hints:
            for _ in range(500):
                found += await store.claim("worker", 1, Slots(2))
                if found:
                    break
                assert await hints.wait(5), "who has to come again is told so"
        assert [job.id for job in found] == ["behind"]
        (queue,) = await store.queues()
        assert queue.counts == {State.RUNNING: 1, State.FAILED: 450}

    async def test_an_expired_job_frees_its_unique_key(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "a", unique="k", expires=1.0)
        clock.advance(2)
        assert await self.settle_expired(store, clock) == ["a"]
        await self.added(store, clock, "b", unique="k")

    async def test_an_expired_job_can_be_retried(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "a", expires=1.0)
        clock.advance(2)
        await self.settle_expired(store, clock)
        await store.save([lifecycle.retry(await self.read(store, "a"), clock.wall())])
        assert (await self.read(store, "a")).expires_at is None
        assert await store.expired() == []
        await store.beat(self.worker(), LEASE)
        assert [job.id for job in await store.claim("worker", 1, Slots(1))] == ["a"]

    async def test_of_an_expiry_and_a_claim_the_first_wins(self, store: Store, clock: FakeClock) -> None:
        await store.beat(self.worker(), LEASE)
        await self.added(store, clock, "a", expires=1.0)
        clock.advance(1)
        change = lifecycle.expire(await self.read(store, "a"), clock.wall() + 1)
        assert len(await store.claim("worker", 1, Slots(1))) == 1
        assert await store.save([change]) == [None]
        assert (await self.read(store, "a")).state is State.RUNNING

    # --- jobs that follow ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
    async def test_what_follows_a_failure_is_added_with_it(
        self, store: Store, other: Store, clock: FakeClock, end: Outcome
    ) -> None:
        (job,) = await self.started(store, clock, "a", on_exhausted=TELL, retry=1, crashes=1, losses=1)
        await self.settle(store, clock, job, end)
        (follower,) = await self.followers(other)
        assert (follower.queue, follower.state, follower.args) == ("ops", State.QUEUED, b'{"job_id":"a"}')
        assert [item.seq for item in await self.events(store, follower.id)] == [1]
        assert {queue.name: queue.counts for queue in await store.queues()} == {
            "default": {State.FAILED: 1},
            "ops": {State.QUEUED: 1},
        }
        await other.beat(self.worker("w2"), LEASE)
        (begun,) = await other.claim("w2", 1, Slots(1))
        assert begun.id == follower.id
        assert (await self.read(other, "a")).state is State.FAILED, "it sees the end of the one that it follows"

    async def test_what_follows_an_expiry_is_added_with_it(self, store: Store, clock: FakeClock) -> None:
        await store.beat(self.worker(), LEASE)
        await self.added(store, clock, "a", "b", expires=1.0, on_exhausted=TELL)
        clock.advance(2)
        (a,) = (job for job in await store.expired() if job.id == "a")
        await store.save([lifecycle.expire(a, clock.wall())])
        begun = [await store.claim("worker", 1, Slots(1)) for _ in range(3)]
        assert [job.task for jobs in begun for job in jobs] == ["tell", "tell"]
        assert sorted(job.args for job in await self.followers(store)) == [b'{"job_id":"a"}', b'{"job_id":"b"}']

    @pytest.mark.parametrize("takes", ["replace", "debounce"])
    async def test_what_follows_an_expiry_that_a_claim_meets_never_cancels_what_it_begins(
        self, store: Store, clock: FakeClock, takes: str
    ) -> None:
        options = Options(unique="told", unique_until="start", priority=1)
        options = options.using(debounce=1.0) if takes == "debounce" else options.using(on_conflict="replace")
        await store.beat(self.worker(), LEASE)
        await self.added(store, clock, "late", expires=1.0, on_exhausted=FollowUp("tell", options), priority=9)
        first = lifecycle.submit("first", "tell", b"{}", options, clock.wall())
        await store.add([first])
        clock.advance(2)
        begun = await store.claim("worker", 1, Slots(1))
        for job in begun:
            assert (await self.read(store, job.id)).state is State.RUNNING
        (queue,) = await store.queues()
        states = [job.state for job in await store.get(await self.found(store)) if job is not None]
        assert queue.counts == {state: states.count(state) for state in set(states)}
        last = [item.data["state"] for item in await self.events(store, "first") if item.kind == "state"]
        assert "cancelled" not in last[:-1], "what is over does not begin"

    async def test_nothing_follows_a_change_that_is_refused(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a", on_exhausted=TELL)
        change = lifecycle.settle(job, LAST, clock.wall())
        assert len(change.then) == 1
        late = lifecycle.settle(job, LAST, clock.wall() + 1)
        assert await store.save([change._replace(attempt=7), change, change, late]) == [None, 3, None, None]
        assert await store.save([late]) == [None]
        assert [job.id for job in await self.followers(store)] == [change.then[0][0].id]

    async def test_nothing_follows_another_end(self, store: Store, clock: FakeClock) -> None:
        jobs = await self.started(store, clock, "a", "b", "c", "d", on_exhausted=TELL, retry=2)
        await self.settle(store, clock, jobs[0])
        await self.settle(store, clock, await self.cancel(store, clock, jobs[1]), Cancelled())
        await self.settle(store, clock, await self.cancel(store, clock, jobs[2]), Interrupted(VANISHED, lost=True))
        await self.settle(store, clock, jobs[3], Failed(Error("failed", "again")))
        await self.cancel(store, clock, await self.read(store, "d"))
        (waiting,) = await self.added(store, clock, "e", on_exhausted=TELL)
        await self.cancel(store, clock, waiting)
        assert await self.followers(store) == []

    async def test_each_end_of_a_job_that_was_retried_is_followed(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a", on_exhausted=TELL)
        failed = await self.settle(store, clock, job, LAST)
        await store.save([lifecycle.retry(failed, clock.wall())])
        (again,) = await store.claim("worker", 1, Slots(1), ["default"])
        await self.settle(store, clock, again, LAST)
        assert len(await self.followers(store)) == 2

    async def test_no_full_queue_refuses_what_follows(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a", on_exhausted=TELL)
        await store.set_queue("ops", max_size=1)
        await self.added(store, clock, "x", queue="ops")
        await self.settle(store, clock, job, LAST)
        (queue,) = (queue for queue in await store.queues() if queue.name == "ops")
        assert queue.counts == {State.QUEUED: 2}

    async def test_what_follows_has_its_unique_key(self, store: Store, clock: FakeClock) -> None:
        follow = FollowUp("tell", Options(unique="told", on_conflict="reject"))
        jobs = await self.started(store, clock, "a", "b", on_exhausted=follow)
        for job in jobs:
            await self.settle(store, clock, job, LAST)
        assert len(await self.followers(store)) == 1
        (refused,) = await store.add([self.job(clock, unique="told", on_conflict="reject")])
        assert isinstance(refused, DuplicateJob)

    async def test_what_follows_is_there_once_whatever_its_id_was_used_for(
        self, store: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a", on_exhausted=TELL)
        change = lifecycle.settle(job, LAST, clock.wall())
        await store.add(change.then)
        assert await store.save([change]) == [3]
        assert len(await self.followers(store)) == 1

    async def test_what_follows_wakes_a_worker(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a", on_exhausted=TELL)
        async with store.watch(worker="worker") as hints:
            while await hints.wait(0):
                pass
            await self.settle(store, clock, job, LAST)
            assert await hints.wait(10)

    async def test_any_change_may_have_jobs_that_follow(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        new = [self.job(clock, name, args=b'"' + b"x" * 5_000 + b'"') for name in ("f", "g")]
        change = lifecycle.settle(job, LAST, clock.wall())._replace(then=tuple(new))
        assert await store.save([change]) == [3]
        assert (await self.read(store, "f")).args == new[0][0].args
        assert replace(await self.read(store, "g"), args=b"") == replace(new[1][0], args=b"")
