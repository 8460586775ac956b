"""Cancels through the store, of jobs of every kind and in every state: the receipt says what really happened, what was
saved is kept, and nothing that was cancelled starts again by itself.
"""

import asyncio
import os
import signal

import pytest
from tests.system.service import serving

from heavylift import JobFinished, JobNotFinished, Retry, State, fixed
from heavylift.client import Client
from heavylift.core.job import Stopped
from heavylift.store import SystemClock
from heavylift.stores import open_store

KINDS = {"process": ("save", "process"), "thread": ("save", "thread"), "loop": ("save_awaiting", "loop")}


async def saved(service, handle):
    """Wait until what the job saved is on record."""
    async with asyncio.timeout(30):
        async for event in handle.events():
            if event.kind == "checkpoint" and event.data["size"] > 1 and await handle.checkpoint() is not None:
                return


async def running(service, task, place=None, **arguments):
    bound = service.task(task)
    handle = await (bound.using(run_in=place) if place else bound).submit(**arguments)
    await saved(service, handle)
    if arguments.get("how") == "hold":
        await holds(handle)
    return handle


async def holds(handle):
    """Wait until its code is where a stop is followed by its clean-up, a moment after it has saved."""
    async with asyncio.timeout(30):
        while "sleep" not in (await handle.stack()).text:
            await asyncio.sleep(0.01)


def resumed(result):
    """The value from which a later attempt went on. On a busy machine one in between may be handed back unstarted."""
    value, attempt = result
    assert attempt > 1
    return value


@pytest.mark.parametrize("how", ["hold", "native"])
@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_asked_then_killed_and_the_receipt_says_which(tmp_path, kind, how):
    task, place = KINDS[kind]
    async with serving(tmp_path) as service:
        handle = await running(service, task, place, how=how)
        if how == "native":
            await handle.stack()  # it comes to that
        receipt = await handle.cancel(grace=0.3 if how == "native" else 20, reason="enough")
        killed = how == "native"
        assert (receipt.state, receipt.final, receipt.reason) == (State.CANCELLED, True, "enough")
        assert receipt.stopped is (Stopped.KILLED if killed else Stopped.SOFT)
        assert receipt.after_ms >= (300 if killed else 0)
        assert receipt.checkpoint
        job = await handle.refresh()
        assert (job.progress.done, job.progress.total) == (3, 10), "how far it came is kept"
        assert await handle.checkpoint() == (7 if killed else 8), "its clean-up may save, too"
        assert (await service.client.checkpoint(handle.id)).steps == {"greet": b'"Hello"'}
        assert (job.attempt, job.failures, job.crashes, job.losses) == (1, 0, 0, 0)
        with pytest.raises(JobFinished):
            await handle.cancel()
        await handle.retry()
        assert resumed(await handle.result(timeout=30)) == (7 if killed else 8)
        await service.client.pause("default")
        await handle.retry(from_checkpoint=False)
        assert await handle.checkpoint("nothing") == "nothing"


@pytest.mark.parametrize(("task", "stopped"), [("gentle_command", Stopped.SOFT), ("stubborn_command", Stopped.KILLED)])
async def test_a_command_is_asked_then_killed(tmp_path, task, stopped):
    async with serving(tmp_path) as service:
        handle = await service.task(task).submit()
        async for event in handle.events():
            if event.kind == "log":
                break
        receipt = await handle.cancel(grace=20 if stopped is Stopped.SOFT else 0.3)
        assert (receipt.state, receipt.stopped, receipt.checkpoint) == (State.CANCELLED, stopped, False)
        assert (await handle.refresh()).attempt == 1


async def test_a_cancel_in_each_state_has_a_true_answer(tmp_path):
    async with serving(tmp_path) as service:
        work = service.task("work")
        scheduled = await work.using(delay=3600).submit(1, 0.0)
        await service.client.pause("closed")
        queued = await work.using(queue="closed").submit(2, 0.0)
        for handle, state in ((scheduled, State.QUEUED), (queued, State.QUEUED)):
            assert (await handle.refresh()).state is state
            receipt = await handle.cancel(reason="no")
            assert (receipt.state, receipt.stopped, receipt.checkpoint) == (
                State.CANCELLED,
                Stopped.BEFORE_START,
                False,
            )
            assert receipt.after_ms == 0
        await service.client.resume("closed")

        retrying = await service.task("save").using(retry=Retry(3, fixed(3600))).submit(how="fail")
        await until_failed_once(retrying)
        receipt = await retrying.cancel()
        assert (receipt.state, receipt.stopped, receipt.checkpoint) == (State.CANCELLED, Stopped.BETWEEN_ATTEMPTS, True)
        assert retrying.job.progress == (await retrying.refresh()).progress
        assert (retrying.job.progress.done, retrying.job.failures) == (3, 1)

        finished = await work.submit(3, 0.0)
        assert await finished.result(timeout=30) == 3
        with pytest.raises(JobFinished, match="it succeeded"):
            await finished.cancel()
        # Nothing of that has started since, though the worker had time to.
        assert await (await work.submit(4, 0.0)).result(timeout=30) == 4
        assert not any(line[1] in (scheduled.id, queued.id) for line in service.marks())
        for handle in (scheduled, queued, retrying):
            assert (await handle.refresh()).state is State.CANCELLED


