"""The cases of `claim` about lanes: fair shares, turns, weights, and workers that do not know every task."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from heavylift.core import lifecycle
from heavylift.core.job import Change, NewEvent, State
from heavylift.core.limits import Concurrency
from heavylift.core.options import Slots
from heavylift.core.outcome import Interrupted
from heavylift.core.retention import Retention
from heavylift.store import Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import StoreCases, eventually

DAY = 86400.0
KNOWN = ("known", "also")


class Lanes(StoreCases):
    """Whose turn it is."""

    async def one_by_one(self, store: Store, starts: int, *queues: str) -> list[str]:
        """The next jobs, each of a claim of its own."""
        found: list[str] = []
        for _ in range(starts):
            (name,) = await self.begun(store, 1, queues)
            found.append(name)
        return found

    async def shares(self, store: Store, clock: FakeClock, **jobs: int) -> None:
        """Add so many jobs of each key of a fair share, one key after the other."""
        for share, count in jobs.items():
            names = [f"{share}{number:04}" for number in range(count)]
            await self.added(store, clock, *names, fair_share=share)

    def keys(self, names: Iterable[str]) -> str:
        """The keys of jobs that `shares` added, by the first letter of each."""
        return "".join(name[0] for name in names)

    # --- fair shares --------------------------------------------------------------------------------------------------

    async def test_a_thousand_jobs_of_one_key_hold_up_ten_of_another_one_at_a_time(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.shares(store, clock, a=1000)
        clock.advance(30)
        await self.shares(store, clock, b=10)
        names = await self.one_by_one(store, 21)
        assert all(first != second for first, second in pairwise(self.keys(names)[:20])), names
        assert self.keys(names).count("b") == 10
        for share in "ab":
            mine = [name for name in names if name[0] == share]
            assert mine == sorted(mine), "within a key in order"

    async def test_a_claim_of_many_divides_its_slots_between_the_keys(self, store: Store, clock: FakeClock) -> None:
        await self.shares(store, clock, a=100, b=100, c=2)
        count = Counter(self.keys(await self.begun(store, 20)))
        assert count["c"] == 2
        assert abs(count["a"] - count["b"]) <= 2
        assert count.total() == 20

    async def test_all_of_many_keys_have_their_turn(self, store: Store, clock: FakeClock) -> None:
        for number in range(60):
            await self.added(store, clock, f"{number}-a", f"{number}-b", f"{number}-c", fair_share=f"tenant {number}")
        for turn in range(3):
            names = await self.one_by_one(store, 60)
            assert len({name.partition("-")[0] for name in names}) == 60
            assert {name.partition("-")[2] for name in names} == {"abc"[turn]}

    async def test_who_comes_now_and_then_waits_for_one_start_of_a_busy_key_at_most(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.shares(store, clock, a=200)
        await self.one_by_one(store, 7)
        for number in range(12):
            await self.added(store, clock, f"b{number}", fair_share="light")
            assert f"b{number}" in await self.one_by_one(store, 2), number
            await self.one_by_one(store, number % 3)
            clock.advance(1)

    async def test_who_was_away_has_no_claim_on_the_turns_since(self, store: Store, clock: FakeClock) -> None:
        await self.shares(store, clock, b=1)
        await self.shares(store, clock, a=60)
        assert set(self.keys(await self.one_by_one(store, 30))) == {"a", "b"}
        await self.added(store, clock, *(f"b-{number:02}" for number in range(20)), fair_share="b")
        count = Counter(self.keys(await self.one_by_one(store, 20)))
        assert abs(count["a"] - count["b"]) <= 2, count

    async def test_jobs_without_a_key_have_turns_like_a_key(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, *(f"p{number:02}" for number in range(20)))
        await self.shares(store, clock, a=20, b=20)
        count = Counter(self.keys(await self.one_by_one(store, 30)))
        assert set(count.values()) == {10}

    async def test_keys_of_one_queue_take_no_turns_of_another_queue(self, store: Store, clock: FakeClock) -> None:
        for number in range(1000):
            await self.added(store, clock, f"m{number:04}", queue="many", fair_share=f"tenant {number}")
        await self.added(store, clock, *(f"f{number:02}" for number in range(20)), queue="few")
        keys = self.keys(await self.one_by_one(store, 40))
        assert all(first != second for first, second in pairwise(keys)), keys
        await self.added(store, clock, *(f"g{number:02}" for number in range(20)), queue="few")
        count = Counter(self.keys(await self.begun(store, 20)))
        assert abs(count["m"] - count["g"]) <= 2, count

    async def test_a_share_is_that_of_its_queue_and_place(self, store: Store, clock: FakeClock) -> None:
        for queue, place in (("x", "process"), ("y", "process"), ("x", "loop")):
            names = [f"{queue}-{place}-{number}" for number in range(3)]
            await self.added(store, clock, *names, queue=queue, run_in=place, fair_share="same")
        assert len(await self.begun(store, Slots(2, 1))) == 3
        assert len(await self.begun(store, Slots(9, 9))) == 6

    async def test_a_key_behind_a_closed_gate_holds_up_no_other_and_has_its_turn_when_it_opens(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "holder", limits=[Concurrency(1, "k")])
        held = await self.begun(store)
        limited = {"fair_share": "a", "limits": [Concurrency(1, "k")]}
        await self.added(store, clock, *(f"a{number}" for number in range(5)), **limited)
        await self.shares(store, clock, b=10, c=10)
        assert set(self.keys(await self.one_by_one(store, 6))) == {"b", "c"}
        await self.settle(store, clock, held["holder"])
        assert self.keys(await self.one_by_one(store, 3)).count("a") == 1
        assert set(self.keys(await self.one_by_one(store, 6))) == {"b", "c"}

    async def test_a_waiting_job_that_gets_another_key_stands_there(self, store: Store, clock: FakeClock) -> None:
        await self.shares(store, clock, a=20)
        moved = await self.read(store, "a0019")
        await self.one_by_one(store, 1)
        told = NewEvent("state", {"state": State.QUEUED, "attempt": 0, "moved": True})
        fields = {"options": moved.options.using(fair_share="b")}
        change = Change(moved.id, moved.state, 0, fields, (told,), clock.wall(), queue=moved.queue)
        assert await store.save([change]) == [moved.seq + 1]
        assert "a0019" in await self.one_by_one(store, 2)
        assert len(await self.begun(store, 100)) == 17

    async def test_a_job_that_goes_back_stands_in_its_lane_again(self, store: Store, clock: FakeClock) -> None:
        await self.shares(store, clock, a=3, b=3)
        begun = await self.begun(store, 1)
        ((name, job),) = begun.items()
        await self.settle(store, clock, job, Interrupted("drained"))
        names = await self.one_by_one(store, 6)
        for share in "ab":
            mine = [each for each in names if each[0] == share]
            assert mine == sorted(mine)
        assert name in names

    async def test_keys_that_were_forgotten_come_back(self, store: Store, clock: FakeClock) -> None:
        for number in range(50):
            await self.added(store, clock, f"{number}", fair_share=f"tenant {number}")
        for job in (await self.begun(store, 100)).values():
            await self.settle(store, clock, job)
        for _ in range(4):
            clock.advance(2 * DAY)
            await store.prune(Retention(age=1000 * DAY))
        changes = [lifecycle.retry(await self.read(store, f"{number}"), clock.wall()) for number in range(0, 50, 7)]
        assert None not in await store.save(changes)
        await self.added(store, clock, "new", fair_share="tenant 1")
        assert len(await self.begun(store, 100)) == 9

    # --- order --------------------------------------------------------------------------------------------------------

    async def test_priorities_are_those_of_a_lane(self, store: Store, clock: FakeClock) -> None:
        for share in "ab":
            for number, priority in enumerate((0, 5, 9, 0)):
                await self.added(store, clock, f"{share}{number}", fair_share=share, priority=priority)
        names = await self.one_by_one(store, 8)
        for share in "ab":
            assert [name for name in names if name[0] == share] == [f"{share}{number}" for number in (2, 1, 0, 3)]
        assert all(first != second for first, second in pairwise(self.keys(names)))

    @pytest.mark.parametrize("share", [None, "tenant"])
    async def test_an_endless_stream_of_urgent_jobs_holds_nobody_up_for_more_than_nine_minutes(
        self, store: Store, clock: FakeClock, share: str | None
    ) -> None:
        await self.added(store, clock, "patient", fair_share=share)
        began = clock.wall()
        await self.added(store, clock, "u0", "u1", "u2", priority=9, fair_share=share)
        for number in range(200):
            clock.advance(5)
            await self.added(store, clock, f"urgent-{number}", priority=9, fair_share=share)
            (name,) = await self.begun(store, 1)
            if name == "patient":
                break
        else:
            pytest.fail("it never began")
        # Three stood before it, and those that came within the nine minutes.
        assert clock.wall() - began <= 9 * 60 + 4 * 5
        assert clock.wall() - began > 8 * 60, "until then the urgent ones went first"

    # --- weights ------------------------------------------------------------------------------------------------------

    async def queues(self, store: Store, clock: FakeClock, **jobs: int) -> None:
        """Add so many jobs to each queue, which are named like their queue."""
        for queue, count in jobs.items():
            await self.added(store, clock, *(f"{queue}{next(self._names)}" for _ in range(count)), queue=queue)

    async def divided(self, store: Store, slots: int, weights: dict[str, int]) -> dict[str, int]:
        """How many jobs of each queue one claim gives."""
        return dict(Counter(job.queue for job in (await self.begun(store, slots, weights)).values()))

    @pytest.mark.parametrize(
        ("slots", "weights", "expected"),
        [
            (6, {"a": 2, "b": 1}, {"a": 4, "b": 2}),
            (7, {"a": 2, "b": 1}, {"a": 5, "b": 2}),
            (7, {"b": 1, "a": 2}, {"b": 3, "a": 4}),
            (1, {"a": 1, "b": 9}, {"a": 1}),
            (2, {"b": 9, "a": 1}, {"b": 2}),
            (10, {"a": 1, "b": 1, "c": 1}, {"a": 4, "b": 4, "c": 2}),
            (10, {"a": 7, "b": 2, "c": 1}, {"a": 7, "b": 2, "c": 1}),
            (3, {"c": 1}, {"c": 3}),
        ],
    )
    async def test_slots_are_divided_by_weight_rounded_up_in_the_given_order(
        self, store: Store, clock: FakeClock, slots: int, weights: dict[str, int], expected: dict[str, int]
    ) -> None:
        await self.queues(store, clock, a=20, b=20, c=20)
        assert await self.divided(store, slots, weights) == expected

    async def test_what_one_queue_cannot_use_goes_to_the_others(self, store: Store, clock: FakeClock) -> None:
        await self.queues(store, clock, a=3, b=30, c=30)
        assert await self.divided(store, 12, {"a": 10, "b": 1, "c": 1, "none": 100}) == {"a": 3, "b": 5, "c": 4}
        assert await self.divided(store, 6, {"a": 10, "b": 2, "c": 1}) == {"b": 4, "c": 2}

    async def test_what_a_paused_or_full_queue_cannot_use_goes_to_the_others(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.queues(store, clock, a=9, b=9, c=9)
        await store.set_queue("a", paused=True)
        await store.set_queue("b", concurrency=2)
        assert await self.divided(store, 8, {"a": 5, "b": 5, "c": 1}) == {"b": 2, "c": 6}

    async def test_weights_hold_in_each_place(self, store: Store, clock: FakeClock) -> None:
        for place in ("process", "loop"):
            for queue in "ab":
                names = [f"{queue}{next(self._names)}" for _ in range(9)]
                await self.added(store, clock, *names, queue=queue, run_in=place)
        begun = await self.begun(store, Slots(4, 8), {"a": 3, "b": 1})
        count = Counter((job.queue, job.options.run_in) for job in begun.values())
        assert count == {("a", "process"): 3, ("b", "process"): 1, ("a", "loop"): 6, ("b", "loop"): 2}

    async def test_within_a_queue_of_some_weight_keys_have_their_turns(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, *(f"x{number:02}" for number in range(20)), queue="a", fair_share="x")
        await self.added(store, clock, *(f"y{number:02}" for number in range(20)), queue="a", fair_share="y")
        await self.queues(store, clock, b=20)
        count = Counter(self.keys(await self.begun(store, 12, {"a": 2, "b": 1})))
        assert count == {"x": 4, "y": 4, "b": 4}

    # --- tasks that a worker does not know ----------------------------------------------------------------------------

    async def test_a_worker_gets_no_job_of_a_task_that_its_record_does_not_name(
        self, store: Store, clock: FakeClock
    ) -> None:
        for name in ("known-1", "strange-1", "strange-2", "also-1", "known-2"):
            await self.added(store, clock, name, task=name.partition("-")[0])
        assert not await self.begun(store, 0, tasks=KNOWN)
        assert sorted(await self.begun(store, 9, tasks=KNOWN)) == ["also-1", "known-1", "known-2"]
        assert not await self.begun(store, 9, tasks=KNOWN)

    async def test_such_jobs_hide_none_behind_them(self, store: Store, clock: FakeClock) -> None:
        strange = [f"s{number:03}" for number in range(400)]
        await self.added(store, clock, *strange, task="strange", priority=9)
        await self.added(store, clock, "a", "b", task="known")
        await self.added(store, clock, "c", task="known", fair_share="x", limits=[Concurrency(1, "k")])
        got: list[str] = []
        # One claim does not look at all of them; its worker is told to come again.
        async with store.watch(worker="worker") as hints:
            while len(got) < 3:
                got += await self.begun(store, 3, tasks=KNOWN)
                assert len(got) == 3 or await eventually(hints)
        assert sorted(got) == ["a", "b", "c"]
        await self.added(store, clock, "late", task="also")
        assert [*await self.begun(store, 1, tasks=KNOWN)] == ["late"]
        got.clear()
        while begun := await self.begun(store, 100, worker="able", tasks=(*KNOWN, "strange")):
            got += begun
        assert got == strange, "who knows them gets them in order"

    @pytest.mark.parametrize("tasks", [(), ("strange",), ("strange", "known")])
    async def test_a_worker_that_knows_them_gets_them_also_when_it_comes_later(
        self, store: Store, other: Store, clock: FakeClock, tasks: tuple[str, ...]
    ) -> None:
        await self.added(store, clock, *(f"s{number}" for number in range(5)), task="strange")
        assert not await self.begun(store, 9, tasks=KNOWN)
        await self.added(store, clock, "s5", task="strange", delay=10)
        clock.advance(10)
        assert not await self.begun(store, 9, tasks=KNOWN)
        assert len(await self.begun(other, 2, worker="able", tasks=tasks)) == 2
        assert not await self.begun(store, 9, tasks=KNOWN)
        assert len(await self.begun(other, 9, worker="able", tasks=tasks)) == 4

    async def test_a_worker_that_learns_a_task_gets_its_jobs(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "a", task="strange")
        assert not await self.begun(store, 9, tasks=KNOWN)
        assert [*await self.begun(store, 9, tasks=(*KNOWN, "strange"))] == ["a"]

    async def test_a_job_of_an_unknown_task_that_was_begun_once_goes_back_to_those_who_know_it(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "a", task="strange", limits=[Concurrency(1, "k")])
        begun = await self.begun(store, 9, worker="able", tasks=("strange",))
        await self.added(store, clock, "b", task="known", limits=[Concurrency(1, "k")])
        await self.settle(store, clock, begun["a"], Interrupted("drained"))
        assert [*await self.begun(store, 9, tasks=KNOWN)] == ["b"], "and holds no gate meanwhile"

    async def test_what_waits_at_a_gate_and_is_not_known_keeps_nobody_from_it(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "holder", task="known", limits=[Concurrency(1, "k")])
        held = await self.begun(store, tasks=KNOWN)
        await self.added(store, clock, "strange", task="strange", limits=[Concurrency(1, "k")])
        await self.added(store, clock, "known", task="known", queue="other", limits=[Concurrency(1, "k")])
        assert not await self.begun(store, tasks=KNOWN)
        assert not await self.begun(store, worker="able", tasks=("strange",))
        await self.settle(store, clock, held["holder"])
        begun = await self.begun(store, tasks=KNOWN)
        assert [*begun] == ["known"]
        await self.settle(store, clock, begun["known"])
        assert not await self.begun(store, tasks=KNOWN)
        assert [*await self.begun(store, worker="able", tasks=("strange",))] == ["strange"]

    async def test_a_cancelled_job_of_an_unknown_task_leaves_nothing_behind(
        self, store: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.added(store, clock, "a", task="strange")
        assert not await self.begun(store, tasks=KNOWN)
        await self.cancel(store, clock, job)
        assert not await self.begun(store, worker="able", tasks=("strange",))
        assert (await self.read(store, "a")).state is State.CANCELLED

    # --- hints --------------------------------------------------------------------------------------------------------

    async def test_a_job_wakes_a_worker_that_knows_its_task(self, store: Store, clock: FakeClock) -> None:
        """At once, or when one that does not know it has looked at it."""
        able: dict[str, Any] = {"worker": "able", "tasks": ("strange",)}
        other: dict[str, Any] = {"worker": "other", "tasks": KNOWN}
        for each in (able, other):
            assert not await self.begun(store, **each)
        async with store.watch(worker="able") as ours, store.watch(worker="other") as theirs:
            for _ in range(8):
                await self.quiet_now(ours, theirs)
                await self.added(store, clock, f"s{next(self._names)}", task="strange")
                if await theirs.wait(0.0) or not await ours.wait(0.0):
                    assert not await self.begun(store, **other)
                    assert await eventually(ours)
                assert len(await self.begun(store, **able)) == 1
                assert not await self.begun(store, **able)

    async def quiet_now(self, *hints: Any) -> None:
        """Take what was told already."""
        for each in hints:
            while await each.wait(0.0):
                pass

    async def test_a_slot_of_a_gate_that_comes_back_wakes_a_worker(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "a", "b", limits=[Concurrency(1, "k")])
        begun = await self.begun(store)
        await self.begun(other, worker="waits")
        async with other.watch(worker="worker") as one, other.watch(worker="waits") as two:
            await self.quiet_now(one, two)
            await self.settle(store, clock, begun["a"])
            told = [await one.wait(0.0), await two.wait(0.0)]
            assert any(told) or await eventually(two) or await eventually(one)

    async def test_a_limit_that_a_submit_raises_wakes_a_worker(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, "a", "b", limits=[Concurrency(1, "k")])
        await self.begun(other)
        assert not await self.begun(other)
        async with other.watch(worker="worker") as hints:
            await self.quiet_now(hints)
            await self.added(store, clock, "later", delay=60, limits=[Concurrency(2, "k")])
            assert await eventually(hints)
            assert [*await self.begun(other)] == ["b"]
