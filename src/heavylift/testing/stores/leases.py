"""The cases of `beat`, `retire`, `sweep` and `workers`."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

from typing import Any

import pytest

from heavylift.core import lifecycle
from heavylift.core.job import CancelRequest, State
from heavylift.core.options import Slots
from heavylift.core.outcome import Interrupted
from heavylift.store import CancelOrder, LeaseLost, Mailbox, Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, SUCCESS, StoreCases

LOST = Interrupted("its worker vanished", lost=True)


class Leases(StoreCases):
    """Who may run what, and for how long."""

    async def swept(self, store: Store, *, others: bool = True, worker: str = "sweeper") -> list[str]:
        """The ids of the jobs that a sweep returns."""
        return sorted(job.id for job in await store.sweep(worker, others=others))

    async def test_a_worker_registers_with_its_first_beat(self, store: Store, clock: FakeClock) -> None:
        early = self.worker("early", started_at=1.0, queues=("a", "b"), running=3)
        late = self.worker("late", started_at=2.0, draining=True)
        for worker in (late, early):
            assert await store.beat(worker, LEASE) == Mailbox(alive=True)
        clock.advance(4)
        await store.beat(late, LEASE)
        one, two = await store.workers()
        assert (one.worker, one.beat_age, one.dead) == (early, 4.0, False)
        assert (two.worker, two.beat_age, two.dead) == (late, 0.0, False)

    async def test_a_worker_that_beats_keeps_its_jobs(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        for _ in range(4):
            clock.advance(LEASE - 1)
            await store.beat(self.worker(), LEASE)
            assert await self.swept(store) == []
        await self.settle(store, clock, job)

    async def test_a_worker_can_ask_what_it_holds(self, store: Store, clock: FakeClock) -> None:
        one, two = await self.started(store, clock, "a", "b")
        await self.settle(store, clock, one)
        assert await store.held(two.worker or "", two.epoch or 0) == {"b": two.attempt}
        assert await store.held(two.worker or "", 9) == {}
        assert await store.held("another", 1) == {}
        clock.advance(LEASE + 1)
        assert await self.swept(store) == ["b"]
        assert await store.held(two.worker or "", two.epoch or 0) == {"b": two.attempt}

    async def test_a_lease_that_ran_out_is_for_others_to_declare_when_they_may(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.started(store, clock, "a", "b")
        clock.advance(LEASE)
        assert await self.swept(store) == []
        clock.advance(0.001)
        assert await self.swept(store, others=False) == []
        assert (await store.workers())[0].dead
        assert await self.swept(store) == ["a", "b"]
        assert await self.swept(store, others=False) == ["a", "b"]

    async def test_the_wall_clock_ends_no_lease(self, store: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "a")
        clock.set_wall(clock.wall() + 10**6)
        assert await self.swept(store) == []

    async def test_who_was_away_itself_declares_nobody_before_it_has_beaten(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.started(store, clock, "a")
        await store.beat(self.worker("resumed"), LEASE)
        clock.advance(LEASE * 3)  # all of them were suspended
        assert await self.swept(store, worker="resumed") == []
        assert (await store.beat(self.worker(), LEASE)).alive
        clock.advance(LEASE + 1)
        await store.beat(self.worker("resumed"), LEASE)
        clock.advance(LEASE / 2)
        assert await self.swept(store, worker="resumed") == ["a"]

    async def test_who_was_away_still_sees_whose_process_is_gone(self, store: Store, clock: FakeClock) -> None:
        await store.beat(self.worker("resumed"), LEASE)
        await self.started(store, clock, "a")
        await store.beat(self.worker(process_started=1), LEASE)
        clock.advance(LEASE * 3)
        assert await self.swept(store, worker="resumed") == ["a"]

    async def test_nobody_declares_itself_dead(self, store: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "a")
        clock.advance(LEASE * 10)
        assert await self.swept(store, worker="worker") == []
        assert (await store.beat(self.worker(), LEASE)).alive

    @pytest.mark.parametrize(
        "marks", [{"process_started": 1}, {"pid": 2**22 + 1}], ids=["another process", "no process"]
    )
    async def test_a_worker_whose_process_is_gone_is_dead_at_once(
        self, store: Store, clock: FakeClock, marks: dict[str, Any]
    ) -> None:
        await self.started(store, clock, "a")
        await store.beat(self.worker(**marks), LEASE)
        assert await self.swept(store, others=False) == ["a"]

    async def test_of_a_dead_worker_those_come_first_that_lost_most(self, store: Store, clock: FakeClock) -> None:
        _, twice, once = await self.started(store, clock, "never", "twice", "once")
        for job in (twice, twice, once):
            (current,) = await store.get([job.id])
            assert current is not None
            await self.settle(store, clock, current, LOST)
            (again,) = await store.claim("worker", 1, Slots(1))
            assert again.id == job.id
        clock.advance(LEASE + 1)
        assert [job.id for job in await store.sweep("sweeper", others=True)] == ["twice", "once", "never"]

    @pytest.mark.parametrize("marks", [{"boot_id": "another"}, {"pid_namespace": "pid:[1]"}], ids=str)
    async def test_a_process_that_cannot_be_seen_is_not_judged_by_its_pid(
        self, store: Store, clock: FakeClock, marks: dict[str, Any]
    ) -> None:
        await self.started(store, clock, "a")
        await store.beat(self.worker(process_started=1, **marks), LEASE)
        assert await self.swept(store, others=False) == []

    async def test_jobs_are_returned_until_somebody_settled_them(self, store: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "a", "b")
        clock.advance(LEASE + 1)
        one, two = await store.sweep("sweeper", others=True)
        assert await self.swept(store, worker="second") == ["a", "b"]
        await self.settle(store, clock, one, LOST)
        assert await self.swept(store) == [two.id]
        await self.settle(store, clock, two, LOST)
        assert await self.swept(store) == []
        assert await store.workers() == []

    async def test_of_two_who_sweep_one_settles(self, store: Store, other: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "a")
        clock.advance(LEASE + 1)
        (mine,), (theirs,) = await store.sweep("one", others=True), await other.sweep("two", others=True)
        changes = [lifecycle.settle(job, LOST, clock.wall()) for job in (mine, theirs)]
        assert await store.save(changes[:1]) == [3]
        assert await other.save(changes[1:]) == [None]
        assert (await self.read(store, "a")).losses == 1

    async def test_a_sweep_returns_a_few_hundred_jobs_at_a_time(self, store: Store, clock: FakeClock) -> None:
        await self.started(store, clock, *[f"{number}" for number in range(250)])
        clock.advance(LEASE + 1)
        jobs = await store.sweep("sweeper", others=True)
        assert len(jobs) == 200
        await store.save([lifecycle.settle(job, LOST, clock.wall()) for job in jobs])
        assert len(await store.sweep("sweeper", others=True)) == 50

    async def test_the_living_keep_their_jobs_when_others_die(self, store: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "a", worker="gone")
        clock.advance(LEASE + 1)
        await self.started(store, clock, "b", worker="alive")
        assert await self.swept(store) == ["a"]

    # --- the dead -----------------------------------------------------------------------------------------------------

    async def test_a_dead_epoch_beats_in_vain_and_a_new_one_lives(self, store: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "a")
        clock.advance(LEASE + 1)
        (orphan,) = await store.sweep("sweeper", others=True)
        assert await store.beat(self.worker(), LEASE) == Mailbox(alive=False)
        assert await store.beat(self.worker(epoch=2), LEASE) == Mailbox(alive=True)
        assert await store.beat(self.worker(epoch=1), LEASE) == Mailbox(alive=False)
        assert await self.swept(store) == ["a"], "what the dead epoch held is not the new one's"
        await self.settle(store, clock, orphan, LOST)
        (again,) = await store.claim("worker", 2, Slots(1))
        assert (again.attempt, again.epoch) == (2, 2)
        assert await self.swept(store) == []

    async def test_a_dead_epoch_is_refused_after_its_jobs_are_settled(self, store: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "a")
        clock.advance(LEASE + 1)
        (orphan,) = await store.sweep("sweeper", others=True)
        await self.settle(store, clock, orphan, LOST)
        await store.sweep("sweeper", others=True)
        assert not (await store.beat(self.worker(), LEASE)).alive
        with pytest.raises(LeaseLost):
            await store.claim("worker", 1, Slots(1))

    async def test_what_a_dead_epoch_saves_is_refused(self, store: Store, other: Store, clock: FakeClock) -> None:
        one, two = await self.started(store, clock, "one", "two")
        clock.advance(LEASE + 1)
        (first, second) = sorted(await other.sweep("sweeper", others=True), key=lambda job: job.id)
        late = [lifecycle.settle(job, SUCCESS, clock.wall()) for job in (one, two)]
        assert await store.save(late) == [None, None]
        assert await self.read(store, "one") == first
        await self.settle(other, clock, second, LOST)
        assert await store.save(late) == [None, None]

    async def test_what_a_dead_epoch_saves_is_refused_when_the_next_one_has_begun(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a")
        clock.advance(LEASE + 1)
        await other.sweep("sweeper", others=True)
        assert (await store.beat(self.worker(epoch=2), LEASE)).alive
        assert await store.save([lifecycle.settle(job, SUCCESS, clock.wall())]) == [None]
        assert store.refused == 1
        (orphan,) = await store.sweep("worker", others=False)
        await self.settle(store, clock, orphan, LOST)

    async def test_a_worker_that_says_good_bye_is_forgotten_and_leaves_its_jobs(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.started(store, clock, "a")
        await store.retire("worker", 2)
        assert len(await store.workers()) == 1, "another epoch's good-bye is not this one's"
        await store.retire("worker", 1)
        assert await store.workers() == []
        assert await self.swept(store, others=False) == ["a"]

    # --- the mailbox --------------------------------------------------------------------------------------------------

    async def test_a_beat_brings_the_cancels_of_what_the_worker_runs_until_they_are_settled(
        self, store: Store, clock: FakeClock
    ) -> None:
        jobs = await self.started(store, clock, "a", "b")
        await self.started(store, clock, "c", worker="other")
        request = CancelRequest(clock.wall(), 2.5, force=True, reason="enough")
        await self.cancel(store, clock, jobs[0], grace=2.5, force=True, reason="enough")
        for _ in range(2):
            assert await store.beat(self.worker("other"), LEASE) == Mailbox(alive=True)
            mailbox = await store.beat(self.worker(), LEASE)
            assert mailbox == Mailbox(alive=True, cancels=(CancelOrder("a", 1, request),))
        await self.settle(store, clock, await self.read(store, "a"))
        assert await store.beat(self.worker(), LEASE) == Mailbox(alive=True)

    async def test_a_cancel_of_an_earlier_epochs_job_is_not_this_ones(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        await self.cancel(store, clock, job)
        await store.beat(self.worker(epoch=2), LEASE)
        assert (await store.beat(self.worker(epoch=2), LEASE)).cancels == ()

    async def test_a_lost_job_whose_cancel_was_requested_ends_cancelled(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        await self.cancel(store, clock, job)
        clock.advance(LEASE + 1)
        (orphan,) = await store.sweep("sweeper", others=True)
        await self.settle(store, clock, orphan, LOST)
        assert (await self.read(store, "a")).state is State.CANCELLED
