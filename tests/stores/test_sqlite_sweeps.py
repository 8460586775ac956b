"""Whom a worker that looks around takes for dead."""

import pytest
from tests.few_descriptors import only

from heavylift.core.options import Slots
from heavylift.stores import open_store
from heavylift.testing import FakeClock
from heavylift.testing.stores import StoreCases

CASES = StoreCases()
CLOCK = FakeClock()


@pytest.fixture
async def store(tmp_path):
    found = open_store(f"sqlite:///{tmp_path}/jobs.db", CLOCK, inline=True)
    await found.open()
    yield found
    await found.close()


async def test_who_cannot_look_at_a_process_does_not_take_it_for_dead(store):
    """A worker without descriptors would else declare all its neighbours dead, and their jobs would run twice."""
    for name in ("one", "other"):
        await store.beat(CASES.worker(name), 60)
    await store.add([CASES.job(CLOCK, "job")])
    [job] = await store.claim("other", 1, Slots(1))
    with only(0):
        assert await store.sweep("one", others=False) == []
    assert (await store.beat(CASES.worker("other"), 60)).alive
    assert await store.sweep("one", others=True) == []
    assert (await store.get([job.id]))[0].worker == "other"
