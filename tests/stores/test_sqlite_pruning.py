"""That very many finished jobs go without anybody having to wait for it."""

import asyncio

import pytest

from heavylift import housekeeping
from heavylift.core.options import Slots
from heavylift.core.retention import Retention
from heavylift.stores import open_store
from heavylift.stores.sqlite.pruning import REMOVED
from heavylift.testing import FakeClock
from heavylift.testing.stores import StoreCases

CASES = StoreCases()
ALL = Retention(age=0.0)
JOBS = 3000


class SlowClock(FakeClock):
    """A clock on which each look takes a while."""

    def monotonic(self) -> float:
        self.advance(0.01)
        return super().monotonic()


@pytest.fixture
async def store(tmp_path):
    """Of a worker, with very many finished jobs."""
    clock = FakeClock()
    found = open_store(f"sqlite:///{tmp_path}/jobs.db", clock, inline=True)
    await found.open()
    await CASES.finished(found, clock, *[f"{number}" for number in range(JOBS)])
    clock.advance(100)
    yield found
    await found.close()


async def test_a_worker_claims_while_it_removes_finished_jobs(store):
    await store.beat(CASES.worker(), 60)
    removing = asyncio.create_task(housekeeping.prune(store, ALL, FakeClock()))
    claims = 0
    while not removing.done():
        await store.claim("worker", 1, Slots(1))
        claims += 1
        await asyncio.sleep(0)
    assert await removing == JOBS
    assert claims > JOBS / REMOVED


async def test_one_pass_ends_in_time_and_the_next_one_goes_on(store):
    """Whoever has died meanwhile has to be found."""
    removed = await housekeeping.prune(store, ALL, SlowClock(), 0.1)
    assert 0 < removed < JOBS
    assert await housekeeping.prune(store, ALL, SlowClock()) == JOBS - removed
