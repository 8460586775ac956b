"""The cases of `standing`."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

from typing import Any

from heavylift.core.limits import Concurrency, Gate, Rate
from heavylift.core.options import Slots
from heavylift.core.queue import MOST_AHEAD, Pause, Standing
from heavylift.store import Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases


class Standings(StoreCases):
    """Where waiting jobs stand."""

    async def stands(self, store: Store, name: str) -> Standing:
        """Where one job stands."""
        return (await store.standing([name]))[name]

    async def ahead(self, store: Store, *names: str) -> list[int]:
        """How many are ahead of each of these."""
        found = await store.standing(names)
        return [found[name].ahead for name in names]

    async def begin(self, store: Store, limit: int = 1, **record: Any) -> list[str]:
        """The ids of jobs that a worker begins."""
        await store.beat(self.worker(**record), LEASE)
        return [job.id for job in await store.claim("worker", 1, Slots(limit))]

    async def test_only_jobs_that_wait_stand_somewhere(self, store: Store, other: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, "over")
        await self.started(store, clock, "runs")
        await self.added(store, clock, "due")
        await self.added(store, clock, "later", delay=60)
        names = ["over", "runs", "due", "later", "nobody", "due"]
        assert set(await other.standing(names)) == {"due", "later"}
        assert await other.standing([]) == {}

    async def test_those_with_a_smaller_rank_are_ahead_and_then_those_who_came_before(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "a", "b", "c")
        clock.advance(30)
        await self.added(store, clock, "urgent", priority=1)
        await self.added(store, clock, "later", delay=600)
        await self.added(store, clock, "elsewhere", queue="other")
        await self.added(store, clock, "coroutine", run_in="loop")
        names = ("urgent", "a", "b", "c", "later", "elsewhere", "coroutine")
        assert await self.ahead(other, *names) == [0, 1, 2, 3, 4, 0, 0]
        assert sorted(await self.begin(store, 3)) == ["a", "elsewhere", "urgent"]
        assert await self.ahead(other, "b", "c") == [0, 1]

    async def test_a_pause_is_told_with_who_why_and_since_when(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "a", "b")
        since = clock.wall()
        await store.set_queue("default", paused=True, by="ann", reason="the database moves")
        clock.advance(5)
        assert await self.stands(other, "b") == Standing(pause=Pause(since, "ann", "the database moves"), ahead=1)
        await store.set_queue("default", paused=False)
        assert await self.stands(other, "a") == Standing()

    async def test_a_queue_that_runs_as_many_as_it_may_is_full(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await store.set_queue("default", concurrency=2)
        await self.added(store, clock, "a", "b", "c", "d")
        assert (await self.stands(other, "a")).full is None
        assert await self.begin(store, 4) == ["a", "b"]
        assert await self.stands(other, "d") == Standing(full=2, ahead=1)
        await self.settle(store, clock, await self.read(store, "a"))
        assert (await self.stands(other, "d")).full is None

    async def test_the_rate_of_a_queue_says_when_the_next_one_starts(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await store.set_queue("default", rate="6/min")
        await self.added(store, clock, "a", "b", "c")
        assert (await self.stands(other, "a")).opens_at is None
        assert await self.begin(store, 3) == ["a"]
        opens_at = clock.wall() + 10
        found = await self.stands(other, "c")
        assert (found.rate, found.opens_at, found.ahead) == ("6/min", opens_at, 1)
        clock.advance(10)
        assert (await self.stands(other, "c")).opens_at is None
        assert await self.begin(store, 3) == ["b"]

    async def test_a_key_that_is_held_is_told_with_who_holds_it(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        mine: dict[str, Any] = {"limits": [Concurrency(1, key="account:7")]}
        await self.added(store, clock, "a", "b", "c", **mine)
        await self.added(store, clock, "elsewhere", queue="other", **mine)
        await self.added(store, clock, "free", limits=[Concurrency(1, key="account:8")])
        assert (await self.stands(other, "a")).gate is None
        assert sorted(await self.begin(store, 9)) == ["a", "free"]
        gate = Gate("concurrency", "account:7", 1)
        for name, ahead in (("b", 0), ("c", 1), ("elsewhere", 0)):
            found = await self.stands(other, name)
            assert found.gate is not None
            assert (found.gate.gate, found.gate.holders, found.gate.opens_at) == (gate, ("a",), None)
            assert found.ahead == ahead
        await self.settle(store, clock, await self.read(store, "a"))
        assert (await self.stands(other, "b")).gate is None

    async def test_of_many_who_hold_a_key_three_are_named_and_the_last_limit_holds_for_all(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "z", limits=[Concurrency(9, key="k")])
        await self.added(store, clock, "a", "b", "c", "d", "e", limits=[Concurrency(4, key="k")])
        running = await self.begin(store, 9)
        waiting = next(name for name in "abcdez" if name not in running)
        found = (await self.stands(other, waiting)).gate
        assert found is not None
        assert found.gate == Gate("concurrency", "k", 4)
        assert len(set(found.holders)) == 3
        assert set(found.holders) <= set(running)

    async def test_the_rate_of_a_key_says_when_it_lets_the_next_one_start(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "a", "b", "c", limits=[Rate("6/min", key="crm")])
        assert await self.begin(store, 9) == ["a"]
        clock.advance(4)
        found = await self.stands(other, "c")
        assert found.gate is not None
        assert found.gate.gate == Gate("rate", "crm", "6/min")
        assert found.gate.opens_at == clock.wall() + 6
        assert (found.gate.holders, found.ahead) == ((), 1)
        clock.advance(6)
        assert (await self.stands(other, "c")).gate is None

    async def test_the_first_gate_that_is_closed_is_told(self, store: Store, other: Store, clock: FakeClock) -> None:
        both = [Rate("1/h", key="crm"), Concurrency(1, key="k")]
        await self.added(store, clock, "a", "b", limits=both)
        await self.begin(store, 9)
        found = await self.stands(other, "b")
        assert found.gate is not None
        assert found.gate.gate.kind == "rate"
        clock.advance(3600)
        found = await self.stands(other, "b")
        assert found.gate is not None
        assert (found.gate.gate.kind, found.gate.holders) == ("concurrency", ("a",))

    async def test_one_that_waits_beside_its_namesake_knows_it(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "a", unique="report", on_conflict="queue-one")
        assert await self.begin(store) == ["a"]
        await self.added(store, clock, "b", unique="report", on_conflict="queue-one")
        found = await self.stands(other, "b")
        assert found.gate is not None
        assert (found.gate.gate.kind, found.gate.gate.key, found.gate.holders) == ("unique", "report", ("a",))
        await self.settle(store, clock, await self.read(store, "a"))
        assert (await self.stands(other, "b")).gate is None

    async def test_where_lanes_take_turns_so_many_are_ahead_as_start_before(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        lanes = {"big": 7, "small": 2, "lone": 1}
        for share, jobs in lanes.items():
            await self.added(store, clock, *(f"{share}-{number}" for number in range(jobs)), fair_share=share)
        await self.added(store, clock, *(f"plain-{number}" for number in range(3)))
        left = [f"{share}-{number}" for share, jobs in (lanes | {"plain": 3}).items() for number in range(jobs)]
        while left:
            found = await other.standing(left)
            begun: list[str] = []
            for name in sorted(left, key=lambda name: found[name].ahead)[:2]:
                begun += await self.begin(store)
                assert begun[-1] == name, [(one, found[one].ahead) for one in left]
            left = [name for name in left if name not in begun]

    async def test_a_lane_whose_gate_is_closed_is_ahead_of_nobody(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        held: dict[str, Any] = {"limits": [Concurrency(1, key="k")]}
        await self.added(store, clock, "a", "b", "c", **held)
        await self.added(store, clock, "plain")
        assert await self.ahead(other, "plain", "a", "b") == [0, 1, 2]
        assert sorted(await self.begin(store, 9)) == ["a", "plain"]
        await self.added(store, clock, "x", "y")
        assert await self.ahead(other, "x", "y", "b", "c") == [0, 1, 0, 1]

    async def test_no_more_are_counted_than_is_cheap(self, store: Store, other: Store, clock: FakeClock) -> None:
        more = MOST_AHEAD + 5
        await store.add([self.job(clock, f"many-{number}") for number in range(more)])
        await self.added(store, clock, "share", fair_share="x")
        assert await self.ahead(other, "many-0", f"many-{more - 1}") == [0, MOST_AHEAD]
        assert await self.ahead(other, "share", "many-5000") == [1, 5001]

    async def test_how_fast_the_queue_drains_stands_with_it(self, store: Store, other: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "waits", delay=3600)
        assert (await self.stands(other, "waits")).drain_rate is None
        for name in "abc":
            (job,) = await self.started(store, clock, name)
            clock.advance(10)
            await self.settle(store, clock, job)
        (queue,) = await other.queues()
        found = (await self.stands(other, "waits")).drain_rate
        assert found is not None
        assert found > 0
        assert found == queue.drain_rate