async def until_failed_once(handle):
    async with asyncio.timeout(30):
        async for event in handle.events():
            if event.data.get("outcome") == "failed":
                await handle.refresh()
                return


class Together:
    """A store that two clients write to at the same moment, after both have decided."""

    def __init__(self, store, meeting):
        self._store, self._meeting = store, meeting

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def save(self, changes):
        meeting, self._meeting = self._meeting, None
        if meeting is not None:
            await meeting.wait()
        return await self._store.save(changes)


async def test_two_who_sharpen_one_cancel_at_once_are_both_heard(tmp_path):
    """Neither overwrites the other, whichever of them the store takes first."""
    async with serving(tmp_path) as service:
        handle = await service.task("defy").submit()
        await service.started(handle.id)
        first = await service.client.cancel(handle.id, grace=600, wait=0)
        assert not first.final
        meeting = asyncio.Barrier(2)
        one, two = (Client(Together(open_store(service.client.store.url), meeting), SystemClock()) for _ in range(2))
        try:
            await asyncio.gather(
                one.cancel(handle.id, grace=300, wait=0),
                two.cancel(handle.id, grace=600, reason="late", wait=0),
            )
        finally:
            await one.close()
            await two.close()
        request = (await handle.refresh()).cancel
        assert (request.grace, request.force, request.reason) == (300, False, "late")
        forced = await handle.cancel(force=True)
        assert (forced.state, forced.stopped, forced.reason) == (State.CANCELLED, Stopped.KILLED, "late")


# --- what was saved is kept, whatever ends an attempt ------------------------------------------------------------


async def test_the_next_attempt_resumes_after_a_timeout_a_failure_and_a_crash(tmp_path):
    async with serving(tmp_path) as service:
        save = service.task("save")
        handles = {
            7: await save.submit(how="fail"),
            8: await save.using(timeout=0.5, grace=20).submit(how="hold"),
        }
        crashed = await save.submit(how="die")
        killed = await save.using(timeout=0.5, grace=0.2).submit(how="native")
        for value, handle in [*handles.items(), (7, crashed), (7, killed)]:
            assert resumed(await handle.result(timeout=40)) == value
            assert (await service.client.checkpoint(handle.id)).steps == {"greet": b'"Hello"'}
        assert (await crashed.refresh()).crashes == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_the_next_worker_resumes_after_a_drain_and_after_a_death(tmp_path, kind):
    task, place = KINDS[kind]
    async with serving(tmp_path) as service:
        drained = await running(service, task, place, how="hold")
    # Its clean-up had its share of the drain, and saved.
    async with serving(tmp_path, lease=2.0, beat=0.5, sweep=0.2) as service:
        handle = service.client.handle(await service.client.get(drained.id), None)
        assert resumed(await handle.result(timeout=30)) == 8
        assert (handle.job.failures, handle.job.crashes, handle.job.losses) == (0, 0, 0)
        lost = await running(service, task, place, how="hold")
        os.kill(service.worker_pid, signal.SIGKILL)
        assert resumed(await lost.result(timeout=40)) == 7
        assert lost.job.losses == 1


async def test_a_failed_job_keeps_what_it_said_and_saved_until_it_is_begun_anew(tmp_path):
    async with serving(tmp_path) as service:
        handle = await service.task("save").using(max_attempts=1).submit(how="fail")
        await service.client.finished(handle.id, 30)
        job = await handle.refresh()
        assert (job.state, job.progress.done, job.progress.total) == (State.FAILED, 3, 10)
        assert await handle.checkpoint() == 7
        await service.client.pause("default")
        await handle.retry()
        assert (handle.job.state, handle.job.progress) == (State.QUEUED, None)
        with pytest.raises(JobNotFinished):
            await handle.retry()
        await service.client.resume("default")
        assert resumed(await handle.result(timeout=30)) == 7
