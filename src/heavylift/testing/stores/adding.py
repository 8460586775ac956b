"""The cases of `add`."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio

from heavylift.core.errors import QueueFull
from heavylift.core.job import State
from heavylift.core.options import Slots
from heavylift.core.outcome import Interrupted, Succeeded
from heavylift.core.retry import Retry, exponential
from heavylift.store import Added, Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases


class Adding(StoreCases):
    """New jobs."""

    async def test_a_new_job_is_kept_with_its_first_event(self, store: Store, clock: FakeClock) -> None:
        new, first = self.job(clock, "a", args=b'{"n":1}')
        assert await store.add([(new, first)]) == [Added(new, created=True)]
        assert await self.read(store, "a") == new
        (event,) = await self.events(store, "a")
        assert (event.job, event.seq, event.kind, event.at) == ("a", 1, "state", clock.wall())
        assert event.data == {"state": "queued", "attempt": 0}

    async def test_nothing_added_is_nothing_kept(self, store: Store) -> None:
        assert await store.add([]) == []
        assert await store.queues() == []

    async def test_all_options_come_back(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.added(
            store,
            clock,
            "a",
            queue="reports",
            priority=7,
            timeout=3.5,
            grace=1,
            retry=Retry(5, exponential(1, 3, 60)),
            crashes=2,
            losses=4,
            unique="k",
            on_conflict="reject",
            labels={"tenant": "Ärger & Söhne", "x": '"'},
            memory="1GiB",
            cpu_time=9,
            processes=7,
            address_space="2GiB",
            open_files=99,
            nice=4,
        )
        assert await self.read(store, "a") == job

    async def test_large_and_odd_arguments_come_back(self, store: Store, clock: FakeClock) -> None:
        names = {"large": b'"' + b"x" * 1_000_000 + b'"', "odd": '{"ü":"\\u0000 \\" 🎈"}'.encode(), "empty": b""}
        await store.add([self.job(clock, name, args=args) for name, args in names.items()])
        for name, args in names.items():
            assert (await self.read(store, name)).args == args
        await store.beat(self.worker(), LEASE)
        assert {job.id: job.args for job in await store.claim("worker", 1, Slots(9))} == names

    async def test_hundreds_of_jobs_in_one_call_stand_in_their_order(self, store: Store, clock: FakeClock) -> None:
        names = [f"{number:04}" for number in range(701)]
        await self.added(store, clock, *names)
        await store.beat(self.worker(), LEASE)
        assert [job.id for job in await store.claim("worker", 1, Slots(701))] == names

    async def test_an_id_that_exists_returns_the_stored_job_and_changes_nothing(
        self, store: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a")
        again = await store.add([self.job(clock, "a", args=b"[]", queue="q"), self.job(clock, "b")])
        assert again[0] == Added(job, created=False)
        assert isinstance(again[1], Added)
        assert again[1].created
        assert await self.read(store, "a") == job
        assert [queue.name for queue in await store.queues()] == ["default"]

    async def test_an_id_twice_in_one_call_is_one_job(self, store: Store, clock: FakeClock) -> None:
        first, second = await store.add([self.job(clock, "a"), self.job(clock, "a", args=b"[2]")])
        assert isinstance(first, Added)
        assert isinstance(second, Added)
        assert (first.created, second.created) == (True, False)
        assert second.job.args == b"{}"
        assert (await store.queues())[0].counts == {State.QUEUED: 1}

    async def test_two_processes_that_add_the_same_ids_add_each_once(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        jobs = [self.job(clock, f"{number}") for number in range(300)]
        answers = await asyncio.gather(store.add(jobs), other.add(jobs))
        created = [answer for part in answers for answer in part if isinstance(answer, Added) and answer.created]
        assert sorted(answer.job.id for answer in created) == sorted(job.id for job, _ in jobs)
        assert (await store.queues())[0].counts == {State.QUEUED: 300}

    # --- bounded queues -----------------------------------------------------------------------------------------------

    async def test_a_full_queue_refuses_and_its_neighbours_are_kept(self, store: Store, clock: FakeClock) -> None:
        await store.set_queue("small", max_size=2)
        answers = await store.add([self.job(clock, name, queue="wide" if name == "d" else "small") for name in "abcde"])
        assert [isinstance(answer, QueueFull) for answer in answers] == [False, False, True, False, True]
        refused = answers[2]
        assert isinstance(refused, QueueFull)
        assert (refused.queue, refused.limit, refused.retry_after) == ("small", 2, 300)
        assert await store.get(["c", "e"]) == [None, None]
        assert await self.events(store, "c") == []

    async def test_scheduled_jobs_fill_a_queue_and_running_ones_do_not(self, store: Store, clock: FakeClock) -> None:
        await store.set_queue("q", max_size=1)
        await self.added(store, clock, "a", queue="q", delay=3600)
        (refused,) = await store.add([self.job(clock, "b", queue="q")])
        assert isinstance(refused, QueueFull)
        await store.set_queue("q", max_size=2)
        await self.started(store, clock, "c", queue="q")
        await self.added(store, clock, "d", queue="q")

    async def test_a_full_queue_still_answers_for_jobs_that_it_has(self, store: Store, clock: FakeClock) -> None:
        await store.set_queue("q", max_size=1)
        await self.added(store, clock, "a", queue="q", unique="k")
        answers = await store.add([self.job(clock, "a", queue="q"), self.job(clock, "b", queue="q", unique="k")])
        assert [isinstance(answer, Added) and answer.job.id for answer in answers] == ["a", "a"]

    async def test_a_full_queue_says_when_to_come_back_by_its_rate(self, store: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, "old", queue="q")
        clock.advance(601)
        for name in ("a", "b", "c"):
            (job,) = await self.started(store, clock, name, queue="q")
            clock.advance(7.0)
            await self.settle(store, clock, job, Succeeded(b"1"))
        await self.finished(store, clock, "elsewhere", queue="other")
        await store.set_queue("q", max_size=1)
        await self.added(store, clock, "x", queue="q")
        (refused,) = await store.add([self.job(clock, "y", queue="q")])
        assert isinstance(refused, QueueFull)
        assert refused.retry_after == 7

    async def test_a_full_queue_still_takes_back_what_runs(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a", queue="q")
        await store.set_queue("q", max_size=1)
        await self.added(store, clock, "b", queue="q")
        await self.settle(store, clock, job, Interrupted("drained"))
        assert (await store.queues())[0].counts == {State.QUEUED: 2}
