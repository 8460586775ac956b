"""The cases of unique keys: in `add`, `save` and `prune`."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from heavylift.core import lifecycle
from heavylift.core.errors import DuplicateJob, QueueFull, SubmitError
from heavylift.core.job import Error, Job, State
from heavylift.core.options import Slots
from heavylift.core.outcome import Failed
from heavylift.core.retention import Retention
from heavylift.core.retry import Retry, fixed
from heavylift.store import DEBOUNCE_MOST, Added, CancelOrder, Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases

MODES = ("return", "reject", "replace", "queue-one")
BROKEN = Failed(Error("failed", "it broke"))


class UniqueKeys(StoreCases):
    """Who has a key, and what becomes of another job that wants it."""

    async def want(self, store: Store, clock: FakeClock, name: str, **options: Any) -> Added | SubmitError:
        """What a submit of the key "k" is answered."""
        (answer,) = await store.add([self.job(clock, name, **{"unique": "k"} | options)])
        return answer

    async def kept(self, store: Store, clock: FakeClock, name: str, **options: Any) -> Job:
        """A new job with the key "k"."""
        answer = await self.want(store, clock, name, **options)
        assert isinstance(answer, Added)
        assert answer.created
        return answer.job

    async def holder(self, store: Store, clock: FakeClock, name: str = "asks", **options: Any) -> str:
        """Whose key "k" is, as a submit of it is answered that is not kept."""
        answer = await self.want(store, clock, name, **options)
        assert isinstance(answer, Added)
        assert not answer.created
        assert await store.get([name]) == [None]
        return answer.job.id

    async def begun_now(self, store: Store, slots: int = 9) -> list[Job]:
        """The jobs that a worker begins now, by id."""
        await store.beat(self.worker(), LEASE)
        return sorted(await store.claim("worker", 1, Slots(slots)), key=lambda job: job.id)

    # --- return, reject -----------------------------------------------------------------------------------------------

    async def test_a_taken_unique_key_returns_its_holder(self, store: Store, clock: FakeClock) -> None:
        (holder,) = await self.added(store, clock, "a", unique="k")
        free, taken = await store.add([self.job(clock, "b", unique="other"), self.job(clock, "c", unique="k")])
        assert taken == Added(holder, created=False)
        assert isinstance(free, Added)
        assert free.created
        assert await store.get(["c"]) == [None]
        assert await self.events(store, "c") == []

    async def test_a_taken_unique_key_is_refused_if_so_wished(self, store: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "a", unique="k")
        refused = await self.want(store, clock, "b", on_conflict="reject")
        assert isinstance(refused, DuplicateJob)
        assert (refused.unique, refused.existing) == ("k", "a")
        assert await store.get(["b"]) == [None]

    async def test_a_unique_key_twice_in_one_call_is_one_job(self, store: Store, clock: FakeClock) -> None:
        first, second = await store.add([self.job(clock, "a", unique="k"), self.job(clock, "b", unique="k")])
        assert isinstance(first, Added)
        assert second == Added(first.job, created=False)

    async def test_a_unique_key_is_free_when_its_job_is_over(self, store: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, "a", unique="k")
        (waiting,) = await self.added(store, clock, "b", unique="k")
        await self.cancel(store, clock, waiting)
        await self.added(store, clock, "c", unique="k")

    async def test_a_job_keeps_its_unique_key_through_its_attempts(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a", unique="k", retry=Retry(2, fixed(0)))
        assert await self.holder(store, clock) == "a"
        await self.settle(store, clock, job, BROKEN)
        assert await self.holder(store, clock) == "a"
        (again,) = await self.begun_now(store)
        await self.settle(store, clock, again, BROKEN)
        await self.kept(store, clock, "b")

    @pytest.mark.parametrize("mode", MODES)
    async def test_the_same_submit_again_is_the_same_job_in_every_mode(
        self, store: Store, clock: FakeClock, mode: str
    ) -> None:
        job = await self.kept(store, clock, "a", on_conflict=mode)
        assert await self.want(store, clock, "a", on_conflict=mode) == Added(job, created=False)

    async def test_two_processes_that_want_a_key_at_once_have_one_job(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        wishes = [[self.job(clock, f"{side}-{number}", unique="k") for number in range(40)] for side in "ab"]
        answers = await asyncio.gather(
            *[each.add([wish]) for each, side in zip((store, other), wishes, strict=True) for wish in side]
        )
        found = [answer for (answer,) in answers if isinstance(answer, Added)]
        assert len(found) == 80
        assert sum(answer.created for answer in found) == 1
        assert len({answer.job.id for answer in found}) == 1
        assert (await store.queues())[0].counts == {State.QUEUED: 1}

    # --- replace ------------------------------------------------------------------------------------------------------

    async def test_replace_cancels_the_one_that_waits(self, store: Store, clock: FakeClock) -> None:
        before = await self.kept(store, clock, "a")
        clock.advance(1)
        job = await self.kept(store, clock, "b", on_conflict="replace")
        change = lifecycle.replaced(before, "b", clock.wall())
        assert change is not None
        assert await self.read(store, "a") == change.apply(before)
        (event,) = await self.events(store, "a", after=1)
        assert event.data == {"state": "cancelled", "attempt": 0, "reason": "replaced by job b"}
        assert await self.holder(store, clock) == "b"
        assert [each.id for each in await self.begun_now(store)] == [job.id]

    async def test_replace_asks_the_one_that_runs_to_stop(self, store: Store, clock: FakeClock) -> None:
        (running,) = await self.started(store, clock, "a", unique="k")
        await self.kept(store, clock, "b", on_conflict="replace")
        asked = await self.read(store, "a")
        assert asked.state is State.RUNNING
        assert asked.cancel is not None
        assert asked.cancel.reason == "replaced by job b"
        mailbox = await store.beat(self.worker(), LEASE)
        assert mailbox.cancels == (CancelOrder("a", 1, asked.cancel),)
        # One that it has been asked for is not asked again; the third takes the place of the second.
        await self.kept(store, clock, "c", on_conflict="replace")
        assert await self.read(store, "a") == asked
        assert (await self.read(store, "b")).state is State.CANCELLED
        assert await self.holder(store, clock) == "c"
        assert running.attempt == 1

    async def test_of_many_that_replace_each_other_in_one_call_the_last_stays(
        self, store: Store, clock: FakeClock
    ) -> None:
        jobs = [self.job(clock, name, unique="k", on_conflict="replace") for name in "abcde"]
        answers = await store.add(jobs)
        assert [isinstance(answer, Added) and answer.created for answer in answers] == [True] * 5
        assert await self.states(store, *"abcde") == ["cancelled"] * 4 + ["queued"]
        assert (await store.queues())[0].counts == {State.QUEUED: 1, State.CANCELLED: 4}

    async def test_who_is_replaced_does_not_hold_the_key_by_its_time(self, store: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, "over", unique="k", unique_for=900)
        await self.kept(store, clock, "a", on_conflict="replace", unique_for=900)
        waiting = await self.kept(store, clock, "b", on_conflict="replace")
        await self.cancel(store, clock, waiting)
        await self.kept(store, clock, "c")

    # --- queue-one ----------------------------------------------------------------------------------------------------

    async def test_queue_one_lets_one_wait_beside_the_one_that_runs(self, store: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "a", unique="k", on_conflict="queue-one")
        await self.kept(store, clock, "b", on_conflict="queue-one")
        assert await self.holder(store, clock, on_conflict="queue-one") == "b"
        assert await self.states(store, "a", "b") == ["running", "queued"]

    async def test_queue_one_keeps_one_of_many_in_a_call(self, store: Store, clock: FakeClock) -> None:
        answers = await store.add([self.job(clock, name, unique="k", on_conflict="queue-one") for name in "abc"])
        assert [isinstance(answer, Added) and answer.job.id for answer in answers] == ["a", "a", "a"]

    async def test_of_several_that_wait_the_last_is_returned(self, store: Store, clock: FakeClock) -> None:
        (running,) = await self.started(store, clock, "a", unique="k", retry=Retry(3, fixed(0)))
        await self.kept(store, clock, "b", on_conflict="queue-one")
        await self.settle(store, clock, running, BROKEN)
        assert await self.states(store, "a", "b") == ["queued", "queued"]
        assert [await self.holder(store, clock, on_conflict=mode) for mode in ("queue-one", "return")] == ["b", "b"]
        await self.kept(store, clock, "c", on_conflict="replace")
        assert await self.states(store, "a", "b") == ["cancelled", "cancelled"]

    # --- until when ---------------------------------------------------------------------------------------------------

    async def test_a_key_until_the_start_is_free_when_its_job_has_begun(self, store: Store, clock: FakeClock) -> None:
        await self.kept(store, clock, "a", unique_until="start", retry=Retry(3, fixed(0)))
        assert await self.holder(store, clock) == "a"
        (job,) = await self.begun_now(store)
        await self.kept(store, clock, "b", unique_until="start")
        # What comes back from its attempt has begun, and what runs makes room for nobody.
        await self.settle(store, clock, job, BROKEN)
        assert await self.holder(store, clock) == "b"
        assert [job.id for job in await self.begun_now(store)] == ["a", "b"]
        await self.kept(store, clock, "c", on_conflict="replace")
        assert (await self.read(store, "a")).cancel is None

    async def test_a_key_is_taken_for_its_time_whatever_becomes_of_the_job(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.finished(store, clock, "a", unique="k", unique_for=90)
        clock.advance(89.5)
        assert await self.holder(store, clock) == "a"
        refused = await self.want(store, clock, "b", on_conflict="reject")
        assert isinstance(refused, DuplicateJob)
        assert refused.existing == "a"
        clock.advance(0.5)
        await self.kept(store, clock, "b")

    async def test_a_time_that_is_over_frees_no_key_of_a_job_that_is_not(self, store: Store, clock: FakeClock) -> None:
        job = await self.kept(store, clock, "a", unique_for=90)
        clock.advance(91)
        await store.prune(Retention())
        assert await self.holder(store, clock) == "a"
        await self.cancel(store, clock, job)
        await self.kept(store, clock, "b")

    async def test_pruning_a_job_frees_no_key(self, store: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, "a", unique="k", unique_for=900)
        clock.advance(61)
        assert await store.prune(Retention(age=0.0)) == 1
        for mode in ("return", "reject"):
            refused = await self.want(store, clock, "b", on_conflict=mode)
            assert isinstance(refused, DuplicateJob)
            assert (refused.unique, refused.existing) == ("k", "a")
        clock.advance(839)
        await store.prune(Retention())
        await self.kept(store, clock, "b")

    async def test_a_pruned_job_whose_id_is_used_again_leaves_that_one_no_key(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.finished(store, clock, "a", unique="k", unique_for=900)
        clock.advance(61)
        await store.prune(Retention(age=0.0))
        await self.added(store, clock, "a", unique="other")
        refused = await self.want(store, clock, "b")
        assert isinstance(refused, DuplicateJob)
        await self.kept(store, clock, "c", on_conflict="replace")
        assert (await self.read(store, "a")).state is State.QUEUED

    async def test_of_those_that_hold_a_key_by_their_time_the_last_is_returned(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.finished(store, clock, "a", unique="k", unique_for=900)
        await self.finished(store, clock, "b", unique="k", unique_for=90, on_conflict="queue-one")
        assert await self.holder(store, clock) == "b"
        clock.advance(91)
        assert await self.holder(store, clock) == "a"

    async def test_queue_one_and_replace_do_not_wait_for_the_time(self, store: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, "a", unique="k", unique_for=900)
        (job,) = await self.started(store, clock, "b", unique="k", on_conflict="queue-one")
        await self.settle(store, clock, job)
        assert await self.holder(store, clock) == "a"
        await self.kept(store, clock, "c", on_conflict="replace")
        assert await self.holder(store, clock) == "c"

    # --- retries ------------------------------------------------------------------------------------------------------

    async def test_a_job_that_is_retried_takes_its_unique_key_again_if_it_is_free(
        self, store: Store, clock: FakeClock
    ) -> None:
        (over,) = await self.finished(store, clock, "a", unique="k")
        await store.save([lifecycle.retry(over, clock.wall())])
        assert await self.holder(store, clock) == "a"

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_retry_is_refused_while_another_job_has_the_key(
        self, store: Store, clock: FakeClock, mode: str
    ) -> None:
        (over,) = await self.finished(store, clock, "a", unique="k", on_conflict=mode)
        other = await self.kept(store, clock, "b", on_conflict=mode, unique_for=900)
        (refused,) = await store.save([lifecycle.retry(over, clock.wall())])
        assert isinstance(refused, DuplicateJob)
        assert (refused.unique, refused.existing) == ("k", "b")
        assert await self.read(store, "a") == over
        # What is over keeps no other one from its retry, though its time is not over.
        await self.cancel(store, clock, other)
        assert await store.save([lifecycle.retry(over, clock.wall())]) == [over.seq + 1]
        assert await self.holder(store, clock) == "a"

    async def test_a_key_until_the_start_is_taken_by_a_retry_until_it_begins(
        self, store: Store, clock: FakeClock
    ) -> None:
        (over,) = await self.finished(store, clock, "a", unique="k", unique_until="start")
        await store.save([lifecycle.retry(over, clock.wall())])
        assert await self.holder(store, clock) == "a"
        assert len(await self.begun_now(store)) == 1
        await self.kept(store, clock, "b")

    # --- debounce -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("mode", ["return", "replace", "queue-one"])
    async def test_debounce_takes_the_place_of_the_one_that_waits(
        self, store: Store, clock: FakeClock, mode: str
    ) -> None:
        for name in "abc":
            job = await self.kept(store, clock, name, debounce=5, on_conflict=mode)
            assert job.run_at == clock.wall() + 5
            clock.advance(2)
        assert await self.states(store, *"abc") == ["cancelled", "cancelled", "queued"]
        assert await self.begun_now(store) == []
        clock.advance(3)
        assert [job.id for job in await self.begun_now(store)] == ["c"]

    async def test_debounce_puts_a_job_off_for_a_few_times_only(self, store: Store, clock: FakeClock) -> None:
        names, latest = [f"{number}" for number in range(2 * DEBOUNCE_MOST)], clock.wall() + 4 * DEBOUNCE_MOST
        for name in names:
            job = await self.kept(store, clock, name, debounce=4)
            assert job.run_at == min(clock.wall() + 4, latest)
            assert await self.read(store, name) == job
            assert (await self.events(store, name))[0].data["run_at"] == job.run_at
            clock.advance(2)
        assert clock.wall() == latest
        assert [job.id for job in await self.begun_now(store)] == names[-1:]
        # It has begun: a new row begins.
        assert (await self.kept(store, clock, "new", debounce=4)).run_at == clock.wall() + 4

    async def test_a_job_that_nobody_started_in_its_time_is_put_off_no_more(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.kept(store, clock, "a", debounce=4)
        clock.advance(60)
        job = await self.kept(store, clock, "b", debounce=4)
        assert job.run_at == clock.wall()
        assert [each.id for each in await self.begun_now(store)] == ["b"]

    async def test_a_delay_is_kept_beside_a_debounce(self, store: Store, clock: FakeClock) -> None:
        await self.kept(store, clock, "a", debounce=1)
        assert (await self.kept(store, clock, "b", debounce=1, delay=600)).run_at == clock.wall() + 600

    @pytest.mark.parametrize("mode", ["return", "replace", "queue-one"])
    async def test_debounce_waits_beside_the_one_that_runs(self, store: Store, clock: FakeClock, mode: str) -> None:
        await self.started(store, clock, "a", unique="k")
        await self.kept(store, clock, "b", debounce=5, on_conflict=mode)
        asked = (await self.read(store, "a")).cancel is not None
        assert asked == (mode == "replace"), "only replace stops what runs"

    async def test_debounce_does_not_count_the_wait_of_a_job_that_has_begun(
        self, store: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a", unique="k", retry=Retry(3, fixed(600)))
        await self.settle(store, clock, job, BROKEN)
        clock.advance(100)
        assert (await self.kept(store, clock, "b", debounce=5)).run_at == clock.wall() + 5
        assert (await self.read(store, "a")).state is State.CANCELLED

    # --- bounded queues -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("options", [{"on_conflict": "replace"}, {"debounce": 5}])
    async def test_a_full_queue_has_room_for_one_that_takes_anothers_place(
        self, store: Store, clock: FakeClock, options: dict[str, Any]
    ) -> None:
        await store.set_queue("q", max_size=2)
        await self.added(store, clock, "x", queue="q")
        await self.kept(store, clock, "a", queue="q")
        await self.kept(store, clock, "b", queue="q", **options)
        assert await self.states(store, "a", "b") == ["cancelled", "queued"]

    async def test_a_full_queue_refuses_one_that_would_replace_a_job_elsewhere(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.set_queue("q", max_size=1)
        await self.added(store, clock, "x", queue="q")
        await self.kept(store, clock, "a")
        before = await self.read(store, "a")
        assert isinstance(await self.want(store, clock, "b", queue="q", on_conflict="replace"), QueueFull)
        assert await self.read(store, "a") == before, "a refused job cancels nobody"
        assert await self.holder(store, clock) == "a"

    async def states(self, store: Store, *names: str) -> Sequence[str]:
        """The states of jobs."""
        return [(await self.read(store, name)).state for name in names]
