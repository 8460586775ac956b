"""Where the code of a running job is, asked from another process through the store."""

import asyncio
import contextlib
import os
import signal

import pytest
from tests.system.service import serving

from heavylift import JobNotFound, JobNotRunning, NoAnswer, State
from heavylift.core.stack import Source


async def test_code_of_every_kind_is_found_through_the_store(tmp_path):
    async with serving(tmp_path) as service:
        for task in ("spin", "hold_loop", "hold_thread"):
            handle = await service.task(task).submit()
            await service.started(handle.id)
            before = await handle.refresh()
            found = await handle.stack()
            assert (found.source, found.attempt) == (Source.INTERPRETER, 1)
            assert f"in {task}\n" in found.text
            assert found.process.command == "heavylift-host"
            assert await handle.refresh() == before, "nothing of the job has changed"
            receipt = await handle.cancel()
            assert receipt.stopped == "soft", "nor of the way in which it ends"


async def test_native_code_is_found_and_so_are_the_processes_of_a_job(tmp_path):
    async with serving(tmp_path) as service:
        native = await service.task("derive").submit()
        family = await service.task("family").submit(name="family-of-a-stack")
        for handle in (native, family):
            await service.started(handle.id)
        found = await native.stack()
        assert (found.source, found.process.state) == (Source.SIGNAL, "R")
        assert found.text.rstrip().endswith("in derive")
        found = await family.stack()
        assert found.source is Source.INTERPRETER
        assert any("family-of-a-stack" in child.command for child in found.children)
        assert (await native.cancel(grace=0.2)).stopped == "killed"
        await family.cancel()


async def test_many_who_ask_at_once_are_answered(tmp_path):
    async with serving(tmp_path) as service:
        handle = await service.task("spin").submit()
        await service.started(handle.id)
        found = await asyncio.gather(*(handle.stack() for _ in range(20)))
        assert all("in spin" in one.text for one in found)
        assert len({one.at for one in found}) < 20, "they shared answers"
        await handle.cancel()


async def test_what_does_not_run_is_answered_at_once(tmp_path):
    async with serving(tmp_path) as service:
        later = await service.task("spin").using(delay=3600).submit()
        with pytest.raises(JobNotRunning, match=r"is queued, and due in 3\d\d\d s") as refused:
            await later.stack()
        assert refused.value.state == "queued"
        await later.cancel()
        with pytest.raises(JobNotRunning, match=r"is over \(cancelled\)"):
            await later.stack()
        with pytest.raises(JobNotFound):
            await service.client.stack("nobody")


async def stacks_until_over(handle):
    while True:  # on a busy machine an answer may be there before the end
        await handle.stack()


async def test_a_job_that_ends_while_it_is_asked_about_is_over(tmp_path):
    async with serving(tmp_path) as service:
        handle = await service.task("derive").submit()
        await service.started(handle.id)
        await handle.stack()  # it is in native code by now: the next answer will take its time
        asking = asyncio.ensure_future(stacks_until_over(handle))
        await asyncio.sleep(0)
        await handle.cancel(force=True)
        with pytest.raises(JobNotRunning):
            await asking


async def test_a_worker_that_does_not_answer_is_named(tmp_path):
    async with serving(tmp_path, lease=60.0) as service:
        handle = await service.task("spin").submit()
        await service.started(handle.id)
        os.kill(service.worker_pid, signal.SIGSTOP)
        try:
            with pytest.raises(NoAnswer, match="heavylift workers") as silent:
                await handle.stack(timeout=0.5)
        finally:
            os.kill(service.worker_pid, signal.SIGCONT)
        [worker] = await service.client.workers()
        assert silent.value.worker == worker.worker.id
        assert "in spin" in (await handle.stack()).text
        await handle.cancel()


async def test_a_job_that_has_begun_anew_meanwhile_is_found_where_it_is_now(tmp_path):
    async with serving(tmp_path, lease=2.0, beat=0.5, sweep=0.2) as service:
        handle = await service.task("spin").submit()
        await service.started(handle.id)
        os.kill(service.worker_pid, signal.SIGKILL)
        found = None
        while found is None:
            with contextlib.suppress(JobNotRunning):  # it waits for its next attempt just then
                found = await handle.stack(timeout=60)
        assert (found.attempt, (await handle.refresh()).state) == (2, State.RUNNING)
        await handle.cancel()
