"""The cases of `prune`."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heavylift.core import lifecycle
from heavylift.core.errors import JobPruned
from heavylift.core.job import Error, Job, State
from heavylift.core.options import Options, Slots
from heavylift.core.outcome import Failed, Outcome
from heavylift.core.retention import Retention
from heavylift.store import Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, SUCCESS, StoreCases

BROKEN = Failed(Error("failed", "it broke"), retryable=False)
DAY = 86400.0


class Pruning(StoreCases):
    """Which finished jobs go, and when."""

    async def left(self, store: Store) -> list[str]:
        """The ids of all jobs that are left, by name."""
        return sorted(await self.found(store))

    async def ended(
        self,
        store: Store,
        clock: FakeClock,
        name: str,
        task: str,
        keep: Retention | None,
        outcome: Outcome = SUCCESS,
        **options: Any,
    ) -> Job:
        """A job of a task that says how long it is kept, when it is over."""
        new = lifecycle.submit(name, task, b"{}", Options(keep=keep, **options), clock.wall())
        await store.add([new])
        await store.beat(self.worker(), LEASE)
        (job,) = await store.claim("worker", 1, Slots(1))
        return await self.settle(store, clock, job, outcome)

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

    async def test_a_queue_has_a_retention_of_its_own(self, store: Store, clock: FakeClock) -> None:
        for queue in ("plain", "short", "long"):
            for name in "abc":
                await self.finished(store, clock, f"{queue}-{name}", queue=queue)
                clock.advance(1)
        await store.set_queue("short", keep=Retention(age=100.0, succeeded=2))
        await store.set_queue("long", keep=Retention(age=30 * DAY))
        clock.advance(61)
        settings = Retention(age=7 * DAY, succeeded=1)
        assert await store.prune(settings) == 2 + 1
        assert await self.left(store) == ["long-a", "long-b", "long-c", "plain-c", "short-b", "short-c"]
        clock.advance(100)
        assert await store.prune(settings) == 2
        assert await self.left(store) == ["long-a", "long-b", "long-c", "plain-c"]
        clock.advance(8 * DAY)
        assert await store.prune(settings) == 1
        assert await self.left(store) == ["long-a", "long-b", "long-c"]
        await store.set_queue("long", unlimited=["keep"])
        assert await store.prune(settings) == 3

    async def test_a_task_has_a_retention_of_its_own_in_each_queue(self, store: Store, clock: FakeClock) -> None:
        keep = Retention(age=30 * DAY, succeeded=2, failed=1)
        for name in "abcd":
            for queue in ("p", "q"):
                await self.ended(store, clock, f"{queue}-good-{name}", "own", keep, queue=queue)
            await self.ended(store, clock, f"bad-{name}", "own", keep, BROKEN)
            await self.ended(store, clock, f"other-{name}", "other", Retention(age=30 * DAY))
            await self.finished(store, clock, f"plain-{name}")
            clock.advance(1)
        clock.advance(61)
        # Its own does not go by the settings', and neither counts among the plain ones.
        assert await store.prune(Retention(succeeded=3, failed=0)) == 2 + 2 + 3 + 1
        kept = ["bad-d", "other-a", "other-b", "other-c", "other-d", "p-good-c", "p-good-d"]
        kept += ["plain-b", "plain-c", "plain-d", "q-good-c", "q-good-d"]
        assert await self.left(store) == kept
        await store.set_queue("default", keep=Retention(succeeded=0, failed=0))
        assert await store.prune(Retention()) == 3
        clock.advance(8 * DAY)
        assert await store.prune(Retention()) == 0
        clock.advance(30 * DAY)
        assert await store.prune(Retention()) == 9
        assert await self.left(store) == []

    async def test_of_several_jobs_of_a_task_the_one_that_ended_last_says_what_is_kept(
        self, store: Store, clock: FakeClock
    ) -> None:
        for place, succeeded in enumerate((1, None, 2)):
            await self.ended(store, clock, f"{place}", "task", Retention(succeeded=succeeded))
            clock.advance(1)
        clock.advance(61)
        assert await store.prune(Retention()) == 1
        assert await self.left(store) == ["1", "2"]
        await self.ended(store, clock, "3", "task", Retention(succeeded=1, failed=9), BROKEN)
        assert await store.prune(Retention()) == 1
        assert await self.left(store) == ["2", "3"]

    async def test_a_job_that_is_queued_anew_stays(self, store: Store, clock: FakeClock) -> None:
        for name, keep in (("own", Retention(age=61.0)), ("plain", None)):
            job = await self.ended(store, clock, name, "task", keep)
            clock.advance(100)
            await store.save([lifecycle.retry(job, clock.wall())])
        assert await store.prune(Retention(age=61.0, succeeded=0)) == 0
        assert await self.left(store) == ["own", "plain"]

    async def test_who_prunes_beside_another_removes_nothing_twice(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.finished(store, clock, *[f"{number}" for number in range(150)])
        clock.advance(61)
        removed = await asyncio.gather(store.prune(Retention(age=0.0)), other.prune(Retention(age=0.0)))
        assert sum(removed) == 150
        assert await store.queues() == []

    async def test_jobs_with_much_that_belongs_to_them_go_a_few_at_a_time(self, store: Store, clock: FakeClock) -> None:
        names = [f"{number}" for number in range(12)]
        await self.finished(store, clock, *names, args=b'"' + b"x" * 900_000 + b'"')
        clock.advance(61)
        removed = []
        while count := await store.prune(Retention(age=0.0)):
            removed.append(count)
        assert sum(removed) == 12
        assert max(removed) < 12
        for name in names:
            with pytest.raises(JobPruned):
                await store.get([name])

    async def test_however_a_job_came_to_go_its_id_says_so(self, store: Store, clock: FakeClock) -> None:
        await self.ended(store, clock, "own", "task", Retention(age=0.0))
        await self.ended(store, clock, "own-count", "other", Retention(succeeded=0))
        await self.finished(store, clock, "queue", queue="q")
        await store.set_queue("q", keep=Retention(age=0.0))
        await self.finished(store, clock, "queue-count", queue="r")
        await store.set_queue("r", keep=Retention(succeeded=0))
        await self.finished(store, clock, "count")
        await self.finished(store, clock, "age", outcome=BROKEN)
        clock.advance(61)
        assert await store.prune(Retention(age=10 * DAY, succeeded=0)) == 5
        assert await store.prune(Retention(age=10.0)) == 1
        for name in ("own", "own-count", "queue", "queue-count", "count", "age"):
            with pytest.raises(JobPruned):
                await store.get([name])

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
