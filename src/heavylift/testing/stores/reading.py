"""The cases of `get`, `find`, `events`, `queues` and `set_queue`, and of a store's own life."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

from dataclasses import replace

import pytest

from heavylift.core import lifecycle
from heavylift.core.errors import ConfigError, StoreUnavailable
from heavylift.core.job import Error, State
from heavylift.core.options import Slots
from heavylift.core.outcome import Failed, Interrupted
from heavylift.store import Query, Schema, Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases

BROKEN = Failed(Error("failed", "it broke"), retryable=False)


class Reading(StoreCases):
    """What is read."""

    async def test_jobs_come_in_the_order_in_which_they_were_asked_for(self, store: Store, clock: FakeClock) -> None:
        a, b = await self.added(store, clock, "a", "b")
        assert await store.get(["b", "nobody", "a", "b"]) == [b, None, a, b]
        assert await store.get([]) == []
        assert await store.get(["nobody"]) == [None]

    async def test_another_process_reads_what_was_written(self, store: Store, other: Store, clock: FakeClock) -> None:
        (job,) = await self.finished(store, clock, "a", labels={"x": "y"})
        assert await self.read(other, "a") == job
        assert await self.events(other, "a") == await self.events(store, "a")
        assert await other.queues() == await store.queues()

    async def test_a_new_store_gets_its_schema_and_one_that_has_it_keeps_it(self, store: Store, other: Store) -> None:
        """An open store says what its `open` did."""
        assert 0 == store.schema.before < store.schema.after
        assert other.schema == Schema(store.schema.after, store.schema.after)

    async def test_an_open_store_can_be_opened_again_and_closed_twice(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "a")
        await store.open()
        await self.read(store, "a")
        await store.close()
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.get(["a"])

    # --- find ---------------------------------------------------------------------------------------------------------

    async def crowd(self, store: Store, clock: FakeClock) -> None:
        """Jobs in every state, named after it."""
        await self.finished(store, clock, "succeeded-1", "succeeded-2", labels={"tenant": "acme", "tier": "1"})
        await self.finished(store, clock, "failed-1", outcome=BROKEN, queue="other")
        for job in await self.added(store, clock, "cancelled-1", labels={"tenant": "other"}):
            await self.cancel(store, clock, job)
        await self.started(store, clock, "running-1", "running-2")
        await self.added(store, clock, "queued-1")
        await self.added(store, clock, "queued-2", delay=60, queue="other", labels={"tenant": "acme"})

    async def test_jobs_are_found_newest_first(self, store: Store, clock: FakeClock) -> None:
        names = [f"{number:03}" for number in range(120)]
        await self.added(store, clock, *names)
        assert await self.found(store, limit=50) == names[::-1]
        assert await self.found(store, limit=7) == names[::-1]
        assert [job.id for job in (await store.find(Query(limit=2))).jobs] == ["119", "118"]

    async def test_jobs_are_found_by_state(self, store: Store, clock: FakeClock) -> None:
        await self.crowd(store, clock)
        everything = await self.found(store)
        assert len(everything) == 8
        for state in State:
            expected = [name for name in everything if name.startswith(f"{state.value}-")]
            assert await self.found(store, states=(state,)) == expected
            assert await self.found(store, states=(state,), limit=1) == expected
        some = (State.RUNNING, State.QUEUED, State.FAILED)
        expected = [name for name in everything if name.split("-")[0] in {state.value for state in some}]
        assert await self.found(store, states=some, limit=2) == expected
        assert await self.found(store, states=tuple(State), limit=3) == everything

    async def test_jobs_are_found_by_queue_task_and_labels_all_together(self, store: Store, clock: FakeClock) -> None:
        await self.crowd(store, clock)
        assert await self.found(store, queue="other") == ["queued-2", "failed-1"]
        assert await self.found(store, queue="nowhere") == []
        assert await self.found(store, task="nothing") == []
        assert len(await self.found(store, task="task")) == 8
        assert await self.found(store, labels={"tenant": "acme"}) == ["queued-2", "succeeded-2", "succeeded-1"]
        assert await self.found(store, labels={"tenant": "acme", "tier": "1"}, limit=1) == [
            "succeeded-2",
            "succeeded-1",
        ]
        assert await self.found(store, labels={"tenant": "acme"}, states=(State.QUEUED,), queue="other") == ["queued-2"]
        assert await self.found(store, labels={"tenant": 'x" OR 1=1'}) == []

    async def test_pages_neither_skip_nor_repeat_what_was_there_from_the_start(
        self, store: Store, clock: FakeClock
    ) -> None:
        await self.added(store, clock, *"abcdef")
        page = await store.find(Query(limit=2))
        assert [job.id for job in page.jobs] == ["f", "e"]
        await self.added(store, clock, "new")
        page = await store.find(Query(limit=9, page_token=page.next_page_token))
        assert [job.id for job in page.jobs] == ["d", "c", "b", "a"]

    @pytest.mark.parametrize("token", ["", "x", "n", "n-1", "n1; DROP TABLE job", "n" + "9" * 40, "n²"])
    async def test_a_token_that_no_page_returned_is_refused(self, store: Store, token: str) -> None:
        with pytest.raises(ConfigError, match="page_token"):
            await store.find(Query(page_token=token))

    # --- events -------------------------------------------------------------------------------------------------------

    async def test_events_come_by_job_and_number_above_their_cursors(self, store: Store, clock: FakeClock) -> None:
        await self.finished(store, clock, "a", "b")
        await self.added(store, clock, "c")
        found = [(item.job, item.seq) for item in await store.events({"b": 1, "c": 0, "a": 2, "x": 0})]
        assert found == [("a", 3), ("b", 2), ("b", 3), ("c", 1)]
        found = [(item.job, item.seq) for item in await store.events({"a": 0, "b": 0}, limit=4)]
        assert found == [("a", 1), ("a", 2), ("a", 3), ("b", 1)]
        assert await store.events({"a": 3}) == []
        assert await store.events({}) == []

    # --- queues -------------------------------------------------------------------------------------------------------

    async def test_queues_count_their_jobs_by_state(self, store: Store, clock: FakeClock) -> None:
        await self.crowd(store, clock)
        default, other = [replace(queue, drain_rate=None) for queue in await store.queues()]
        assert default.name == "default"
        assert default.counts == {State.SUCCEEDED: 2, State.CANCELLED: 1, State.RUNNING: 2, State.QUEUED: 1}
        assert other.name == "other"
        assert other.counts == {State.FAILED: 1, State.QUEUED: 1}

    async def test_a_queue_says_how_long_the_job_at_its_head_has_been_due(self, store: Store, clock: FakeClock) -> None:
        await self.added(store, clock, "later", delay=1000)
        assert (await store.queues())[0].oldest_wait is None
        await self.added(store, clock, "overdue", delay=1, queue="other")
        clock.advance(3)
        assert (await store.queues())[1].oldest_wait == 2.0, "though no claim was made since it became due"
        await self.added(store, clock, "a")
        clock.advance(5)
        await self.added(store, clock, "b")
        assert (await store.queues())[0].oldest_wait == 5.0
        await store.beat(self.worker(), LEASE)
        await store.claim("worker", 1, Slots(1))
        assert (await store.queues())[0].oldest_wait == 0.0

    async def test_counts_follow_every_transition(self, store: Store, clock: FakeClock) -> None:
        async def counts() -> dict[State, int]:
            return dict((await store.queues())[0].counts)

        (job,) = await self.added(store, clock, "a", delay=5)
        assert await counts() == {State.QUEUED: 1}
        clock.advance(5)
        await store.beat(self.worker(), LEASE)
        (job,) = await store.claim("worker", 1, Slots(1))
        assert await counts() == {State.RUNNING: 1}
        await self.settle(store, clock, job, Interrupted("drained"))
        assert await counts() == {State.QUEUED: 1}
        (job,) = await store.claim("worker", 1, Slots(1))
        over = await self.settle(store, clock, job, BROKEN)
        assert await counts() == {State.FAILED: 1}
        await store.save([lifecycle.retry(over, clock.wall())])
        assert await counts() == {State.QUEUED: 1}
        await self.cancel(store, clock, await self.read(store, "a"))
        assert await counts() == {State.CANCELLED: 1}

    # --- diagnosis ----------------------------------------------------------------------------------------------------

    async def test_a_good_store_is_found_good_by_those_who_have_it_open_and_those_who_have_not(
        self, store: Store, clock: FakeClock
    ) -> None:
        for one in (store, self.make_again(store, clock)):
            found = {finding.check: finding for finding in await one.diagnose()}
            for check in ("place", "schema"):
                assert found[check].level == "ok", found[check]
            for finding in found.values():
                assert finding.what
                assert bool(finding.fix) == (finding.level != "ok"), finding
        assert await store.queues() == []

    async def test_looking_makes_no_store(self, clock: FakeClock) -> None:
        fresh = self.make_store(clock)
        before = await fresh.diagnose()
        assert await fresh.diagnose() == before
        assert all(finding.level != "fail" for finding in before if finding.check in ("place", "schema"))
        await fresh.open()
        try:
            assert fresh.schema.before == 0
        finally:
            await fresh.close()
