"""Hints between processes: by sockets at once, and without them by a look at the file now and then."""

import asyncio
import shutil

import pytest

from heavylift.core.job import Error
from heavylift.core.limits import Rate
from heavylift.core.options import Slots
from heavylift.core.outcome import Failed, Interrupted
from heavylift.stores import open_store
from heavylift.testing import FakeClock
from heavylift.testing.stores import StoreCases

CASES = StoreCases()
LEASE = 15.0


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def stores(tmp_path, clock):
    """The same store twice, as two processes have it."""
    pair = [open_store(f"sqlite:///{tmp_path}/jobs.db", clock) for _ in range(2)]
    for store in pair:
        await store.open()
    yield pair
    for store in pair:
        await store.close()


async def quiet(hints):
    while await hints.wait(0.0):
        pass


async def told(hints):
    """A hint came; raises TimeoutError before a look (each 1000 s) would have found what was written."""
    async with asyncio.timeout(10):
        return await hints.wait(1000)


async def test_sockets_tell_at_once_what_a_look_would_find_later(stores, clock, monkeypatch):
    monkeypatch.setattr("heavylift.stores.sqlite.wakeups.LOOK", 1000.0)
    mine, theirs = stores
    await theirs.beat(CASES.worker(), LEASE)
    async with theirs.watch(worker="worker") as worker, theirs.watch() as follower, theirs.watch(ends=True) as ends:
        await quiet(worker)
        await CASES.added(mine, clock, "a")
        assert await told(worker)
        assert await told(follower)
        (job,) = await theirs.claim("worker", 1, Slots(1))
        assert await told(follower)
        await CASES.cancel(mine, clock, job)
        assert await told(worker)
        assert not await ends.wait(0.0)
        await CASES.settle(mine, clock, await CASES.read(mine, "a"))
        assert await told(follower)
        assert await told(ends)
        await CASES.finished(mine, clock, "b", outcome=Failed(Error("failed", "no"), retryable=False))
        assert await told(ends)
        await CASES.finished(mine, clock, "c")
        assert await told(ends)
        (waiting,) = await CASES.added(mine, clock, "d")
        assert not await ends.wait(0.0)
        await CASES.cancel(mine, clock, waiting)
        assert await told(ends)
        await mine.set_queue("default", paused=True)
        await mine.set_queue("default", paused=False)
        assert await told(worker)


async def test_one_worker_is_woken_and_rather_one_that_waits(stores, clock, monkeypatch):
    monkeypatch.setattr("heavylift.stores.sqlite.wakeups.LOOK", 1000.0)
    mine, theirs = stores
    names = ["busy", "idle", "elsewhere"]
    for name in names:
        await theirs.beat(CASES.worker(name, queues=("other",) if name == "elsewhere" else ()), LEASE)
    async with (
        theirs.watch(worker="busy") as busy,
        theirs.watch(worker="idle") as idle,
        theirs.watch(worker="elsewhere") as elsewhere,
    ):
        await CASES.added(mine, clock, "a")
        assert [job.id for job in await theirs.claim("busy", 1, Slots(1))] == ["a"]
        assert await theirs.claim("idle", 1, Slots(1)) == []
        assert await theirs.claim("elsewhere", 1, Slots(1), ["other"]) == []
        for hints in (busy, idle, elsewhere):
            await quiet(hints)
        for number in range(10):
            await CASES.added(mine, clock, f"{number}")
        assert await told(idle)
        assert not await busy.wait(0.0)
        assert not await elsewhere.wait(0.0)
        await CASES.added(mine, clock, "soon", delay=60)
        assert await told(idle)  # it is the first that will be due
        await CASES.added(mine, clock, "later", delay=61, queue="other")
        await CASES.added(mine, clock, "now")  # sent after what the job before it may have sent
        assert await told(idle)
        assert not await elsewhere.wait(0.0)


async def test_the_first_job_that_waits_at_a_rate_wakes_a_worker_and_the_next_ones_do_not(stores, clock, monkeypatch):
    monkeypatch.setattr("heavylift.stores.sqlite.wakeups.LOOK", 1000.0)
    mine, theirs = stores
    limits = [Rate("1/m", key="crm")]
    await theirs.beat(CASES.worker(), LEASE)
    await CASES.added(mine, clock, "a", limits=limits)
    assert [job.id for job in await theirs.claim("worker", 1, Slots(1))] == ["a"]
    async with theirs.watch(worker="worker") as hints:
        await quiet(hints)
        await CASES.added(mine, clock, "b", limits=limits)
        assert await told(hints)
        await CASES.added(mine, clock, "c", limits=limits)
        assert not await hints.wait(0.0)


async def test_a_job_that_goes_back_to_its_queue_wakes_another_worker(stores, clock, monkeypatch):
    monkeypatch.setattr("heavylift.stores.sqlite.wakeups.LOOK", 1000.0)
    mine, theirs = stores
    (job,) = await CASES.started(mine, clock, "a", worker="first")
    await mine.retire("first", 1)
    await theirs.beat(CASES.worker("second"), LEASE)
    async with theirs.watch(worker="second") as second:
        await quiet(second)
        await CASES.settle(mine, clock, job, Interrupted("drained"))
        assert await told(second)


async def test_a_hint_that_was_lost_is_made_up_for_by_a_look(stores, clock, tmp_path, monkeypatch):
    monkeypatch.setattr("heavylift.stores.sqlite.wakeups.LOOK", 0.01)
    mine, theirs = stores
    async with theirs.watch() as follower:
        for item in (tmp_path / "jobs.db-run").glob("follower.*"):
            item.unlink()
        await quiet(follower)
        assert not await follower.wait(0.05)
        await CASES.added(mine, clock, "a")
        assert await told(follower)


async def test_a_claim_that_found_only_other_queues_jobs_become_due_is_made_again(stores, clock, monkeypatch):
    monkeypatch.setattr("heavylift.stores.sqlite.wakeups.LOOK", 1000.0)
    monkeypatch.setattr("heavylift.stores.sqlite.claiming.MOVED", 3)
    mine, theirs = stores
    await theirs.beat(CASES.worker(queues=("own",)), LEASE)
    for number in range(5):
        await CASES.added(mine, clock, f"other-{number}", delay=1000, queue="other")
    await CASES.added(mine, clock, "a", delay=2000, queue="own")
    clock.advance(3000)
    async with theirs.watch(worker="worker") as hints:
        await quiet(hints)
        assert await theirs.claim("worker", 1, Slots(1), ["own"]) == []
        assert await told(hints)
        assert [job.id for job in await theirs.claim("worker", 1, Slots(1), ["own"])] == ["a"]


async def test_who_cannot_listen_looks(stores, clock, tmp_path, monkeypatch):
    monkeypatch.setattr("heavylift.stores.sqlite.wakeups.LOOK", 0.01)
    mine, theirs = stores
    shutil.rmtree(tmp_path / "jobs.db-run")
    async with theirs.watch() as follower:
        await quiet(follower)
        await CASES.added(mine, clock, "a")
        assert await told(follower)


async def test_a_waiter_that_reads_nothing_holds_nobody_up(stores, clock):
    mine, theirs = stores
    async with theirs.watch() as follower:
        for number in range(100):
            await CASES.added(mine, clock, f"{number}")
        assert await told(follower)
