"""The cases of `prune`."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import pytest

from heavylift.core.errors import JobPruned
from heavylift.core.job import Error, State
from heavylift.core.outcome import Failed
from heavylift.core.retention import Retention
from heavylift.store import Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases

BROKEN = Failed(Error("failed", "it broke"), retryable=False)
DAY = 86400.0


class Pruning(StoreCases):
    """Which finished jobs go, and when."""

    async def left(self, store: Store) -> list[str]:
        """The ids of all jobs that are left, by name."""
        return sorted(await self.found(store))

    async def test_old_finished_jobs_go_with_all_that_belongs_to_them(self, store: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, "old", args=b"x" * 50_000)
        clock.advance(100)
        await self.finished(store, clock, "young")
        assert await store.prune(Retention(age=100.0)) == 0
        clock.advance(0.5)
        assert await store.prune(Retention(age=100.0)) == 1
        assert await self.left(store) == ["young"]
        assert await self.events(store, "old") == []
        assert (await store.queues())[0].counts == {State.SUCCEEDED: 1}

    async def test_jobs_that_are_not_over_stay_however_old_they_are(self, store: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "running")
        await self.added(store, clock, "due")
        await self.added(store, clock, "scheduled", delay=100 * DAY)
        clock.advance(90 * DAY)
        assert await store.prune(Retention(age=0.0, succeeded=0, failed=0)) == 0
        assert await self.left(store) == ["due", "running", "scheduled"]

    async def test_jobs_that_finished_a_moment_ago_stay(self, store: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, "a")
        clock.advance(60)
        assert await store.prune(Retention(age=0.0, succeeded=0)) == 0
        clock.advance(0.1)
        assert await store.prune(Retention(age=0.0, succeeded=0)) == 1

    async def test_of_each_queue_the_newest_stay_when_there_are_many(self, store: Store, clock: FakeClock) -> None:
        for name in "abcd":
            await self.finished(store, clock, f"good-{name}")
            await self.finished(store, clock, f"bad-{name}", outcome=BROKEN)
            clock.advance(1)
        await self.finished(store, clock, "other-1", queue="other")
        (waiting,) = await self.added(store, clock, "stopped")
        await self.cancel(store, clock, waiting)
        clock.advance(61)
        assert await store.prune(Retention(succeeded=1, failed=2)) == 3 + 3
        assert await self.left(store) == ["bad-d", "good-d", "other-1", "stopped"]
        assert await store.prune(Retention(succeeded=1, failed=2)) == 0

    async def test_a_few_hundred_go_at_a_time(self, store: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, *[f"{number}" for number in range(450)])
        clock.advance(61)
        removed = [await store.prune(Retention(age=0.0)) for _ in range(4)]
        assert removed == [200, 200, 50, 0]
        assert await self.left(store) == []
        assert await store.queues() == [], "a queue without settings and jobs is none"

    async def test_a_pruned_id_says_so_for_a_day(self, store: Store, other: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, "a")
        clock.advance(61)
        await store.prune(Retention(age=0.0))
        with pytest.raises(JobPruned):
            await other.get(["a"])
        assert await store.get(["a", "nobody"]) == [None, None]
        assert await store.get(["nobody"]) == [None]
        clock.advance(DAY - 1)
        with pytest.raises(JobPruned):
            await store.get(["a"])
        clock.advance(2)
        assert await store.get(["a"]) == [None]
        await store.prune(Retention())
        assert await store.get(["a"]) == [None]

    async def test_a_pruned_id_can_be_used_again(self, store: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, "a")
        clock.advance(61)
        await store.prune(Retention(age=0.0))
        (job,) = await self.added(store, clock, "a", args=b"[2]")
        assert await self.read(store, "a") == job
        assert [item.seq for item in await self.events(store, "a")] == [1]

    async def test_a_dead_epoch_is_remembered_longer_than_its_jobs(self, store: Store, clock: FakeClock) -> None:
        await store.beat(self.worker("gone"), LEASE)
        clock.advance(LEASE + 1)
        await store.sweep("sweeper", others=True)
        clock.advance(DAY / 2)
        await store.prune(Retention())
        assert not (await store.beat(self.worker("gone"), LEASE)).alive
