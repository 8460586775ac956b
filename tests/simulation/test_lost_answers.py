"""What a worker does when a call was carried out and its answer never came, or came too late."""

import asyncio
import random

import pytest
from tests.simulation.clients import Clients
from tests.simulation.machine import SETTINGS
from tests.simulation.world import World

from heavylift.core.errors import StoreUnavailable
from heavylift.core.job import State
from heavylift.core.options import Options
from heavylift.core.retention import Retention
from heavylift.store import Question

AWAY = StoreUnavailable("its answer was lost")
BROKEN = OSError("no descriptors")


@pytest.fixture
def world():
    before = random.getstate()
    world = World(0)
    world.skewed, world.apart = False, True
    with world.machine.as_kernel():
        yield world
        assert not world.loop.failures
        world.bury()
    world.database.close()
    random.setstate(before)


def play(world, scenario):
    world.loop.run_until_complete(scenario)
    assert world.auditor.violations == []


async def submitted(world, *tasks):
    """The store, with a job of each of these tasks."""
    client = Clients(world)
    for task in tasks:
        await client._client.add([(task, b"[]", Options())], [task])
    return world.database.store(world.watching)


async def over(store, name, patience):
    """The job when it is over; a job that takes longer than `patience` seconds hangs."""
    async with asyncio.timeout(patience):
        while not (job := (await store.get([name]))[0]).state.final:
            await asyncio.sleep(0.1)
    return job


def lose_answers(member, name, *, times=1, late=None):
    """Have the next calls of this name fail after they were carried out; `late`: they are carried out so much later."""
    real, left = getattr(member.link, name), [times]

    async def call(*args):
        if not left[0]:
            return await real(*args)
        left[0] -= 1
        if late is None:
            await real(*args)
        else:
            member.process.later(late, lambda: member.process.start(real(*args)))
        raise AWAY

    setattr(member.link, name, call)


def test_jobs_of_a_claim_whose_answer_was_lost_run_soon_and_are_charged_nothing(world):
    async def scenario():
        store = await submitted(world, "steady", "flaky")
        member = world.start(0)
        lose_answers(member, "claim", times=3)
        job = await over(store, "steady", 4 * SETTINGS.poll + 60)
        assert (job.state, job.failures, job.crashes, job.losses) == (State.SUCCEEDED, 0, 0, 0)
        assert job.attempt > 1
        assert world.auditor.starts["steady"] == 1
        assert member.worker.record.epoch == 1

    play(world, scenario())


def test_a_claim_that_is_carried_out_long_after_it_failed_keeps_no_job_from_running(world):
    async def scenario():
        world.database.hints.lost = 1.0
        store = await submitted(world)
        member = world.start(0)
        await asyncio.sleep(1)
        lose_answers(member, "claim", late=7.0)
        # The claim of the first poll fails; that of the second finds nothing, and nothing that is held.
        await asyncio.sleep(2 * SETTINGS.poll)
        await submitted(world, "steady")
        await asyncio.sleep(2)
        assert (await store.get(["steady"]))[0].state is State.RUNNING
        assert world.auditor.starts["steady"] == 0
        job = await over(store, "steady", SETTINGS.lease + SETTINGS.poll + 60)
        assert (job.state, job.losses) == (State.SUCCEEDED, 0)

    play(world, scenario())


def test_what_an_epoch_claimed_is_not_started_in_the_next_one(world):
    async def scenario():
        store = await submitted(world)
        member = world.start(0)
        await asyncio.sleep(1)
        real = member.link.claim

        async def slow(*args):
            jobs = await real(*args)
            if jobs and member.worker.record.epoch == 1:
                world.database.connection.execute("UPDATE worker SET died_at = 1")
                await asyncio.sleep(2 * SETTINGS.beat)
                assert member.worker.record.epoch == 2
            return jobs

        member.link.claim = slow
        await submitted(world, "steady")
        job = await over(store, "steady", 100)
        assert (job.state, world.auditor.starts["steady"]) == (State.SUCCEEDED, 1)

    play(world, scenario())


def test_what_was_claimed_before_the_lease_ended_is_not_started_after_it(world):
    async def scenario():
        store = await submitted(world)
        member, other = world.start(0), world.start(1)
        await asyncio.sleep(SETTINGS.lease + 1)
        real = member.link.claim

        async def slow(*args):
            jobs = await real(*args)
            if jobs:
                member.process.stop()
                world.loop.root.later(2 * SETTINGS.lease, member.process.proceed)
                await asyncio.sleep(0)
            return jobs

        member.link.claim = slow
        other.worker._executor._closing = True  # it takes nothing
        await submitted(world, "steady")
        await asyncio.sleep(2 * SETTINGS.lease)
        other.worker._executor._closing = False
        job = await over(store, "steady", 100)
        assert world.auditor.starts["steady"] == 1
        assert job.state is State.SUCCEEDED

    play(world, scenario())


@pytest.mark.parametrize("when", ["at once", "when it had time to begin"])
def test_a_worker_drains_in_time_while_the_store_is_away(world, when):
    async def scenario():
        await submitted(world, "steady", "endless")
        member = world.start(0)
        await asyncio.sleep(0.0 if when == "at once" else 3.0)
        world.weather.outage = True
        await asyncio.sleep(3.0)
        member.worker.drain(2.0)
        await world.ends(member, 2.0)
        assert member.running.done()

    play(world, scenario())


def test_a_sweep_that_fails_ends_the_contact_with_the_store(world):
    async def scenario():
        await submitted(world)
        member = world.start(0)
        await asyncio.sleep(3 * SETTINGS.lease)
        asked = []
        real = member.link.sweep

        async def sweep(worker, *, others):
            if others:
                asked.append(world.loop.time())
                if len(asked) == 1:
                    raise AWAY
            return await real(worker, others=others)

        member.link.sweep = sweep
        await asyncio.sleep(2 * SETTINGS.lease)
        failed, again = asked[0], asked[1]
        assert again - failed >= SETTINGS.lease

    play(world, scenario())


def test_an_outcome_of_a_job_that_is_pruned_by_now_is_dropped(world):
    async def scenario():
        store = await submitted(world, "steady")
        member = world.start(0)
        settling, pruned = asyncio.Event(), asyncio.Event()
        real = member.link.save

        async def late(changes):
            if any(change.fields.get("state") for change in changes):
                settling.set()
                await pruned.wait()
            return await real(changes)

        member.link.save = late
        await asyncio.wait_for(settling.wait(), 60)
        member.worker._executor._closing = True  # it takes nothing more
        world.database.connection.execute("UPDATE worker SET died_at = 1")
        world.start(1)
        await over(store, "steady", 100)
        await asyncio.sleep(61)
        assert await store.prune(Retention(age=0.0)) == 1
        pruned.set()
        await asyncio.sleep(1)
        assert not member.running.done()

    play(world, scenario())


def test_a_look_that_fails_ends_no_worker(world, caplog):
    async def scenario():
        store = await submitted(world, "steady")
        member = world.start(0)

        async def look(_job, _attempt):
            raise BROKEN

        member.worker._executor.look = look
        async with asyncio.timeout(60):
            while (await store.get(["steady"]))[0].state is not State.RUNNING:
                await asyncio.sleep(0.1)
            assert await store.ask(Question("question", "steady", 1), 20.0) == "question"
            while "no descriptors" not in caplog.text:
                await asyncio.sleep(0.1)
        await over(store, "steady", 60)
        assert not member.running.done()

    play(world, scenario())
