"""What clients are told of jobs that wait or run, by the store of an application and without workers' processes."""

from dataclasses import replace

import pytest

from heavylift import Heavylift
from heavylift.core.job import Change, Progress, State
from heavylift.core.options import Slots
from heavylift.executor import Checkpoint
from heavylift.reports import Running
from heavylift.testing import FakeClock
from heavylift.testing.stores import StoreCases

CASES = StoreCases()
LEASE = 15.0


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def lift(tmp_path, clock):
    lift = Heavylift(f"sqlite:///{tmp_path}/jobs.db")
    lift.task(name="idle")(lambda: None)
    with lift.overridden(clock=clock):
        async with lift:
            yield lift


async def begun(lift, count, **record):
    await lift.store.beat(CASES.worker(**record), LEASE)
    return await lift.store.claim("worker", 1, Slots(count))


async def test_a_handle_tells_why_its_job_waits_and_when_it_starts(lift, clock):
    handles = [await lift.find_task("idle").submit() for _ in range(4)]
    last = handles[-1]
    assert (await last.outlook()).reason == "no live worker takes jobs"
    jobs = await begun(lift, 2, running=2)
    found = await last.outlook()
    assert (found.waiting.code, found.reason, found.estimate) == ("in-line", "1 ahead", None)
    clock.advance(10)
    await CASES.settle(lift.store, clock, jobs[0])
    found = await last.outlook()
    # Two of its queue run, each for the ten seconds that the one took which is over: one in ten seconds is left.
    assert found.estimate.basis == "queue"
    assert found.estimate.remaining == pytest.approx(20.0)
    await lift.store.beat(CASES.worker(draining=True), LEASE)
    assert (await last.outlook()).waiting.code == "no-worker"
    await last.cancel()
    assert (await last.outlook()).waiting is None


async def test_a_handle_tells_how_long_its_job_still_runs(lift, clock):
    handle = await lift.find_task("idle").submit()
    assert handle.eta is None
    [job] = await begun(lift, 1)
    running, began = Running(job, 0.0), clock.wall()
    for second, percent in ((10, 10), (20, 20)):
        clock.advance(10)
        change = running.heard(Progress(percent, 100, percent, at=began + second), 0.0, clock.wall())
        await lift.store.save([change])
    clock.advance(5)
    await handle.refresh()
    assert handle.eta == pytest.approx(75.0)
    assert (await handle.outlook()).estimate.finishes_at == pytest.approx(began + 100)
    *_, event = await lift.store.events({handle.id: 0})
    assert event.data["rate"] == pytest.approx(1.0)
    clock.advance(76)
    assert handle.eta is None, "it should have been over, and has said nothing"


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_checkpoint_of_its_own_does_not_hide_how_fast_a_job_is(lift, clock, resumed):
    await lift.find_task("idle").submit()
    [job] = await begun(lift, 1)
    running = Running(replace(job, checkpoint=b"6" if resumed else None), 0.0)
    clock.advance(10)
    running.heard(Checkpoint(b"7"), 0.0, clock.wall())
    change = running.heard(Progress(7, 10, 70.0, at=clock.wall()), 0.0, clock.wall())
    assert isinstance(change, Change)
    assert change.fields["progress"].rate == (None if resumed else pytest.approx(7.0))


async def test_a_page_of_waiting_jobs_costs_two_reads(lift, monkeypatch):
    handles = [await lift.find_task("idle").submit() for _ in range(50)]
    calls = []
    for name in ("workers", "standing", "queues", "get", "find", "events"):
        verb = getattr(lift.store, name)

        async def counted(*args, name=name, verb=verb):
            calls.append(name)
            return await verb(*args)

        monkeypatch.setattr(lift.store, name, counted)
    found = await lift.client.outlook([handle.job for handle in handles])
    assert sorted(calls) == ["standing", "workers"]
    assert len(found) == 50
    calls.clear()
    assert await lift.client.outlook([replace(handles[0].job, state=State.SUCCEEDED)]) == {}
    assert calls == []


def test_the_same_without_a_loop(tmp_path):
    lift = Heavylift(f"sqlite:///{tmp_path}/jobs.db")
    handle = lift.task(name="idle")(lambda: None).using(delay="1h").submit_sync()
    found = lift.sync.outlook(handle)
    assert found == lift.sync.outlook(handle.id) or found.waiting == lift.sync.outlook(handle.id).waiting
    assert found.waiting.code == "scheduled"
    lift.sync.close()
