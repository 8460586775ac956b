"""That rates go by the clock of one boot, and begin anew in the next, or on another machine, where it says nothing."""

import pytest

from heavylift.core.limits import Rate
from heavylift.core.options import Slots
from heavylift.stores import open_store
from heavylift.stores.sqlite import workers
from heavylift.testing import FakeClock
from heavylift.testing.stores import StoreCases

CASES = StoreCases()
HOURLY = Rate("1/h", "r")


async def opened(tmp_path, monotonic: float):
    """The store, by a clock that has gone so long."""
    found = open_store(f"sqlite:///{tmp_path}/jobs.db", FakeClock(monotonic=monotonic))
    await found.open()
    return found


async def filled(tmp_path):
    """Of each kind of rate, one start, and others that wait."""
    store = await opened(tmp_path, 10**6)
    await store.beat(CASES.worker(), 60)
    await store.set_queue("q", rate="1/h")
    for options in ({"queue": "q"}, {"limits": [HOURLY]}):
        await CASES.added(store, FakeClock(), *(f"{number} {options}" for number in range(3)), **options)
    assert len(await store.claim("worker", 1, Slots(9))) == 2
    assert not await store.claim("worker", 1, Slots(9))
    assert await store.reserve(Rate("1/h", "code")) == 0
    await store.close()


@pytest.mark.parametrize("monotonic", [20.0, 10.0**6 + 60])
async def test_in_another_boot_rates_begin_anew(tmp_path, monkeypatch, monotonic):
    """Its clock began anew, or has gone for longer."""
    await filled(tmp_path)
    monkeypatch.setattr(workers, "boot_id", lambda: "another")
    store = await opened(tmp_path, monotonic)
    await store.beat(CASES.worker(epoch=2), 60)
    assert (await store.next_due() or 0) <= FakeClock().wall(), "there is something to look at"
    assert len(await store.claim("worker", 2, Slots(9))) == 2
    assert not await store.claim("worker", 2, Slots(9))
    due = await store.next_due()
    assert due is not None
    assert due - FakeClock().wall() == pytest.approx(3600, abs=1)
    assert [await store.reserve(Rate("1/h", "code")) for _ in range(2)] == pytest.approx([0, 3600])
    await store.close()


async def test_who_opens_it_again_in_the_same_boot_goes_on(tmp_path):
    await filled(tmp_path)
    for _ in range(2):
        store = await opened(tmp_path, 10**6 + 1)
        await store.beat(CASES.worker(), 60)
        assert not await store.claim("worker", 1, Slots(9))
        await store.close()
    store = await opened(tmp_path, 10**6 + 2)
    assert await store.reserve(Rate("1/h", "code")) == pytest.approx(3598)
    await store.close()
