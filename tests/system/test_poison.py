"""Poisoned jobs among innocent ones: each is given up after its starts, with its reason, and nobody else pays."""

import asyncio

from tests.system.service import serving

from heavylift import State
from heavylift.testing import poison

STARTS = 3
INNOCENTS = 100
SIGNALS = {"kill": "SIGKILL", "segfault": "SIGSEGV", "abort": "SIGABRT", "stack": "SIGSEGV"}


async def test_poison_is_given_up_after_its_starts_and_no_innocent_pays(tmp_path):
    survived = str(tmp_path / "survived")
    async with serving(tmp_path) as service:
        worker = service.worker_pid
        innocents, poisoned = [], {}
        for kind in poison.CODES:
            innocents += [await service.task("child").submit(number) for number in range(INNOCENTS // 8)]
            poisoned[kind] = await service.task("poisoned").submit(kind, survived)
            innocents += [await service.task("work").submit(number, 0.02) for number in range(4)]

        jobs = {kind: await over(service, handle) for kind, handle in poisoned.items()}
        others = [await over(service, handle) for handle in innocents]

        starts = [line[1] for line in service.marks() if line[0] == "poisoned"]
        for kind, job in jobs.items():
            assert (job.state, starts.count(job.id)) == (State.FAILED, STARTS), (kind, job)
            assert (job.error.code, job.error.signal) == (poison.CODES[kind], SIGNALS.get(kind)), (kind, job.error)
            budget = "crashes" if job.error.code == "crashed" else "failures"
            assert getattr(job, budget) == STARTS == job.failures + job.crashes + job.losses, (kind, job)
        assert jobs["exit"].error.exit_code == 3
        for job in others:
            assert job.state is State.SUCCEEDED, job
            assert (job.failures, job.crashes, job.losses) == (0, 0, 0), job
        begun = [line[1] for line in service.marks() if line[0] == "start"]
        assert len(begun) == len(set(begun))  # no innocent was begun twice
        assert service.worker_pid == worker
    assert not (tmp_path / "survived").exists()


async def over(service, handle):
    return await asyncio.wait_for(service.client.finished(handle.id), 50)
