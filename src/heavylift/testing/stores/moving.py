"""The cases of `set_queue`, and of `save` for jobs that get another place in the line."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from heavylift.core import lifecycle
from heavylift.core.errors import ConfigError, QueueFull
from heavylift.core.job import Change, Error, Job, State
from heavylift.core.options import Slots
from heavylift.core.outcome import Failed
from heavylift.core.queue import MAX_BY, MAX_REASON, UNLIMITED, Pause, Queue
from heavylift.core.retention import Retention
from heavylift.store import Added, Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, SUCCESS, StoreCases

SOON = 10.0
"""Seconds within which a hint has come, on the busiest machine."""
BAD: list[dict[str, Any]] = [
    {"concurrency": 0},
    {"concurrency": True},
    {"concurrency": "3"},
    {"concurrency": 2**40},
    {"max_size": -1},
    {"max_size": 1.5},
    {"rate": "0/s"},
    {"rate": "often"},
    {"rate": 10},
    {"keep": 7},
    {"paused": True, "reason": "x" * (MAX_REASON + 1)},
    {"paused": True, "by": "x" * (MAX_BY + 1)},
    {"paused": True, "reason": "\ud800"},
    {"reason": "nobody pauses it"},
    {"paused": False, "by": "anna"},
    {"unlimited": ["concurency"]},
    {"unlimited": ["rate"], "rate": "1/s"},
]


class Moving(StoreCases):
    """What people who look after a service do with its queues, and with jobs that wait in them."""

    async def one(self, store: Store, name: str = "q") -> Queue:
        """The queue of that name."""
        return next(queue for queue in await store.queues() if queue.name == name)

    async def taken(self, store: Store, limit: int = 10) -> list[str]:
        """The ids of jobs that a worker gets."""
        await store.beat(self.worker(), LEASE)
        return [job.id for job in await store.claim("worker", 1, Slots(limit))]

    async def moved(self, store: Store, clock: FakeClock, job: Job, **where: Any) -> Job:
        """The job after it was moved."""
        change = lifecycle.move(job, clock.wall(), **where)
        assert await store.save([change]) == [job.seq + 1]
        return change.apply(job)

    # --- settings of queues -------------------------------------------------------------------------------------------

    async def test_settings_are_kept_and_changed_one_by_one(self, store: Store, other: Store, clock: FakeClock) -> None:
        assert await store.set_queue("q", concurrency=3) == Queue("q", concurrency=3)
        paused = await other.set_queue("q", paused=True, max_size=10)
        assert paused == Queue("q", Pause(clock.wall()), 3, 10)
        assert await store.set_queue("q", paused=False) == Queue("q", None, 3, 10)
        assert await other.set_queue("q", rate="100/min") == Queue("q", None, 3, 10, "100/min")
        keep = Retention(60.5, 10, 0)
        assert await store.set_queue("q", keep=keep) == Queue("q", None, 3, 10, "100/min", keep)
        assert await store.set_queue("q") == Queue("q", None, 3, 10, "100/min", keep)
        assert await store.set_queue("q", unlimited=["max_size"]) == Queue("q", None, 3, None, "100/min", keep)
        after = await other.set_queue("q", unlimited=["concurrency", "keep"], max_size=2)
        assert after == Queue("q", max_size=2, rate="100/min")
        assert await store.queues() == [after]
        assert await store.set_queue("q", unlimited=UNLIMITED) == Queue("q")
        assert await other.queues() == [Queue("q")]

    async def test_a_pause_says_by_whom_and_why_and_since_when(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        began = clock.wall()
        first = await store.set_queue("q", paused=True, by="anna", reason="the mail server is down")
        assert first.pause == Pause(began, "anna", "the mail server is down")
        clock.advance(60)
        again = await other.set_queue("q", paused=True, by="ben", reason="still")
        assert again.pause == Pause(began, "ben", "still"), "it has been paused since then"
        assert (await store.set_queue("q", concurrency=2)).pause == again.pause
        assert (await store.set_queue("q", paused=True)).pause == Pause(began)
        assert (await other.set_queue("q", paused=False)).pause is None
        clock.advance(60)
        assert (await other.set_queue("q", paused=True, by="ben")).pause == Pause(clock.wall(), "ben")
        assert (await self.one(store)).pause == Pause(clock.wall(), "ben")

    async def test_what_two_processes_set_at_once_is_all_there(self, store: Store, other: Store) -> None:
        await asyncio.gather(
            store.set_queue("q", concurrency=3),
            other.set_queue("q", max_size=7),
            store.set_queue("q", paused=True, by="anna"),
            other.set_queue("q", rate="10/s"),
        )
        found = await self.one(store)
        assert (found.concurrency, found.max_size, found.rate) == (3, 7, "10/s")
        assert found.pause is not None
        assert found.pause.by == "anna"

    @pytest.mark.parametrize("change", BAD, ids=str)
    async def test_a_setting_that_no_queue_can_have_is_refused(self, store: Store, change: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            await store.set_queue("q", **change)
        assert await store.queues() == []

    @pytest.mark.parametrize("name", ["", "a b", "x" * 129, "-"])
    async def test_a_queue_has_a_name_that_jobs_can_give(self, store: Store, name: str) -> None:
        with pytest.raises(ConfigError, match="cannot name a queue"):
            await store.set_queue(name, paused=True)
        assert await store.queues() == []

    async def test_a_size_below_what_waits_is_refused_with_the_number(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.started(store, clock, "runs", queue="q")
        await self.added(store, clock, "a", "b", queue="q")
        await self.added(store, clock, "later", queue="q", delay=60)
        with pytest.raises(ConfigError, match="max_size: 2 is below the 3 jobs that wait"):
            await other.set_queue("q", max_size=2, paused=True)
        assert (await self.one(store)).max_size is None
        assert not (await self.one(store)).paused, "what was refused changes nothing"
        assert (await other.set_queue("q", max_size=3)).max_size == 3
        (refused,) = await store.add([self.job(clock, "c", queue="q")])
        assert isinstance(refused, QueueFull)

    async def test_a_paused_queue_takes_jobs_and_starts_none_until_it_is_resumed(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        (runs,) = await self.started(store, clock, "runs", queue="q")
        await other.set_queue("q", paused=True)
        await self.added(store, clock, "a", queue="q")
        await self.added(other, clock, "b", queue="q")
        assert await self.taken(store) == []
        assert (await self.read(store, "runs")) == runs, "what runs goes on"
        await store.set_queue("q", paused=False)
        assert await self.taken(other) == ["a", "b"]

    # --- how fast a queue drains --------------------------------------------------------------------------------------

    async def drain(self, store: Store, clock: FakeClock, count: int, side_by_side: int, took: float) -> None:
        """Jobs that each take as long, so many at once."""
        for _ in range(count):
            names = [f"job-{next(self._names)}" for _ in range(side_by_side)]
            jobs = await self.started(store, clock, *names, queue="q")
            clock.advance(took)
            for job in jobs:
                await self.settle(store, clock, job)

    @pytest.mark.parametrize(
        ("count", "side_by_side", "took"), [(1, 1, 20.0), (5, 1, 2.0), (100, 1, 0.5), (1, 4, 40.0), (30, 4, 10.0)]
    )
    async def test_how_fast_a_queue_drains_is_told_by_the_jobs_that_ended(
        self, store: Store, clock: FakeClock, count: int, side_by_side: int, took: float
    ) -> None:
        await self.drain(store, clock, count, side_by_side, took)
        rate, true = (await self.one(store)).drain_rate, side_by_side / took
        assert rate is not None
        assert true / 2 <= rate <= true * 2
        await store.set_queue("q", max_size=1)
        await self.added(store, clock, "x", queue="q")
        (refused,) = await store.add([self.job(clock, "y", queue="q")])
        assert isinstance(refused, QueueFull)
        assert max(1, 0.5 / true) <= refused.retry_after <= max(2, 2 / true)

    @pytest.mark.parametrize(("side_by_side", "since", "wait"), [(1, 0, 8), (1, 5, 3), (1, 7.5, 1), (3, 2, 6)])
    async def test_a_full_queue_has_a_place_when_the_next_of_those_that_run_ends(
        self, store: Store, clock: FakeClock, side_by_side: int, since: float, wait: int
    ) -> None:
        await self.drain(store, clock, 5, side_by_side, 8.0)
        await store.set_queue("q", max_size=1)
        names = [f"runs-{number}" for number in range(side_by_side)]
        for name in names:
            await self.started(store, clock, name, queue="q")
        await self.added(store, clock, "x", queue="q")
        clock.advance(since)
        (refused,) = await store.add([self.job(clock, "y", queue="q")])
        assert isinstance(refused, QueueFull)
        assert refused.retry_after == wait

    async def test_a_rest_does_not_make_a_queue_slow_that_is_not(self, store: Store, clock: FakeClock) -> None:
        await self.drain(store, clock, 10, 2, 4.0)
        clock.advance(400)
        assert 0 < ((await self.one(store)).drain_rate or 0) < 0.25, "nothing has ended for long"
        jobs = await self.started(store, clock, "a", "b", "c", queue="q")
        clock.advance(4)
        await self.settle(store, clock, jobs[0])
        rate = (await self.one(store)).drain_rate
        assert rate is not None
        assert 0.25 <= rate <= 1.0, "two more that take four seconds"

    async def test_a_queue_in_which_nothing_ended_or_began_says_no_rate(self, store: Store, clock: FakeClock) -> None:
        (waiting,) = await self.added(store, clock, "a", queue="q")
        assert (await self.one(store)).drain_rate is None
        await self.cancel(store, clock, waiting)
        assert (await self.one(store)).drain_rate is None, "who never began says nothing"

    async def test_a_full_queue_that_is_paused_does_not_drain(self, store: Store, clock: FakeClock) -> None:
        await self.drain(store, clock, 10, 1, 1.0)
        await store.set_queue("q", paused=True, max_size=1)
        await self.added(store, clock, "x", queue="q")
        (refused,) = await store.add([self.job(clock, "y", queue="q")])
        assert isinstance(refused, QueueFull)
        assert refused.retry_after == 300

    # --- another place in the line ------------------------------------------------------------------------------------

    async def test_a_job_that_is_moved_stands_by_its_new_priority(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        jobs = await self.added(store, clock, "a", "b", "c")
        after = await self.moved(other, clock, jobs[2], priority=5)
        assert await self.read(store, "c") == after
        assert after.options.priority == 5
        back = await self.moved(store, clock, after, priority=0)
        again = await self.moved(store, clock, back, priority=9)
        assert await self.taken(store) == ["c", "a", "b"]
        assert [item.data.get("priority") for item in await self.events(store, "c")] == [None, 5, 0, 9, None]
        assert again.seq == 4
        assert (await store.queues())[0].counts == {State.RUNNING: 3}

    async def test_a_job_that_is_put_off_is_not_early(self, store: Store, clock: FakeClock) -> None:
        jobs = await self.added(store, clock, "a", "b")
        later = await self.moved(store, clock, jobs[0], run_at=clock.wall() + 30)
        assert await self.taken(store) == ["b"]
        clock.advance(29)
        assert await self.taken(store) == []
        sooner = await self.moved(store, clock, later, run_at=clock.wall() + 0.5)
        assert await self.read(store, "a") == sooner
        clock.advance(0.5)
        assert await self.taken(store) == ["a"]

    async def test_a_scheduled_job_that_is_to_run_now_runs_now(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.added(store, clock, "a", delay=3600)
        clock.advance(5)
        await self.added(store, clock, "b")
        clock.advance(1)
        now = await self.moved(store, clock, job, run_at=0)
        assert now.run_at == clock.wall(), "what is past means now: it takes nobody's place"
        assert await self.taken(store) == ["b", "a"]

    async def test_a_job_that_waits_for_its_next_attempt_is_moved_like_any(
        self, store: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a")
        waiting = await self.settle(store, clock, job, Failed(Error("failed", "no"), delay=600.0))
        moved = await self.moved(store, clock, waiting, run_at=clock.wall(), priority=3)
        (again,) = await store.claim("worker", 1, Slots(5))
        assert again == lifecycle.claim(moved, "worker", 1, clock.wall()).apply(moved)
        assert (again.attempt, again.options.priority) == (2, 3)

    @pytest.mark.parametrize("place", ["process", "loop", "thread"])
    async def test_a_job_that_is_moved_keeps_its_place_to_run_in(
        self, store: Store, clock: FakeClock, place: str
    ) -> None:
        (job,) = await self.added(store, clock, "a", run_in=place)
        await self.moved(store, clock, job, priority=1)
        await store.beat(self.worker(), LEASE)
        (got,) = await store.claim("worker", 1, Slots(**{place: 1}))
        assert got.id == "a"

    async def test_one_that_began_meanwhile_is_not_moved(self, store: Store, other: Store, clock: FakeClock) -> None:
        (job,) = await self.added(store, clock, "a")
        change = lifecycle.move(job, clock.wall(), priority=9)
        assert await self.taken(other) == ["a"]
        assert await store.save([change]) == [None]
        assert store.refused == 1
        assert (await self.read(store, "a")).options.priority == 0

    async def test_of_two_who_move_a_job_at_once_the_second_is_refused(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.added(store, clock, "a")
        first = lifecycle.move(job, clock.wall(), priority=9)
        second = lifecycle.move(job, clock.wall(), run_at=clock.wall() + 60)
        assert (await store.save([first]), await other.save([second])) == ([2], [None])
        assert await self.read(other, "a") == first.apply(job)
        assert await store.save([first, first]) == [None, None], "in one call it is no different"
        both = lifecycle.move(first.apply(job), clock.wall(), run_at=clock.wall() + 60)
        assert await other.save([both]) == [3]
        after = await self.read(store, "a")
        assert (after.options.priority, after.run_at) == (9, clock.wall() + 60)

    async def test_any_change_can_ask_for_the_jobs_last_event(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        change: Change = lifecycle.settle(job, SUCCESS, clock.wall())
        assert await store.save([change._replace(seq=1)]) == [None]
        assert await store.save([change._replace(seq=2)]) == [3]

    async def test_a_job_that_is_moved_keeps_its_unique_key(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.added(store, clock, "a", unique="k", delay=60)
        await self.moved(store, clock, job, run_at=clock.wall(), priority=2)
        (answer,) = await store.add([self.job(clock, "b", unique="k")])
        assert isinstance(answer, Added)
        assert (answer.job.id, answer.created) == ("a", False)

    async def test_a_job_that_is_moved_up_wakes_a_worker(self, store: Store, other: Store, clock: FakeClock) -> None:
        (job,) = await self.added(store, clock, "a", delay=3600)
        await other.beat(self.worker(), LEASE)
        async with other.watch(worker="worker") as hints, other.watch() as follower:
            while await hints.wait(0.0) or await follower.wait(0.0):
                pass
            waiting = [asyncio.create_task(each.wait(SOON)) for each in (hints, follower)]
            await self.moved(store, clock, job, run_at=clock.wall())
            assert await asyncio.gather(*waiting) == [True, True]

    async def test_a_queue_counts_a_job_that_is_moved_once(self, store: Store, clock: FakeClock) -> None:
        jobs = await self.added(store, clock, "a", "b", queue="q")
        job = jobs[0]
        for delay in (60.0, 0.0, 30.0, 0.0):
            clock.advance(1)
            job = await self.moved(store, clock, job, run_at=clock.wall() + delay)
        found = await self.one(store)
        assert found.counts == {State.QUEUED: 2}
        assert found.oldest_wait == 4.0
        assert replace(job, seq=0) == replace(jobs[0], run_at=clock.wall(), seq=0)
