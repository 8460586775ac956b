"""The cases of `claim`."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from heavylift.core import lifecycle
from heavylift.core.job import Job, State
from heavylift.core.options import PLACES, Slots
from heavylift.core.outcome import Interrupted
from heavylift.store import LeaseLost, Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases


class Claiming(StoreCases):
    """Which jobs begin an attempt."""

    async def claimed(self, store: Store, limit: int, *queues: str) -> list[str]:
        """The ids of jobs that a worker gets."""
        await store.beat(self.worker(), LEASE)
        return [job.id for job in await store.claim("worker", 1, Slots(limit), queues)]

    async def test_a_claim_is_what_the_rules_make_of_the_job(self, store: Store, clock: FakeClock) -> None:
        (new,) = await self.added(store, clock, "a")
        clock.advance(5)
        await store.beat(self.worker(epoch=3), LEASE)
        (job,) = await store.claim("worker", 3, Slots(1))
        change = lifecycle.claim(new, "worker", 3, clock.wall())
        assert job == change.apply(new) == await self.read(store, "a")
        assert (job.state, job.attempt, job.worker, job.epoch) == (State.RUNNING, 1, "worker", 3)
        (event,) = await self.events(store, "a", after=1)
        assert (event.seq, event.kind, event.at, event.data) == (2, "state", clock.wall(), change.events[0].data)

    async def test_a_job_is_claimed_once(self, store: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "a")
        assert await self.claimed(store, 10) == []

    async def test_an_attempt_number_is_never_used_again(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        for attempt in range(1, 5):
            assert job.attempt == attempt
            await self.settle(store, clock, job, Interrupted("drained"))
            (job,) = await store.claim("worker", 1, Slots(1))

    async def test_a_claim_takes_no_more_than_it_was_asked_for(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, *"abcde")
        assert await self.claimed(store, 0) == []
        assert await self.claimed(store, 2) == ["a", "b"]
        assert await self.claimed(store, 10) == ["c", "d", "e"]

    async def test_a_higher_priority_comes_first_and_then_who_came_first(self, store: Store, clock: FakeClock) -> None:
        for name, priority in zip("abcdef", (0, 5, 0, 9, 5, 9), strict=True):
            await self.added(store, clock, name, priority=priority)
        assert await self.claimed(store, 6) == ["d", "f", "b", "e", "a", "c"]

    async def test_each_place_gives_as_many_jobs_as_there_are_slots_for(self, store: Store, clock: FakeClock) -> None:
        for number in range(3):
            for place in PLACES:
                await self.added(store, clock, f"{place}-{number}", run_in=place)
        await store.beat(self.worker(), LEASE)

        async def claimed(slots: Slots) -> list[str]:
            return sorted(job.id for job in await store.claim("worker", 1, slots))

        assert await claimed(Slots()) == []
        assert await claimed(Slots(loop=2)) == ["loop-0", "loop-1"]
        assert await claimed(Slots(process=1, thread=1)) == ["process-0", "thread-0"]
        assert await claimed(Slots(5, 5, 5)) == ["loop-2", "process-1", "process-2", "thread-1", "thread-2"]

    async def test_many_of_each_place_are_claimed_at_once(self, store: Store, clock: FakeClock) -> None:
        for place in PLACES:
            await self.added(store, clock, *(f"{place}-{number:03}" for number in range(300)), run_in=place)
        await store.beat(self.worker(), LEASE)
        claimed = await store.claim("worker", 1, Slots(10, 1000, 250))
        assert Counter(job.options.run_in for job in claimed) == {"process": 10, "loop": 300, "thread": 250}

    async def test_what_waits_for_a_place_without_slots_holds_up_nobody(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, *(f"early-{number}" for number in range(300)))
        clock.advance(1)
        await self.added(store, clock, "late", run_in="loop")
        await self.added(store, clock, "later", run_in="loop", delay=10)
        await store.beat(self.worker(), LEASE)
        assert [job.id for job in await store.claim("worker", 1, Slots(loop=1))] == ["late"]
        clock.advance(10)
        assert [job.id for job in await store.claim("worker", 1, Slots(loop=1))] == ["later"]

    async def test_a_queues_gate_is_that_of_all_its_places(self, store: Store, clock: FakeClock) -> None:
        await store.set_queue("default", concurrency=2)
        for place in PLACES:
            await self.added(store, clock, place, run_in=place)
        await store.beat(self.worker(), LEASE)
        first = await store.claim("worker", 1, Slots(1, 1, 1))
        assert len(first) == 2
        assert await store.claim("worker", 1, Slots(1, 1, 1)) == []
        await self.settle(store, clock, first[0])
        (third,) = await store.claim("worker", 1, Slots(1, 1, 1))
        assert {job.id for job in [*first, third]} == set(PLACES)
        await store.set_queue("default", paused=True)
        await self.added(store, clock, "more", run_in="loop")
        await self.settle(store, clock, third)
        assert await store.claim("worker", 1, Slots(1, 1, 1)) == []

    async def test_no_job_waits_behind_one_of_nine_minutes_later(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "early")
        clock.advance(539)
        await self.added(store, clock, "urgent", priority=9)
        clock.advance(2)
        await self.added(store, clock, "late", priority=9)
        assert await self.claimed(store, 3) == ["urgent", "early", "late"]

    async def test_a_scheduled_job_is_never_early_and_comes_when_it_is_due(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "later", delay=60)
        await self.added(store, clock, "soon", delay=10)
        assert await self.claimed(store, 5) == []
        clock.advance(9.999)
        assert await self.claimed(store, 5) == []
        clock.advance(0.001)
        assert await self.claimed(store, 5) == ["soon"]
        clock.advance(50)
        assert await self.claimed(store, 5) == ["later"]

    async def test_a_scheduled_job_stands_where_its_time_puts_it(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "first", delay=10)
        await self.added(store, clock, "second", delay=20)
        clock.advance(15)
        await self.added(store, clock, "between")
        clock.advance(15)
        assert await self.claimed(store, 5) == ["first", "between", "second"]

    async def test_hundreds_of_jobs_that_are_due_at_once_are_all_claimed(self, store: Store, clock: FakeClock) -> None:
        names = [f"{number:04}" for number in range(650)]
        await self.added(store, clock, *names, delay=10)
        clock.advance(10)
        got: list[str] = []
        while len(got) < 650:
            part = await self.claimed(store, 100)
            assert part
            got += part
        assert got == names

    # --- lanes and gates ----------------------------------------------------------------------------------------------

    async def test_queues_are_served_in_turn(self, store: Store, clock: FakeClock) -> None:
        for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
            await self.added(store, clock, name, queue=name[0])
        assert [await self.claimed(store, 1) for _ in range(6)] == [["a1"], ["b1"], ["c1"], ["a2"], ["b2"], ["a3"]]

    async def test_one_claim_takes_from_all_queues(self, store: Store, clock: FakeClock) -> None:
        for queue, jobs in (("a", 50), ("b", 3), ("c", 50)):
            await self.added(store, clock, *[f"{queue}{number:02}" for number in range(jobs)], queue=queue)
        got = await self.claimed(store, 30)
        by_queue = {queue: [name for name in got if name[0] == queue] for queue in "abc"}
        assert len(got) == 30
        assert len(by_queue["b"]) == 3
        assert min(len(by_queue["a"]), len(by_queue["c"])) >= 10
        for names in by_queue.values():
            assert names == sorted(names)

    async def test_a_queue_that_had_no_jobs_for_long_has_no_claim_on_all_the_turns_since(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "idle", queue="idle")
        await self.added(store, clock, *[f"busy{number:02}" for number in range(20)], queue="busy")
        assert len(await self.claimed(store, 12)) == 12
        await self.added(store, clock, *[f"idle{number:02}" for number in range(5)], queue="idle")
        turns = [(await self.claimed(store, 1))[0][:4] for _ in range(6)]
        assert turns.count("busy") == turns.count("idle") == 3

    async def test_a_worker_of_some_queues_gets_their_jobs_alone(self, store: Store, clock: FakeClock) -> None:
        for name in "abc":
            await self.added(store, clock, name, queue=name)
        assert await self.claimed(store, 5, "b", "none") == ["b"]
        assert await self.claimed(store, 5, "b") == []
        assert await self.claimed(store, 5, "a", "c") == ["a", "c"]

    async def test_a_reserved_queue_is_served_by_workers_that_name_it_alone(
        self, store: Store, clock: FakeClock
    ) -> None:
        names = ("heavylift.own", "heavylift", "heavylifts", "heavylift-own")
        for name in names:
            await self.added(store, clock, name, queue=name)
        assert sorted(await self.claimed(store, 5)) == sorted(names[1:])
        assert await self.claimed(store, 5, "default", "heavylift.own") == ["heavylift.own"]

    async def test_a_paused_queue_starts_nothing_until_it_is_resumed(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "a")
        await self.added(store, clock, "b", queue="other")
        await store.set_queue("default", paused=True)
        await self.added(store, clock, "c")
        assert await self.claimed(store, 5) == ["b"]
        await store.set_queue("default", paused=False)
        assert await self.claimed(store, 5) == ["a", "c"]

    async def test_jobs_that_become_due_in_a_paused_queue_wait_there(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "a", delay=5)
        await store.set_queue("default", paused=True)
        clock.advance(10)
        assert await self.claimed(store, 5) == []
        await store.set_queue("default", paused=False)
        assert await self.claimed(store, 5) == ["a"]

    async def test_no_more_jobs_run_than_the_concurrency_of_their_queue(self, store: Store, clock: FakeClock) -> None:
        await store.set_queue("q", concurrency=2)
        await self.added(store, clock, *"abcd", queue="q")
        await self.added(store, clock, "x", queue="wide")
        await store.beat(self.worker(), LEASE)
        jobs = {job.id: job for job in await store.claim("worker", 1, Slots(10))}
        assert sorted(jobs) == ["a", "b", "x"]
        assert await self.claimed(store, 10) == []
        await self.settle(store, clock, jobs["b"])
        assert await self.claimed(store, 10) == ["c"]
        await self.settle(store, clock, jobs["x"])
        assert await self.claimed(store, 10) == []

    async def test_jobs_that_run_already_count_for_a_concurrency_that_is_set_later(
        self, store: Store, clock: FakeClock
    ) -> None:
        jobs = await self.started(store, clock, *"abc", queue="q")
        await self.added(store, clock, "d", queue="q")
        await store.set_queue("q", concurrency=2)
        await self.settle(store, clock, jobs[0])
        assert await self.claimed(store, 5) == []
        await self.settle(store, clock, jobs[1])
        assert await self.claimed(store, 5) == ["d"]

    async def test_a_limit_that_is_raised_or_lifted_lets_jobs_through(self, store: Store, clock: FakeClock) -> None:
        await store.set_queue("q", concurrency=1)
        await self.added(store, clock, *"abcd", queue="q")
        assert await self.claimed(store, 5) == ["a"]
        await store.set_queue("q", concurrency=2)
        assert await self.claimed(store, 5) == ["b"]
        await store.set_queue("q", unlimited=["concurrency"])
        assert await self.claimed(store, 5) == ["c", "d"]

    async def test_the_slots_of_a_dead_worker_come_back_when_its_jobs_are_settled(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.set_queue("default", concurrency=1)
        await self.started(store, clock, "a", worker="gone")
        await self.added(store, clock, "b")
        clock.advance(LEASE + 1)
        assert await self.claimed(store, 5) == []
        (orphan,) = await store.sweep("worker", others=True)
        await self.settle(store, clock, orphan, Interrupted("lost", lost=True))
        assert await self.claimed(store, 5) == ["a"], "it kept its place"

    # --- who may claim ------------------------------------------------------------------------------------------------

    async def test_a_worker_that_never_beat_may_not_claim(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "a")
        with pytest.raises(LeaseLost):
            await store.claim("stranger", 1, Slots(1))
        assert (await self.read(store, "a")).state is State.QUEUED

    async def test_a_worker_that_was_declared_dead_may_claim_in_a_new_epoch_alone(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "a", "b")
        await store.beat(self.worker("slow"), LEASE)
        clock.advance(LEASE + 1)
        await store.sweep("other", others=True)
        with pytest.raises(LeaseLost):
            await store.claim("slow", 1, Slots(1))
        await store.beat(self.worker("slow", epoch=2), LEASE)
        with pytest.raises(LeaseLost):
            await store.claim("slow", 1, Slots(1))
        assert [job.id for job in await store.claim("slow", 2, Slots(1))] == ["a"]

    async def test_a_refused_claim_does_not_harm_what_happens_beside_it(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "a")
        await store.beat(self.worker(), LEASE)
        refused, got, added = await asyncio.gather(
            store.claim("stranger", 1, Slots(5)),
            store.claim("worker", 1, Slots(5)),
            store.add([self.job(clock, "b")]),
            return_exceptions=True,
        )
        assert isinstance(refused, LeaseLost)
        assert isinstance(got, list)
        assert [job.id for job in got] == ["a"]
        assert isinstance(added, list)
        assert await self.claimed(store, 5) == ["b"]

    async def test_workers_of_several_processes_never_get_the_same_attempt(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        names = [f"{number:03}" for number in range(300)]
        await self.added(store, clock, *names)
        sides = {"one": store, "two": other, "three": store}
        for worker, side in sides.items():
            await side.beat(self.worker(worker), LEASE)

        async def drain(worker: str) -> list[Job]:
            got: list[Job] = []
            while jobs := await sides[worker].claim(worker, 1, Slots(7)):
                assert all(job.worker == worker for job in jobs)
                got += jobs
            return got

        parts = await asyncio.gather(*map(drain, sides))
        assert sorted(job.id for part in parts for job in part) == names

    async def test_a_job_that_was_requeued_keeps_what_it_was(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a", priority=3, labels={"k": "v"})
        job = await self.settle(store, clock, job, Interrupted("lost", lost=True))
        (again,) = await store.claim("worker", 1, Slots(1))
        assert again == replace(
            job, state=State.RUNNING, attempt=2, worker="worker", epoch=1, started_at=clock.wall(), seq=job.seq + 1
        )
        assert again.losses == 1
