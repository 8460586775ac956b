"""Jobs that do not want to stop: each is cancelled and each is timed out, with the truth on record and nobody hurt."""

import asyncio
import uuid

import pytest
from tests.system.service import processes_with, serving, until

from heavylift import State
from heavylift.core.job import Stopped

HOSTILE = {
    # name -> how it is stopped: by its own clean-up, or by the kill that follows the grace
    "spin": Stopped.SOFT,
    "backtrack": Stopped.SOFT,
    "derive": Stopped.KILLED,
    "defy": Stopped.KILLED,
    "swallow": Stopped.SOFT,
    "family": Stopped.SOFT,
}


def arguments(name: str) -> dict[str, str]:
    return {"name": uuid.uuid4().hex} if name == "family" else {}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_job_is_cancelled_and_its_neighbour_goes_on(tmp_path, name):
    async with serving(tmp_path) as service:
        neighbour = await service.task("work").submit(1, 1.0)
        given = arguments(name)
        handle = await service.task(name).using(grace=0.5).submit(**given)
        await service.started(handle.id)
        await service.started(neighbour.id)
        if given:
            await until(lambda: len(processes_with(given["name"])) >= 2)

        receipt = await handle.cancel()

        assert (receipt.state, receipt.final, receipt.stopped) == (State.CANCELLED, True, HOSTILE[name])
        job = await handle.refresh()
        assert (job.state, job.stopped) == (State.CANCELLED, HOSTILE[name])
        if given:
            await until(lambda: not processes_with(given["name"]))
        if name == "spin":
            assert ["cleaned", handle.id, "1"] in [line[:3] for line in service.marks()]
        assert await neighbour.result(timeout=50) == 1
        assert (neighbour.job.attempt, neighbour.job.failures, neighbour.job.crashes) == (1, 0, 0)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_job_is_timed_out_and_its_neighbour_goes_on(tmp_path, name):
    async with serving(tmp_path) as service:
        neighbour = await service.task("work").submit(1, 1.0)
        given = arguments(name)
        handle = await service.task(name).using(grace=0.3, timeout=0.5).submit(**given)

        job = await asyncio.wait_for(service.client.finished(handle.id), 30)

        assert (job.state, job.failures, job.crashes) == (State.FAILED, 1, 0)
        assert job.error is not None
        assert job.error.code == "timed-out"
        if given:
            await until(lambda: not processes_with(given["name"]))
        if name == "spin":
            assert ["cleaned", handle.id, "1"] in [line[:3] for line in service.marks()]
        assert await neighbour.result(timeout=50) == 1
        assert (neighbour.job.attempt, neighbour.job.failures, neighbour.job.crashes) == (1, 0, 0)


async def test_the_last_free_host_is_used_while_the_others_are_busy(tmp_path):
    async with serving(tmp_path, concurrency=3) as service:
        spins = [await service.task("spin").submit() for _ in range(2)]
        for spin in spins:
            await service.started(spin.id)
        handle = await service.task("work").submit(7, 0.01)
        assert await handle.result(timeout=50) == 7
        for spin in spins:
            await spin.cancel(force=True)
