"""What people who look after a service do, on a real worker: pause, limit, move; and what full queues say."""

import asyncio

import pytest
from tests.system.service import serving

from heavylift import Handle, Heavylift, JobNotWaiting
from heavylift.core.errors import QueueFull
from heavylift.core.job import Job, State
from heavylift.store import Added


async def refused(task):
    with pytest.raises(QueueFull) as error:
        await task.submit(0.0)
    return error.value.retry_after


async def test_a_full_queue_says_when_it_has_a_place_as_its_jobs_tell(tmp_path):
    async with serving(tmp_path) as service:
        await service.client.set_queue("slow", concurrency=1, max_size=1)
        task = service.task("rest").using(queue="slow")
        running = await task.submit(2.0)
        ended: list[Job] = []
        for _ in range(3):
            await service.started(running.id)
            waiting = await task.submit(2.0)
            wait = await refused(task)
            if ended:
                took = sum(job.finished_at - job.started_at for job in ended) / len(ended)
                assert took / 2 <= wait <= 2 * took + 1, "whole seconds"
            else:
                assert wait == 300, "nothing has ended yet"
            ended.append(await service.client.finished(running.id, 30))
            running = waiting
        await service.client.pause("slow")
        await service.client.finished(running.id, 30)
        await task.submit(0.0)
        assert await refused(task) == 300, "what is paused does not drain"


async def test_what_a_full_queue_refuses_in_a_batch_is_all_that_is_refused(tmp_path):
    async with Heavylift(f"sqlite:///{tmp_path}/jobs.db") as lift:

        @lift.task
        def add(a: int) -> int:
            return a

        await lift.set_queue("small", max_size=2)
        with pytest.raises(QueueFull) as caught:
            await add.using(queue="small").submit_many([(number,) for number in range(5)])
        assert caught.value.__notes__[0].startswith("Refused: 3 of 5 submits; the others were accepted.")
        assert [job.args async for job in lift.find(queue="small")] == [b'{"a":1}', b'{"a":0}']
        small, wide = (add.using(queue=name).options for name in ("small", "wide"))
        requests = [("add", b'{"a":7}', options) for options in (small, wide, small, wide)]
        answers = await lift.client.add(requests)
        assert [type(answer) for answer in answers] == [QueueFull, Added, QueueFull, Added]
        assert [queue.counts for queue in await lift.queues()] == [{State.QUEUED: 2}, {State.QUEUED: 2}]

        await lift.set_queue("small", max_size=3)
        task = add.using(queue="small")
        first, *others = await task.submit_many([(8,), (9,)], return_exceptions=True)
        others += await asyncio.to_thread(task.submit_many_sync, [(8,)], return_exceptions=True)
        assert isinstance(first, Handle)
        assert [type(answer) for answer in others] == [QueueFull, QueueFull]
        assert [job.args async for job in lift.find(queue="small")] == [b'{"a":8}', b'{"a":1}', b'{"a":0}']


async def test_jobs_that_were_moved_while_their_queue_was_paused_start_in_their_new_order(tmp_path):
    async with serving(tmp_path) as service:
        client = service.client
        await client.pause("held", by="anna", reason="the mail server is down")
        await client.set_queue("held", concurrency=1)
        handles = [await service.task("rest").using(queue="held").submit(0.0) for _ in range(3)]
        late = await service.task("rest").using(queue="held", delay="1h").submit(0.0)
        await late.move(delay=0, priority=9)
        await handles[2].move(priority=5)
        # One that was submitted later, and is over, shows that the worker looked.
        await (await service.task("rest").submit(0.0)).result(timeout=30)
        [held] = [queue for queue in await client.queues() if queue.name == "held"]
        assert held.counts == {State.QUEUED: 4}
        assert (held.pause.by, held.pause.reason) == ("anna", "the mail server is down")

        await client.resume("held")

        jobs = [await client.finished(handle.id, 30) for handle in (late, handles[2], handles[0], handles[1])]
        starts = [job.started_at for job in jobs]
        assert starts == sorted(starts)
        with pytest.raises(JobNotWaiting):
            await late.move(priority=1)
