"""What is submitted when a job has failed for good, on real workers: once, whatever is killed, and it sees the end."""

import asyncio
import json
import os
import random
from collections import Counter

from tests.system.service import serving, until
from tests.system.workers import machine

from heavylift import State
from heavylift.client import Client
from heavylift.core.options import FollowUp, Options

KILLS = int(os.environ.get("WORKER_KILLS", "4"))
TOLD = FollowUp("told", Options())


async def jobs_of(client: Client, task: str) -> list:
    return [job async for job in client.find(task=task)]


async def test_the_job_that_follows_sees_the_end_of_the_one_that_failed(tmp_path):
    """It is over, and can be read, before the one that follows begins; of each kind of end that is a failure."""
    async with serving(tmp_path) as service:
        for task in ("broken", "dying", "slow"):
            await service.task(task).using(on_exhausted=TOLD).submit()
        await service.client.store.set_queue("stopped", paused=True)
        late = await service.task("work").using(on_exhausted=TOLD, expires=0.05, queue="stopped").submit(1, 0)
        stopped = await service.task("work").using(on_exhausted=TOLD, delay=3600).submit(1, 0)
        await service.client.cancel(stopped.id)
        await until(lambda: sum(line[0] == "told" for line in service.marks()) >= 4, 60)
        told = [line[1:4] for line in service.marks() if line[0] == "told"]
        assert sorted(line[1:] for line in told) == [
            ["failed", "crashed"],
            ["failed", "expired"],
            ["failed", "failed"],
            ["failed", "timed-out"],
        ]
        assert [late.id, "failed", "expired"] in told
        for job in await jobs_of(service.client, "told"):
            assert (await service.client.finished(job.id, 30)).state is State.SUCCEEDED
        assert len(await jobs_of(service.client, "told")) == 4


async def test_jobs_that_fail_at_once_are_tried_again_one_after_the_other(tmp_path):
    """Each has a delay of its own."""
    async with serving(tmp_path) as service:
        handles = await service.task("unlucky").submit_many([()] * 300)
        names = [handle.id for handle in handles]
        async with asyncio.timeout(60):
            while not all(job.failures for job in await service.client.store.get(names)):
                await asyncio.sleep(0.05)
        events = await service.client.store.events(dict.fromkeys(names, 0))
        delays = [item.data["run_at"] - item.at for item in events if item.data.get("outcome") == "failed"]
        assert len(delays) == 300
        assert all(299 < delay < 601 for delay in delays)
        assert len({round(delay, 3) for delay in delays}) > 290
        assert max(Counter(int(delay / 30) for delay in delays).values()) < 75


async def test_however_often_workers_are_killed_each_failure_is_followed_once(tmp_path):
    """They die around the moment in which failures are written; what was lost fails in another worker."""
    chance = random.Random(KILLS)
    async with machine(tmp_path, lease=3) as found:
        failed = []
        for round_ in range(KILLS):
            handles = await found.task("broken").using(on_exhausted=TOLD, losses=100).submit_many([()] * 20)
            failed += [handle.id for handle in handles]
            worker = await found.worker()
            await until(lambda name=failed[-20]: any(line[1] == name for line in found.marks()), 60)
            await asyncio.sleep(chance.random() * 0.05)  # it dies at any moment, which nothing tells of
            worker.kill()
            assert worker.process.returncode == -9, round_
        await found.worker()
        for name in failed:
            assert (await found.client.finished(name, 60)).state is State.FAILED
        followers = Counter(json.loads(job.args)["job_id"] for job in await jobs_of(found.client, "told"))
        assert followers == dict.fromkeys(failed, 1)
