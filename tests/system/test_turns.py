"""Turns on real workers: a rate that code shares across the fleet, jobs that become due by time alone, and queues with
weights.
"""

import asyncio
import os
import signal

import pytest
from tests.system.service import until
from tests.system.workers import machine

from heavylift import JobCancelled, State
from heavylift.core.limits import Rate, pace

RATE = "20/s"
TASKS = ("take_turns", "take_turns_awaiting", "take_turns_threaded")
NO_POLL = {"poll": 600}
"""Nothing is found by looking."""


def turns(found, *handles):
    """When the turns of these jobs came, in seconds."""
    ids = [handle.id for handle in handles]
    return sorted(int(line[-1]) / 1e9 for line in found.marks() if line[0] == "turn" and line[1] in ids)


async def test_two_workers_share_a_rate(tmp_path):
    async with machine(tmp_path, concurrency=1) as found:
        for _ in range(2):
            await found.worker()
        handles = [await found.task(name).submit(10, rate=RATE) for name in TASKS for _ in range(2)]
        for handle in handles:
            await handle.result(timeout=60)
        began = [line for line in found.marks() if line[0] == "begin"]
        assert len({line[3] for line in began if line[1] in (handles[0].id, handles[1].id)}) == 2  # two nannies
        came = turns(found, *handles)
        assert len(came) == 60
        interval, burst = pace(RATE)
        first = min(int(line[-1]) / 1e9 for line in began)
        for number, at in enumerate(came):
            assert at - first >= (number + 1 - burst) * interval - 0.002  # two clocks of one machine


@pytest.mark.parametrize("name", TASKS)
async def test_who_waits_for_a_turn_is_cancelled_at_once_and_handed_back_at_a_drain(tmp_path, name):
    async with machine(tmp_path, drain=0.2) as found:
        worker = await found.worker()
        task = found.task(name)
        handles = [await task.submit(2, rate="1/h") for _ in range(2)]
        await until(lambda: len(turns(found, *handles)) == 1)
        for handle in handles:
            await found.marked("begin", handle.id)
        receipt = await handles[0].cancel()
        assert receipt.stopped == "soft"
        with pytest.raises(JobCancelled):
            await handles[0].result(timeout=30)
        os.kill(worker.pid, signal.SIGTERM)
        await asyncio.to_thread(worker.process.wait, 30)
        job = await found.client.get(handles[1].id)
        assert (job.state, job.attempt, job.failures, job.crashes, job.losses) == (State.QUEUED, 1, 0, 0, 0)


async def test_a_rate_of_code_is_that_of_jobs_with_the_same_key(tmp_path):
    async with machine(tmp_path) as found:
        await found.worker()
        code = await found.task("take_turns").submit(1, rate="1/h")
        await code.result(timeout=30)
        job = await found.task("work").using(limits=[Rate("1/h", key="crm")]).submit(1, 0.0)
        free = await found.task("work").using(limits=[Rate("1/h", key="other")]).submit(1, 0.0)
        await free.result(timeout=30)
        assert found.starts(job.id) == []


async def test_what_becomes_due_by_time_alone_starts_without_a_poll(tmp_path):
    async with machine(tmp_path, **NO_POLL) as found:
        await found.worker()
        task = found.task("work")
        late = await task.using(delay=1.0).submit(1, 0.0)
        soon = await task.using(delay=0.3).submit(2, 0.0)
        assert await soon.result(timeout=60) == 2
        assert await late.result(timeout=60) == 1
        limited = task.using(limits=[Rate("4/s", key="crm")])
        handles = [await limited.submit(number, 0.0) for number in range(4)]
        assert [await handle.result(timeout=60) for handle in handles] == [0, 1, 2, 3]
        later = await limited.submit(4, 0.0)  # the gate may be closed, and nothing else happens
        assert await later.result(timeout=60) == 4


async def test_a_retry_starts_without_a_poll(tmp_path):
    async with machine(tmp_path, **NO_POLL) as found:
        await found.worker()
        handle = await found.task("brief").using(crashes=3).submit(0.0, "exit", 1)
        await handle.result(timeout=60)


async def test_queues_start_jobs_by_their_weights_one_at_a_time(tmp_path):
    async with machine(tmp_path, concurrency=1, queues="a,b:3", **NO_POLL) as found:
        task = found.task("work")
        ids = {}
        for number in range(12):
            for queue in ("a", "b", "c"):
                ids[(await task.using(queue=queue).submit(number, 0.01)).id] = queue
        await found.worker()
        await until(lambda: sum(line[0] == "end" for line in found.marks()) == 24)
        order = [ids[line[1]] for line in found.marks() if line[0] == "start"]
        assert set(order) == {"a", "b"}
        # Who takes a while is claimed alone.
        assert abs(order[:16].count("b") - 12) <= 1
        [status] = await found.client.store.workers()
        assert status.worker.queues == ("a", "b")


async def test_the_store_knows_the_tasks_of_a_worker(tmp_path):
    async with machine(tmp_path) as found:
        worker = await found.worker()
        status = await found.status(worker)
        assert {"work", "take_turns", "take_turns_awaiting"} <= set(status.worker.tasks)
