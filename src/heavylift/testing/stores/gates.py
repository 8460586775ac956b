"""The cases of `claim` about gates: how many jobs with a key run at once."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from heavylift.core import lifecycle
from heavylift.core.errors import DuplicateJob, QueueFull
from heavylift.core.job import CancelRequest, Change, Error, State
from heavylift.core.limits import Concurrency, Limit, Rate
from heavylift.core.options import Slots
from heavylift.core.outcome import Cancelled, Crashed, Failed, Interrupted, Outcome, Snoozed, Succeeded, TimedOut
from heavylift.core.retry import Retry, fixed
from heavylift.store import Added, Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases

DAY = 86400.0
BROKEN = Error("failed", "it broke")
ENDS: dict[str, Outcome] = {
    "succeeded": Succeeded(b"1"),
    "failed": Failed(BROKEN, retryable=False),
    "to be tried again": Failed(BROKEN, delay=30.0),
    "to be tried again at once": Failed(BROKEN, delay=0.0),
    "timed out": TimedOut(Error("timed-out", "too long")),
    "crashed": Crashed(Error("crashed", "its host died")),
    "handed back": Interrupted("drained"),
    "lost": Interrupted("lost", lost=True),
    "snoozed": Snoozed(30.0),
}


def one(key: str = "k", most: int = 1) -> dict[str, Any]:
    """The options of jobs of which one at a time may run."""
    return {"limits": [Concurrency(most, key)]}


class Gates(StoreCases):
    """How many jobs that share a key run at once."""

    async def test_no_more_jobs_with_a_key_run_than_it_allows_whatever_their_queue_task_place_and_process(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        for number in range(12):
            place = ("process", "loop", "thread")[number % 3]
            queue, task = f"q{number % 2}", f"task{number % 4}"
            await self.added(store, clock, f"{number:02}", queue=queue, task=task, run_in=place, **one(most=4))
        running = await self.begun(store, Slots(1, 1, 1))
        assert len(running) == 3
        running |= await self.begun(other, Slots(5, 5, 5), worker="second")
        assert len(running) == 4
        for side, worker in ((store, "worker"), (other, "second"), (store, "third")):
            assert not await self.begun(side, Slots(5, 5, 5), worker=worker)
        seen = set(running)
        while running:
            await self.settle(other, clock, running.pop(min(running)))
            running |= await self.begun(store, Slots(5, 5, 5), worker="third")
            assert len(running) == min(4, 12 - len(seen - set(running)))
            seen |= set(running)
        assert len(seen) == 12

    async def test_many_claims_at_once_pass_no_gate_beyond_its_limit(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, *(f"{number:03}" for number in range(100)), **one(most=7))
        sides = {f"worker-{number}": (store, other)[number % 2] for number in range(8)}
        parts = await asyncio.gather(*(self.begun(side, 3, worker=name) for name, side in sides.items()))
        assert sorted(name for part in parts for name in part) == [f"{number:03}" for number in range(7)]

    async def test_keys_have_gates_of_their_own(self, store: Store, clock: FakeClock) -> None:
        for key in "abc":
            await self.added(store, clock, f"{key}1", f"{key}2", **one(key))
        running = await self.begun(store)
        assert sorted(running) == ["a1", "b1", "c1"]
        await self.settle(store, clock, running["b1"])
        assert [*await self.begun(store)] == ["b2"]

    async def test_a_concurrency_and_a_rate_of_one_key_are_two_gates(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "a", "b", **one())
        await self.added(store, clock, "c", "d", limits=[Rate("1/s", "k")])
        assert sorted(await self.begun(store)) == ["a", "c"]

    @pytest.mark.parametrize("end", ENDS)
    async def test_a_slot_comes_back_however_an_attempt_ends_and_once(
        self, store: Store, other: Store, clock: FakeClock, end: str
    ) -> None:
        limits = [Concurrency(2, "k"), Concurrency(3, "wide")]
        await self.added(store, clock, *"abcdef", limits=limits, retry=Retry(3, fixed(30)))
        running = await self.begun(store)
        assert [*running] == ["a", "b"]
        change = lifecycle.settle(running["a"], ENDS[end], clock.wall())
        (seq,) = await other.save([change])
        assert seq is not None
        assert await store.save([change]) == [None], "it is written once"
        again = change.fields["state"] is State.QUEUED and change.fields["run_at"] <= clock.wall()
        assert [*await self.begun(store)] == ["a" if again else "c"]
        assert not await self.begun(other, worker="second")

    @pytest.mark.parametrize("stage", ["asked and stopped", "asked and over", "asked and lost"])
    async def test_a_slot_comes_back_when_a_running_job_is_cancelled(
        self, store: Store, clock: FakeClock, stage: str
    ) -> None:
        await self.added(store, clock, *"abc", **one())
        running = (await self.begun(store))["a"]
        running = await self.cancel(store, clock, running)
        assert not await self.begun(store), "it still runs"
        outcome: Outcome = Cancelled()
        if stage == "asked and over":
            outcome = Succeeded(b"1")
        elif stage == "asked and lost":
            outcome = Interrupted("lost", lost=True)
        await self.settle(store, clock, running, outcome)
        assert [*await self.begun(store)] == ["b"]

    async def test_a_job_that_is_cancelled_while_it_waits_gives_back_nothing(
        self, store: Store, clock: FakeClock
    ) -> None:
        _, waiting, *_ = await self.added(store, clock, *"abcd", **one())
        running = await self.begun(store)
        await self.cancel(store, clock, waiting)
        assert not await self.begun(store)
        await self.settle(store, clock, running["a"])
        assert [*await self.begun(store)] == ["c"]

    async def test_reports_of_running_jobs_give_back_nothing(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, *"ab", **one())
        job = (await self.begun(store))["a"]
        for fields in ({"checkpoint": b"1"}, {"log_bytes": 7}):
            change = Change(job.id, job.state, job.attempt, fields, (), clock.wall(), queue=job.queue)
            assert await store.save([change]) == [job.seq]
        assert not await self.begun(store)

    async def test_what_a_dead_worker_held_counts_until_somebody_settles_it(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, *"abcd", **one(most=2))
        held = await self.begun(other, worker="gone")
        assert [*held] == ["a", "b"]
        clock.advance(LEASE + 1)
        assert not await self.begun(store)
        orphans = {job.id: job for job in await store.sweep("worker", others=True)}
        assert sorted(orphans) == ["a", "b"]
        assert not await self.begun(store), "nothing is settled yet"
        late = lifecycle.settle(held["a"], Succeeded(b"1"), clock.wall())
        assert await other.save([late]) == [None], "its epoch is over"
        assert not await self.begun(store), "what is refused gives back nothing"
        await self.settle(store, clock, orphans["b"], Interrupted("lost", lost=True))
        assert [*await self.begun(store)] == ["b"], "it kept its place"
        assert not await self.begun(store)
        await self.settle(store, clock, orphans["a"], Interrupted("lost", lost=True))
        assert [*await self.begun(store)] == ["a"]
        assert not await self.begun(store)

    async def test_a_worker_that_retires_takes_no_slot_along(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, *"ab", **one())
        await self.begun(store, worker="leaving")
        await store.retire("leaving", 1)
        assert not await self.begun(store)
        (orphan,) = await store.sweep("worker", others=True)
        await self.settle(store, clock, orphan, Failed(BROKEN, retryable=False))
        assert [*await self.begun(store)] == ["b"]

    # --- the limit ----------------------------------------------------------------------------------------------------

    async def test_the_limit_of_the_last_submit_holds_for_all_that_wait(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, *"abcdef", **one(most=1))
        running = await self.begun(store)
        assert [*running] == ["a"]
        await self.added(store, clock, "g", **one(most=3))
        running |= await self.begun(store)
        assert [*running] == ["a", "b", "c"]
        await self.added(store, clock, "h", **one(most=2))
        await self.settle(store, clock, running["a"])
        assert not await self.begun(store), "two run"
        await self.settle(store, clock, running["b"])
        assert [*await self.begun(store)] == ["d"]

    async def test_a_scheduled_job_brings_its_limit_when_it_is_submitted(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, *"abc", **one(most=1))
        await self.added(store, clock, "later", delay=60, **one(most=2))
        assert [*await self.begun(store)] == ["a", "b"]

    async def test_within_one_call_the_last_limit_holds(self, store: Store, clock: FakeClock) -> None:
        await store.add([self.job(clock, f"{most}", **one(most=most)) for most in (5, 1, 3, 2)])
        assert len(await self.begun(store)) == 2

    async def test_what_is_not_kept_brings_no_limit(self, store: Store, clock: FakeClock) -> None:
        await store.set_queue("small", max_size=1)
        await self.added(store, clock, "small", queue="small", delay=60)
        await self.added(store, clock, "key", unique="u", delay=60)
        await self.added(store, clock, *"abcd", **one(most=1))
        refused = await store.add(
            [
                self.job(clock, "e", queue="small", **one(most=4)),
                self.job(clock, "f", unique="u", on_conflict="reject", **one(most=4)),
                self.job(clock, "g", unique="u", **one(most=4)),
                self.job(clock, "a", **one(most=4)),
            ]
        )
        assert isinstance(refused[0], QueueFull)
        assert isinstance(refused[1], DuplicateJob)
        assert all(isinstance(answer, Added) and not answer.created for answer in refused[2:])
        assert len(await self.begun(store)) == 1

    async def test_one_key_that_is_given_twice_is_one_gate_of_the_last_limit(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, *"abcd", limits=[Concurrency(3, "k"), Concurrency(2, "k")])
        running = await self.begun(store)
        assert len(running) == 2
        await self.settle(store, clock, running["a"])
        assert len(await self.begun(store)) == 1

    # --- several gates ------------------------------------------------------------------------------------------------

    async def test_a_job_passes_all_its_gates_or_holds_none(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "holder", **one("narrow"))
        assert [*await self.begun(store)] == ["holder"]
        both = [Concurrency(2, "wide"), Concurrency(1, "narrow")]
        await self.added(store, clock, *"ab", limits=both)
        await self.added(store, clock, *"cde", **one("wide", 2))
        assert [*await self.begun(store)] == ["c", "d"], "what waits at one gate takes no slot of the other"
        assert not await self.begun(store)

    async def test_a_job_frees_all_its_gates(self, store: Store, clock: FakeClock) -> None:
        both: Sequence[Limit] = [Concurrency(1, "x"), Concurrency(1, "y")]
        await self.added(store, clock, "both", limits=both)
        await self.added(store, clock, "x", **one("x"))
        await self.added(store, clock, "y", **one("y"))
        await self.added(store, clock, "again", limits=both)
        running = await self.begun(store)
        assert [*running] == ["both"]
        await self.settle(store, clock, running["both"])
        running = await self.begun(store)
        assert sorted(running) == ["x", "y"]
        await self.settle(store, clock, running["x"])
        assert not await self.begun(store)
        await self.settle(store, clock, running["y"])
        assert [*await self.begun(store)] == ["again"]

    async def test_eight_gates_of_one_job(self, store: Store, clock: FakeClock) -> None:
        keys = "stuvwxyz"
        await self.added(store, clock, "all", limits=[Concurrency(1, key) for key in keys])
        running = await self.begun(store)
        for key in keys:
            await self.added(store, clock, key, **one(key))
        assert not await self.begun(store)
        await self.settle(store, clock, running["all"])
        assert sorted(await self.begun(store)) == list(keys)

    async def test_a_gate_and_the_concurrency_of_a_queue_hold_together(self, store: Store, clock: FakeClock) -> None:
        await store.set_queue("q", concurrency=2)
        await self.added(store, clock, *"abc", queue="q", **one())
        await self.added(store, clock, *"xyz", queue="q")
        await self.added(store, clock, "elsewhere", **one())
        running = await self.begun(store)
        assert len(running) == 2
        (behind,) = running.keys() & {"a", "elsewhere"}
        for name in running.keys() - {behind}:
            await self.settle(store, clock, running[name])
        more = await self.begun(store)
        assert set(more) <= set("xyz")
        await self.settle(store, clock, running[behind])
        after = await self.begun(store)
        assert len(after.keys() & set("abc")) + ("elsewhere" in after) == 1

    # --- nothing hides behind a closed gate ---------------------------------------------------------------------------

    async def test_a_closed_gate_hides_nothing_behind_it(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, *(f"full-{number:03}" for number in range(500)), priority=9, **one("full"))
        assert [*await self.begun(store)] == ["full-000"]
        await self.added(store, clock, "plain")
        await self.added(store, clock, "free", **one("free"))
        await self.added(store, clock, "two", limits=[Concurrency(1, "full"), Concurrency(1, "more")])
        await self.added(store, clock, "other", queue="other", **one("more"))
        await self.added(store, clock, "shared", fair_share="tenant")
        await self.added(store, clock, "loop", run_in="loop")
        assert sorted(await self.begun(store, Slots(10, 10))) == ["free", "loop", "other", "plain", "shared"]

    async def test_hundreds_of_closed_gates_hide_nothing_behind_them(self, store: Store, clock: FakeClock) -> None:
        for number in range(300):
            await self.added(store, clock, f"{number:03}-a", f"{number:03}-b", **one(f"k{number}"))
        assert len(await self.begun(store, 1000)) == 300
        await self.added(store, clock, "plain", "late")
        assert [*await self.begun(store, 1)] == ["plain"]
        assert [*await self.begun(store, 5)] == ["late"]

    @pytest.mark.parametrize("why", ["paused", "full", "unserved", "another place"])
    @pytest.mark.parametrize("first", [True, False])
    async def test_who_cannot_start_for_another_reason_keeps_nobody_from_the_gate_that_both_wait_at(
        self,
        store: Store,
        clock: FakeClock,
        why: str,
        first: bool,  # noqa: FBT001  a parameter of the test
    ) -> None:
        await self.added(store, clock, "holder", **one())
        held = (await self.begun(store))["holder"]
        place = "loop" if why == "another place" else "process"
        if why == "full":
            await store.set_queue("stuck", concurrency=1)
            await self.added(store, clock, "filler", queue="stuck")
        order = ["stuck", "q"] if first else ["q", "stuck"]
        for queue in order:
            await self.added(store, clock, queue, queue=queue, run_in=place if queue == "stuck" else "process", **one())
        # A look: now both wait at the gate.
        looked = await self.begun(store, Slots(10, 10))
        assert set(looked) <= {"filler"}
        if why == "paused":
            await store.set_queue("stuck", paused=True)
        served = ("q", "default") if why == "unserved" else ()
        await self.settle(store, clock, held)
        running = await self.begun(store, Slots(10), served)
        assert [*running] == ["q"]
        assert not await self.begun(store, Slots(10, 10))
        # Its own hindrance gone, it starts when the gate lets it.
        await store.set_queue("stuck", paused=False, unlimited=["concurrency"])
        assert not await self.begun(store, Slots(10, 10))
        await self.settle(store, clock, running["q"])
        assert [*await self.begun(store, Slots(10, 10))] == ["stuck"]

    async def test_whoever_a_gate_was_opened_for_and_then_cannot_start_leaves_it_to_others(
        self, store: Store, clock: FakeClock
    ) -> None:
        """The slot comes back, and before the next claim that lane loses its job, or its queue is paused."""
        await self.added(store, clock, "holder", **one())
        held = await self.begun(store)
        (first,) = await self.added(store, clock, "first", queue="one", **one())
        await self.added(store, clock, "second", queue="two", **one())
        await self.added(store, clock, "third", queue="three", **one())
        assert not await self.begun(store)
        await self.settle(store, clock, held["holder"])
        await self.cancel(store, clock, first)
        await store.set_queue("two", paused=True)
        assert [*await self.begun(store)] == ["third"]

    async def test_lanes_at_one_gate_have_their_turns(self, store: Store, clock: FakeClock) -> None:
        for share in "abc":
            await self.added(store, clock, *(f"{share}{number}" for number in range(4)), fair_share=share, **one())
        order = []
        for _ in range(12):
            ((name, job),) = (await self.begun(store)).items()
            order.append(name)
            await self.settle(store, clock, job)
        for turn in range(4):
            assert sorted(name[0] for name in order[3 * turn : 3 * turn + 3]) == ["a", "b", "c"]
        for share in "abc":
            assert [name for name in order if name[0] == share] == [f"{share}{number}" for number in range(4)]

    async def test_queues_at_one_gate_have_their_turns(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, *(f"a{number:02}" for number in range(20)), queue="a", **one())
        await self.added(store, clock, *(f"b{number}" for number in range(3)), queue="b", **one())
        order = []
        for _ in range(8):
            ((name, job),) = (await self.begun(store)).items()
            order.append(name[0])
            await self.settle(store, clock, job)
        assert order[:6].count("b") == 3, order

    async def test_a_cancel_that_was_not_heard_gives_back_nothing_until_the_job_ends(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, *"ab", **one())
        job = (await self.begun(store))["a"]
        job = await self.cancel(store, clock, job, grace=5.0)
        sharper = lifecycle.cancel(job, CancelRequest(clock.wall(), force=True))
        assert None not in await store.save([sharper])
        assert not await self.begun(store)
        await self.settle(store, clock, sharper.apply(job), Cancelled(killed=True))
        assert [*await self.begun(store)] == ["b"]
