"""The cases of `claim` about jobs that come to a gate by other ways than a submit, or wait for their unique key."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

from typing import Any

import pytest

from heavylift.core import lifecycle
from heavylift.core.errors import DuplicateJob
from heavylift.core.job import Change, Error, Job, NewEvent, State
from heavylift.core.limits import Concurrency, Rate
from heavylift.core.outcome import Cancelled, Failed, Interrupted, Succeeded
from heavylift.core.retention import Retention
from heavylift.core.retry import Retry, fixed
from heavylift.store import Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases
from heavylift.testing.stores.gates import one

DAY = 86400.0
BROKEN = Error("failed", "it broke")


class Returning(StoreCases):
    """Jobs that come back, that get other options, and that wait for their namesakes."""

    async def given(self, store: Store, job: Job, clock: FakeClock, **options: Any) -> int | DuplicateJob | None:
        """What a save answers that gives a waiting job other options."""
        told = NewEvent("state", {"state": State.QUEUED, "attempt": job.attempt, "moved": True})
        changed = job.options.using(**options)
        change = Change(job.id, job.state, job.attempt, {"options": changed}, (told,), clock.wall(), queue=job.queue)
        (answer,) = await store.save([change])
        return answer

    # --- jobs with a unique key ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize("conflict", ["replace", "queue-one"])
    async def test_who_takes_the_place_of_one_that_runs_waits_until_that_has_ended(
        self, store: Store, other: Store, clock: FakeClock, conflict: str
    ) -> None:
        await self.added(store, clock, "a", unique="u")
        running = (await self.begun(store))["a"]
        await self.added(store, clock, "b", unique="u", on_conflict=conflict)
        await self.added(store, clock, "plain")
        assert [*await self.begun(store)] == ["plain"]
        assert not await self.begun(other, worker="second")
        running = await self.read(store, "a")
        await self.settle(store, clock, running, Cancelled() if conflict == "replace" else Succeeded(b"1"))
        assert [*await self.begun(other, worker="second")] == ["b"]
        assert not await self.begun(store)

    async def test_who_waits_for_one_that_runs_waits_for_its_next_attempt_too(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "a", unique="u", retry=Retry(3, fixed(10)))
        running = (await self.begun(store))["a"]
        await self.added(store, clock, "b", unique="u", on_conflict="queue-one")
        await self.settle(store, clock, running, Interrupted("drained"))
        begun = await self.begun(store)
        assert len(begun) == 1, "one of both, never both"
        ((name, job),) = begun.items()
        assert not await self.begun(store)
        await self.settle(store, clock, job)
        assert [*await self.begun(store)] == [{"a": "b", "b": "a"}[name]]

    # --- other places in the line -------------------------------------------------------------------------------------

    async def test_a_waiting_job_that_gets_other_limits_waits_at_those_gates(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "x", **one("x"))
        await self.added(store, clock, "y", **one("y"))
        running = await self.begun(store)
        (moved,) = await self.added(store, clock, "moved", **one("x"))
        assert not await self.begun(store)
        assert await self.given(store, moved, clock, limits=[Concurrency(1, "y")]) == moved.seq + 1
        await self.settle(store, clock, running["x"])
        assert not await self.begun(store), "it waits at the other gate now"
        await self.settle(store, clock, running["y"])
        assert [*await self.begun(store)] == ["moved"]
        await self.added(store, clock, "next", **one("y"))
        await self.added(store, clock, "free", **one("x"))
        assert [*await self.begun(store)] == ["free"], "and holds that one"

    async def test_a_waiting_job_that_loses_its_limits_starts(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "holder", **one())
        await self.begun(store)
        waiting = await self.added(store, clock, "a", "b", **one())
        assert not await self.begun(store)
        assert await self.given(store, waiting[1], clock, limits=[])
        assert [*await self.begun(store)] == ["b"]

    async def test_a_waiting_job_that_gets_a_gate_nobody_had_waits_at_it(self, store: Store, clock: FakeClock) -> None:
        for job in await self.added(store, clock, "a", "b", "c"):
            assert await self.given(store, job, clock, limits=[Concurrency(2, "new")])
        assert [*await self.begun(store)] == ["a", "b"]

    async def test_a_job_behind_a_closed_gate_gets_another_priority_and_time(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "holder", **one())
        held = await self.begun(store)
        jobs = {job.id: job for job in await self.added(store, clock, *"abc", **one())}
        assert not await self.begun(store)
        changes = [
            lifecycle.move(jobs["c"], clock.wall(), priority=5),
            lifecycle.move(jobs["a"], clock.wall(), run_at=clock.wall() + 60),
        ]
        assert None not in await store.save(changes)
        assert not await self.begun(store)
        await self.settle(store, clock, held["holder"])
        for expected in "cb":
            ((name, job),) = (await self.begun(store)).items()
            assert name == expected
            await self.settle(store, clock, job)
        assert not await self.begun(store)
        clock.advance(60)
        assert [*await self.begun(store)] == ["a"]

    # --- what prune forgets -------------------------------------------------------------------------------------------

    async def test_jobs_come_back_to_gates_and_lanes_that_were_forgotten(self, store: Store, clock: FakeClock) -> None:
        options = {"queue": "q", "fair_share": "tenant", "limits": [Concurrency(1, "k"), Rate("1/s", "r")]}
        await self.added(store, clock, *"abc", **options)
        for _ in range(3):
            for job in (await self.begun(store)).values():
                await self.settle(store, clock, job, Failed(BROKEN, retryable=False))
            clock.advance(1)
        for _ in range(4):
            clock.advance(2 * DAY)
            await store.prune(Retention(age=1000 * DAY))
        for name in "abc":
            change = lifecycle.retry(await self.read(store, name), clock.wall())
            assert None not in await store.save([change])
        order = []
        while begun := await self.begun(store):
            ((name, job),) = begun.items()
            order.append(name)
            clock.advance(1)
            assert not await self.begun(store), "one at a time"
            await self.settle(store, clock, job)
        assert order == ["a", "b", "c"]

    async def test_no_gate_is_forgotten_that_jobs_run_or_wait_behind(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "runs", **one("held"))
        running = await self.begun(store)
        await self.added(store, clock, "wait-1", "wait-2", fair_share="late", delay=30 * DAY, **one("awaited"))
        for _ in range(4):
            clock.advance(5 * DAY)
            await store.beat(self.worker(), LEASE)
            await store.prune(Retention(age=1000 * DAY))
        await self.added(store, clock, "next", **one("held"))
        assert not await self.begun(store)
        clock.advance(10 * DAY)
        assert [*await self.begun(store)] == ["wait-1"]
        await self.settle(store, clock, running["runs"])
        assert [*await self.begun(store)] == ["next"]

    async def test_a_job_that_is_queued_anew_keeps_to_the_limit_of_the_last_submit(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.finished(store, clock, "a", **one(most=5))
        await self.finished(store, clock, "b", **one(most=5))
        await self.added(store, clock, "c", **one(most=1))
        assert [*await self.begun(store)] == ["c"]
        for name in "ab":
            assert None not in await store.save([lifecycle.retry(await self.read(store, name), clock.wall())])
        assert not await self.begun(store)
