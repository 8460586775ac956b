"""The cases of `watch`: hints come, to the right one; and what no hint told of is found nevertheless."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio
import contextlib

import pytest

from heavylift.core.job import Error
from heavylift.core.limits import Rate
from heavylift.core.options import Slots
from heavylift.core.outcome import Failed, Interrupted
from heavylift.store import Hints, Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases

SOON = 10.0
"""Seconds within which a hint has come, on the busiest machine."""


class Waking(StoreCases):
    """Who is woken, and when."""

    async def quiet(self, hints: Hints) -> None:
        """Take what was told already."""
        while await hints.wait(0.0):
            pass

    async def test_a_new_job_wakes_a_worker_of_another_process(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await other.beat(self.worker(), LEASE)
        async with other.watch(worker="worker") as hints:
            await self.quiet(hints)
            waiting = asyncio.create_task(hints.wait(SOON))
            await self.added(store, clock, "a")
            assert await waiting

    async def test_a_new_job_wakes_the_worker_that_waits_for_its_place(self, store: Store, clock: FakeClock) -> None:
        names = ("loops", "processes")
        for name in names:
            await store.beat(self.worker(name), LEASE)
        # What a claim was refused for want of jobs, its worker waits for.
        await store.claim("loops", 1, Slots(loop=1))
        await store.claim("processes", 1, Slots(process=1))
        async with store.watch(worker="loops") as loops, store.watch(worker="processes") as processes:
            for place, woken, other in (("loop", loops, processes), ("process", processes, loops)) * 3:
                await self.quiet(loops)
                await self.quiet(processes)
                await self.added(store, clock, f"{place}-{next(self._names)}", run_in=place)
                assert await woken.wait(SOON)
                assert not await other.wait(0.0)

    async def test_a_job_of_a_reserved_queue_wakes_a_worker_that_names_it_and_no_other(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.beat(self.worker("own", queues=("heavylift.own",)), LEASE)
        await store.beat(self.worker("all"), LEASE)
        async with store.watch(worker="own") as own, store.watch(worker="all") as others:
            for _ in range(8):
                await self.quiet(own)
                await self.quiet(others)
                await self.added(store, clock, f"own-{next(self._names)}", queue="heavylift.own")
                assert await own.wait(SOON)
                assert not await others.wait(0.0)

    async def test_a_job_that_waits_wakes_a_worker_if_it_is_the_first_to_become_due(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await other.beat(self.worker(), LEASE)
        async with other.watch(worker="worker") as hints:
            for name, delay in (("a", 60), ("b", 30)):
                await self.quiet(hints)
                await self.added(store, clock, name, delay=delay)
                await self.added(store, clock, f"{name}-later", delay=1000)
                assert await hints.wait(SOON)
                assert await other.next_due() == pytest.approx(clock.wall() + delay)

    async def test_a_job_that_waits_for_a_rate_wakes_a_worker_that_has_to_know_when_it_opens(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await other.beat(self.worker(), LEASE)
        limits = [Rate("1/m", key="crm")]
        await self.added(store, clock, "a", limits=limits)
        assert [job.id for job in await other.claim("worker", 1, Slots(process=1))] == ["a"]
        async with other.watch(worker="worker") as hints:
            await self.quiet(hints)
            await self.added(store, clock, "b", limits=limits)
            assert await hints.wait(SOON)
            assert await other.claim("worker", 1, Slots(process=1)) == []
            assert await other.next_due() == pytest.approx(clock.wall() + 60)

    async def test_several_hints_are_one(self, store: Store, clock: FakeClock) -> None:
        await store.beat(self.worker(), LEASE)
        async with store.watch(worker="worker") as hints:
            await self.added(store, clock, "a")
            await self.added(store, clock, "b")
            assert await hints.wait(SOON)
            await self.quiet(hints)
            assert not await hints.wait(0.0)

    async def test_nothing_happened_is_no_hint(self, store: Store) -> None:
        async with store.watch() as hints:
            await self.quiet(hints)
            assert not await hints.wait(0.01)

    async def test_a_hint_that_came_before_the_wait_counts(self, store: Store, clock: FakeClock) -> None:
        async with store.watch() as hints:
            await self.quiet(hints)
            await self.finished(store, clock, "a")
            assert await hints.wait(SOON)

    async def test_followers_of_all_processes_are_told_of_changes(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a")
        async with store.watch() as mine, other.watch() as theirs, other.watch() as second:
            for hints in (mine, theirs, second):
                await self.quiet(hints)
            waiting = [asyncio.create_task(hints.wait(SOON)) for hints in (mine, theirs, second)]
            await self.settle(store, clock, job)
            assert await asyncio.gather(*waiting) == [True] * 3

    async def test_who_waits_for_ends_is_told_of_each_kind_of_end_and_not_of_a_begin(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await other.beat(self.worker(), LEASE)
        async with store.watch(ends=True) as hints, store.watch() as follower:
            await self.added(other, clock, "a", "b", "c")
            await other.claim("worker", 1, Slots(2))
            assert await follower.wait(SOON)
            assert not await hints.wait(0.0)
            waiting = asyncio.create_task(hints.wait(SOON))
            await self.settle(other, clock, await self.read(store, "a"))
            assert await waiting
            waiting = asyncio.create_task(hints.wait(SOON))
            await self.settle(other, clock, await self.read(store, "b"), Failed(Error("failed", "no"), retryable=False))
            assert await waiting
            waiting = asyncio.create_task(hints.wait(SOON))
            await self.cancel(other, clock, await self.read(store, "c"))
            assert await waiting

    async def test_a_cancel_wakes_the_worker_that_runs_the_job(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a")
        async with store.watch(worker="worker") as hints:
            await self.quiet(hints)
            waiting = asyncio.create_task(hints.wait(SOON))
            await self.cancel(other, clock, job)
            assert await waiting

    async def test_a_job_that_goes_back_wakes_a_worker(self, store: Store, other: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        async with other.watch(worker="worker") as hints:
            await self.quiet(hints)
            waiting = asyncio.create_task(hints.wait(SOON))
            await self.settle(store, clock, job, Interrupted("drained"))
            assert await waiting

    async def test_a_queue_that_is_resumed_wakes_workers(self, store: Store, other: Store, clock: FakeClock) -> None:
        await store.set_queue("default", paused=True)
        await self.added(store, clock, "a")
        await other.beat(self.worker(), LEASE)
        async with other.watch(worker="worker") as hints:
            await self.quiet(hints)
            waiting = asyncio.create_task(hints.wait(SOON))
            await store.set_queue("default", paused=False)
            assert await waiting

    async def test_a_watch_can_be_left_and_entered_anew(self, store: Store, clock: FakeClock) -> None:
        for name in "ab":
            async with store.watch() as hints:
                await self.quiet(hints)
                await self.added(store, clock, name)
                assert await hints.wait(SOON)

    async def test_a_wait_can_be_given_up(self, store: Store, clock: FakeClock) -> None:
        async with store.watch() as hints:
            await self.quiet(hints)
            waiting = asyncio.create_task(hints.wait(SOON))
            await asyncio.sleep(0)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            await self.added(store, clock, "a")
            assert await hints.wait(SOON)
