"""The cases of rates: how many jobs with a key, or of a queue, start in a time; and of `reserve` and `next_due`."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from heavylift.core.limits import Concurrency, Rate, pace
from heavylift.core.options import Slots
from heavylift.core.outcome import Interrupted, Snoozed
from heavylift.store import Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases

TICK = 2e-6
"""Seconds by which sums of Unix times may be wrong."""
BURSTS = {"10/s": 1, "100/s": 10, "1000/s": 100, "25/s": 2, "60/min": 1, "5/30s": 1, "1/h": 1, "3/ms": 300}


def at(rate: str, key: str = "r") -> dict[str, Any]:
    """The options of jobs that start at a rate."""
    return {"limits": [Rate(rate, key)]}


class Rates(StoreCases):
    """How many start in a time, and when the next may."""

    async def many(self, store: Store, clock: FakeClock, count: int, **options: Any) -> None:
        """Add so many jobs."""
        await self.added(store, clock, *(f"{next(self._names):07}" for _ in range(count)), **options)

    async def follow(self, store: Store, clock: FakeClock, starts: int, slots: int | Slots = 1000) -> list[float]:
        """The times of the next starts of a worker that sleeps as `next_due` says and never looks in vain."""
        found: list[float] = []
        while len(found) < starts:
            due = await store.next_due()
            assert due is not None, "something waits for time alone"
            assert due > clock.wall(), "what is due now was claimed"
            clock.advance(due - clock.wall())
            begun = await self.begun(store, slots)
            assert begun, "a worker that follows it gets something"
            found += [clock.wall()] * len(begun)
        return found

    @pytest.mark.parametrize("rate", BURSTS)
    async def test_a_tenth_of_a_seconds_worth_starts_at_once_and_then_they_are_spread_evenly(
        self, store: Store, clock: FakeClock, rate: str
    ) -> None:
        interval = pace(rate).interval
        await self.many(store, clock, BURSTS[rate] + 12, **at(rate))
        began = clock.wall()
        assert len(await self.begun(store, 1000)) == BURSTS[rate]
        assert not await self.begun(store, 1000)
        times = await self.follow(store, clock, 12)
        if interval > 0.001:  # of faster ones several are due within what a clock can tell apart
            for number, moment in enumerate(times, 1):
                assert moment == pytest.approx(began + number * interval, abs=TICK + 1e-5 * interval)
        assert await store.next_due() is None

    @pytest.mark.parametrize("rate", ["50/s", "7/s", "100/min"])
    async def test_over_long_times_as_many_start_as_the_rate_says(
        self, store: Store, clock: FakeClock, rate: str
    ) -> None:
        interval, burst = pace(rate)
        began, jobs = clock.wall(), 500
        await self.many(store, clock, jobs, **at(rate))
        chance = random.Random(3)  # noqa: S311  the same moments in each run
        started = 0
        while started < jobs:
            started += len(await self.begun(store, 1000))
            passed = clock.wall() - began
            assert started <= passed / interval + burst + 1e-3
            assert started >= min(jobs, int(passed / interval - 1e-3)), "nothing is lost between looks within a burst"
            due = await store.next_due()
            if burst > 1:
                clock.advance(interval * (burst - 1) * chance.random())
            elif due is not None:
                clock.advance(due - clock.wall())

    async def test_idle_time_is_not_saved_up(self, store: Store, clock: FakeClock) -> None:
        await self.many(store, clock, 5, **at("20/s"))
        assert len(await self.begun(store, 1000)) == 2
        clock.advance(3600)
        await self.many(store, clock, 100, **at("20/s"))
        assert len(await self.begun(store, 1000)) == 2
        clock.advance(0.05)
        assert len(await self.begun(store, 1000)) == 1

    async def test_a_rate_is_that_of_all_queues_places_and_processes(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        for number in range(20):
            place = ("process", "loop", "thread")[number % 3]
            await self.added(store, clock, f"{number:02}", queue=f"q{number % 2}", run_in=place, **at("40/s"))
        assert len(await self.begun(store, Slots(1, 1, 1))) == 3
        assert len(await self.begun(other, Slots(9, 9, 9), worker="second")) == 1
        assert not await self.begun(store, Slots(9, 9, 9), worker="third")
        clock.advance(0.05)
        assert len(await self.begun(other, Slots(9, 9, 9), worker="second")) == 2

    async def test_a_start_is_not_given_back_when_the_job_ends_and_each_attempt_is_one(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "a", "b", **at("1/s"))
        for _ in range(3):
            begun = await self.begun(store)
            assert [*begun] == ["a"], "it keeps its place"
            await self.settle(store, clock, begun["a"], Interrupted("drained"))
            assert not await self.begun(store)
            clock.advance(1)

    async def test_what_cannot_start_for_another_reason_takes_nothing_of_a_rate(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "holder", limits=[Concurrency(1, "k")])
        held = await self.begun(store)
        await self.added(store, clock, "both", limits=[Rate("1/h", "r"), Concurrency(1, "k")])
        assert not await self.begun(store)
        clock.advance(1)
        await self.added(store, clock, "first", "second", **at("1/h"))
        assert [*await self.begun(store)] == ["first"]
        await self.settle(store, clock, held["holder"])
        assert not await self.begun(store)
        clock.advance(3600)
        assert [*await self.begun(store, 1)] in (["both"], ["second"])
        assert not await self.begun(store)

    async def test_a_closed_rate_hides_nothing_behind_it(self, store: Store, clock: FakeClock) -> None:
        await self.many(store, clock, 300, priority=9, **at("1/h"))
        await self.added(store, clock, "plain")
        await self.added(store, clock, "free", **at("1/h", "free"))
        await self.added(store, clock, "other", queue="other")
        assert {"plain", "free", "other"} < set(await self.begun(store))

    # --- the wall clock -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("jump", [-3600.0, 3600.0])
    @pytest.mark.parametrize("what", ["key", "queue"])
    async def test_a_wall_clock_that_is_set_starts_neither_less_nor_more(
        self, store: Store, clock: FakeClock, what: str, jump: float
    ) -> None:
        if what == "queue":
            await store.set_queue("q", rate="20/s")
        await self.many(store, clock, 20, queue="q", **(at("20/s") if what == "key" else {}))
        assert len(await self.begun(store, 1000)) == 2
        clock.set_wall(clock.wall() + jump)
        assert not await self.begun(store, 1000), "no more start"
        assert await store.next_due() == pytest.approx(clock.wall() + 0.05, abs=TICK)
        for _ in range(8):
            clock.advance(0.05)
            assert len(await self.begun(store, 1000)) == 1
        assert len(await self.follow(store, clock, 10)) == 10

    @pytest.mark.parametrize("jump", [-3600.0, 3600.0])
    async def test_who_waits_is_told_the_time_of_the_clock_as_it_is_set(
        self, store: Store, other: Store, clock: FakeClock, jump: float
    ) -> None:
        await store.set_queue("q", rate="1/10s")
        await self.added(store, clock, "a", "b", queue="q")
        await self.added(store, clock, "c", "d", **at("1/7s"))
        assert sorted(await self.begun(store)) == ["a", "c"]
        clock.set_wall(clock.wall() + jump)
        found = await other.standing(["b", "d"])
        gate = found["d"].gate
        assert found["b"].opens_at == pytest.approx(clock.wall() + 10, abs=TICK)
        assert gate is not None
        assert gate.opens_at == pytest.approx(clock.wall() + 7, abs=TICK)

    @pytest.mark.parametrize("jump", [-3600.0, 3600.0])
    async def test_a_rate_is_changed_and_reserved_whatever_the_wall_clock_says(
        self, store: Store, clock: FakeClock, jump: float
    ) -> None:
        await store.set_queue("q", rate="1/10s")
        await self.many(store, clock, 3, queue="q")
        assert len(await self.begun(store)) == 1
        assert await store.reserve(Rate("1/min", "r")) == 0
        clock.set_wall(clock.wall() + jump)
        assert await store.reserve(Rate("1/min", "r")) == pytest.approx(60, abs=TICK)
        await store.set_queue("q", rate="1/20s")
        clock.advance(19)
        assert not await self.begun(store)
        clock.advance(1)
        assert len(await self.begun(store)) == 1

    # --- the limit ----------------------------------------------------------------------------------------------------

    async def test_a_rate_that_is_raised_holds_from_then_on(self, store: Store, clock: FakeClock) -> None:
        await self.many(store, clock, 5, **at("1/h"))
        assert len(await self.begun(store)) == 1
        assert not await self.begun(store)
        await self.many(store, clock, 5, **at("10/s"))
        clock.advance(0.1)
        assert len(await self.begun(store)) == 1, "nobody waits for an hour any more"
        clock.advance(0.1)
        assert len(await self.begun(store)) == 1

    async def test_a_rate_that_is_lowered_holds_from_then_on(self, store: Store, clock: FakeClock) -> None:
        await self.many(store, clock, 5, **at("10/s"))
        assert len(await self.begun(store)) == 1
        await self.many(store, clock, 1, **at("1/min"))
        clock.advance(59)
        first = len(await self.begun(store))
        clock.advance(61)
        assert len(await self.begun(store)) == 1
        clock.advance(0.2)
        assert first <= 1
        assert not await self.begun(store)

    # --- the rate of a queue ------------------------------------------------------------------------------------------

    async def test_a_queue_has_a_rate_of_its_own(self, store: Store, clock: FakeClock) -> None:
        await store.set_queue("q", rate="20/s")
        for place in ("process", "loop"):
            await self.many(store, clock, 5, queue="q", run_in=place)
        await self.many(store, clock, 5, queue="q", fair_share="tenant")
        await self.added(store, clock, "elsewhere", queue="wide")
        begun = await self.begun(store, Slots(9, 9))
        assert "elsewhere" in begun
        assert len(begun) == 3
        times = await self.follow(store, clock, 5, Slots(9, 9))
        assert all(later - earlier == pytest.approx(0.05, abs=TICK) for earlier, later in pairwise(times))

    async def test_a_queues_rate_is_changed_and_lifted(self, store: Store, clock: FakeClock) -> None:
        await self.many(store, clock, 30, queue="q")
        await store.set_queue("q", rate="1/h")
        assert len(await self.begun(store)) == 1
        assert not await self.begun(store)
        await store.set_queue("q", rate="1/s")
        clock.advance(1)
        assert len(await self.begun(store)) == 1
        assert not await self.begun(store)
        await store.set_queue("q", unlimited=["rate"])
        assert len(await self.begun(store)) == 10
        await store.set_queue("q", rate="10/s")
        clock.advance(60)
        assert len(await self.begun(store)) == 1

    async def test_a_queue_that_is_paused_meanwhile_starts_no_more_afterwards(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.set_queue("q", rate="1/s")
        await self.many(store, clock, 10, queue="q")
        assert len(await self.begun(store)) == 1
        await store.set_queue("q", paused=True)
        clock.advance(100)
        assert not await self.begun(store)
        await store.set_queue("q", paused=False)
        assert len(await self.begun(store)) == 1
        assert not await self.begun(store)
        assert len(await self.follow(store, clock, 3)) == 3

    async def test_the_rates_of_a_queue_and_of_a_key_hold_together(self, store: Store, clock: FakeClock) -> None:
        await store.set_queue("q", rate="1/10s")
        await self.many(store, clock, 4, queue="q", **at("1/4s"))
        began = clock.wall()
        assert len(await self.begun(store)) == 1
        times: list[float] = []
        looks = 0
        while len(times) < 3:
            due = await store.next_due()
            assert due is not None
            assert due > clock.wall()
            clock.advance(due - clock.wall())
            times += [clock.wall() - began] * len(await self.begun(store))
            looks += 1
        assert times == pytest.approx([10, 20, 30], abs=1e-3)
        assert looks <= 9, "each look in vain has a rate that opened meanwhile"

    # --- reserve ------------------------------------------------------------------------------------------------------

    async def test_places_in_a_rate_are_reserved_one_after_the_other(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        waits = [await side.reserve(Rate("20/s", "r")) for side in (store, other) * 3]
        assert waits == pytest.approx([0, 0, 0.05, 0.1, 0.15, 0.2], abs=TICK)
        clock.advance(0.1)
        assert await store.reserve(Rate("20/s", "r")) == pytest.approx(0.15, abs=TICK)
        clock.advance(1000)
        waits = [await store.reserve(Rate("20/s", "r")) for _ in range(3)]
        assert waits == pytest.approx([0, 0, 0.05], abs=TICK)

    async def test_who_waits_as_it_was_told_keeps_the_rate(self, store: Store, clock: FakeClock) -> None:
        began = clock.wall()
        for number in range(200):
            wait = await store.reserve(Rate("7/s", "r"))
            assert wait >= 0
            clock.advance(wait)
            assert clock.wall() == pytest.approx(began + number / 7, abs=1e-3)

    async def test_keys_have_rates_of_their_own(self, store: Store) -> None:
        assert [await store.reserve(Rate("1/h", key)) for key in "abc"] == [0, 0, 0]
        assert await store.reserve(Rate("1/h", "b")) == pytest.approx(3600, abs=TICK)

    async def test_jobs_and_reserved_places_share_a_rate(self, store: Store, clock: FakeClock) -> None:
        await self.many(store, clock, 3, **at("1/s"))
        assert await store.reserve(Rate("1/s", "r")) == 0
        assert not await self.begun(store)
        assert await store.reserve(Rate("1/s", "r")) == pytest.approx(1, abs=TICK)
        clock.advance(1)
        assert not await self.begun(store), "that place is taken"
        clock.advance(1)
        assert len(await self.begun(store)) == 1
        assert await store.reserve(Rate("1/s", "r")) == pytest.approx(1, abs=TICK)
        assert await self.follow(store, clock, 1) == pytest.approx([clock.wall()], abs=3)

    async def test_a_reserved_place_brings_the_limit_that_is_given(self, store: Store, clock: FakeClock) -> None:
        await self.many(store, clock, 4, **at("1/h"))
        assert len(await self.begun(store)) == 1
        assert await store.reserve(Rate("10/s", "r")) == pytest.approx(0.1, abs=TICK)
        clock.advance(0.2)
        assert len(await self.begun(store)) == 1
        assert not await self.begun(store)

    async def test_a_reserved_place_is_none_of_a_concurrency(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "a", limits=[Concurrency(1, "r")])
        assert await store.reserve(Rate("1/h", "r")) == 0
        assert [*await self.begun(store)] == ["a"]

    # --- next_due -----------------------------------------------------------------------------------------------------

    async def test_nothing_becomes_claimable_by_time_where_nothing_waits_for_it(
        self, store: Store, clock: FakeClock
    ) -> None:
        assert await store.next_due() is None
        await self.added(store, clock, "a", "b", limits=[Concurrency(1, "k")])
        assert len(await self.begun(store)) == 1
        assert not await self.begun(store)
        assert await store.next_due() is None, "it waits for a job's end"
        await store.reserve(Rate("1/h", "r"))
        assert await store.next_due() is None, "nobody waits for that rate"

    async def test_the_next_time_is_that_of_the_first_scheduled_job(self, store: Store, clock: FakeClock) -> None:
        now = clock.wall()
        for name, delay in (("b", 20), ("a", 10), ("c", 30)):
            await self.added(store, clock, name, delay=delay)
        assert await store.next_due() == now + 10
        clock.advance(10)
        assert [*await self.begun(store)] == ["a"]
        assert await store.next_due() == now + 20
        clock.advance(20)
        assert sorted(await self.begun(store)) == ["b", "c"]
        assert await store.next_due() is None

    async def test_a_job_that_goes_back_for_a_while_is_told_of(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        after = await self.settle(store, clock, job, Snoozed(17.0))
        assert await store.next_due() == after.run_at == clock.wall() + 17

    async def test_the_next_time_is_the_first_of_all(self, store: Store, clock: FakeClock) -> None:
        now = clock.wall()
        await store.set_queue("q", rate="1/5s")
        await self.many(store, clock, 2, queue="q")
        await self.many(store, clock, 2, **at("1/3s"))
        await self.many(store, clock, 1, delay=4)
        assert len(await self.begun(store)) == 2
        expected = [3.0, 4.0, 5.0]
        assert await self.follow(store, clock, 3) == pytest.approx([now + each for each in expected], abs=1e-3)
        assert await store.next_due() is None

    @pytest.mark.parametrize("why", ["paused", "full", "gate", "unserved", "another place", "unknown task"])
    @pytest.mark.parametrize("what", ["scheduled", "rate", "queue rate"])
    async def test_a_worker_that_follows_it_never_spins(
        self, store: Store, clock: FakeClock, why: str, what: str
    ) -> None:
        """Where a job's time comes and it cannot start nevertheless, a claim that brought nothing has no next time that
        is past.
        """
        place = "loop" if why == "another place" else "process"
        options: dict[str, Any] = {"queue": "q", "run_in": place, "task": "other" if why == "unknown task" else "task"}
        limits: list[Any] = [Concurrency(1, "k")] if why == "gate" else []
        if what == "rate":
            limits.append(Rate("1/10s", "r"))
        if what == "queue rate":
            await store.set_queue("q", rate="1/10s")
        if what != "scheduled" or why in ("full", "gate"):
            await self.many(store, clock, 1, limits=limits, **options)
            assert len(await self.begun(store, Slots(5, 5))) == 1
        delay = 10.0 if what == "scheduled" else 0.0
        await self.many(store, clock, 2, limits=limits, delay=delay, **options)
        if why == "full":
            await store.set_queue("q", concurrency=1)
        if why == "paused":
            await store.set_queue("q", paused=True)
        served = ("elsewhere",) if why == "unserved" else ()
        tasks: dict[str, Any] = {"tasks": ("task",)} if why == "unknown task" else {}
        for _ in range(6):
            assert not await self.begun(store, 5, served, **tasks)
            due = await store.next_due()
            if due is None:
                clock.advance(11)
                continue
            assert due > clock.wall(), "it would spin"
            clock.advance(due - clock.wall())
        await store.set_queue("q", paused=False, unlimited=["concurrency"])
        if why in ("unserved", "another place", "unknown task", "paused"):
            clock.advance(10)
            assert await self.begun(store, Slots(5, 5), worker="able")

    async def test_the_next_time_is_right_after_a_claim_that_had_no_slots_left(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.many(store, clock, 5, **at("1/s"))
        await self.many(store, clock, 5)
        assert len(await self.begun(store, 2)) == 2
        got = len(await self.begun(store, 9))
        assert got in (4, 5)
        assert await store.next_due() == pytest.approx(clock.wall() + 1, abs=TICK)
        await store.beat(self.worker(), LEASE)
