"""Leases on real workers: suspended, resumed, taken over, under clocks that jump. One attempt has one outcome, nothing
runs doubly that need not, and nobody pays for it.

The time of leases is the tests' own: it passes when they say so, and however slow the machine is.
"""

import asyncio
import os
import random
import time

import psutil
import pytest
from tests.system.service import until
from tests.system.workers import SWEEP, alive, machine, stopped

from heavylift import State

LEASE = 15.0
LEASES = int(os.environ.get("GIL_LEASES", "10"))
ALONE = {"lease": 3600, "beat": 600, "sweep": 600, "poll": 600}
"""Settings under which nothing but the look for dead processes can find what a dead worker left."""


async def time_passes(seconds: float) -> None:
    """For whoever would wrongly do something meanwhile, which nothing tells of."""
    began = time.monotonic()
    await until(lambda: time.monotonic() - began > seconds, seconds + 60)


async def test_a_suspend_of_all_workers_costs_nothing(tmp_path):
    async with machine(tmp_path, lease=LEASE) as found:
        workers = [await found.worker(), await found.worker()]
        names = ["talk", "talk", "talk_awaiting", "talk", "talk_awaiting", "talk"]
        handles = [await found.task(name).submit(str(tmp_path)) for name in names]
        for handle in handles:
            await found.marked("start", handle.id)
        await found.lease_passes(LEASE * 1.5, *workers)  # each of them may sweep the other
        async with stopped(found, *workers):
            found.clock.shift(lease=3 * LEASE)
            for worker in random.sample(workers, 2):
                worker.go_on()
                await found.beaten(worker)
                await time_passes(4 * SWEEP)
        await found.beaten(*workers)
        (tmp_path / "1").touch()
        assert [await handle.result(timeout=40) for handle in handles] == [1] * len(names)
        for handle in handles:
            assert (handle.job.attempt, handle.job.losses) == (1, 0)
            assert found.starts(handle.id) == [1]
        assert not any(worker.said("lease was lost|settled") for worker in workers)
        # The contact that was broken is made again: a worker that stays away is declared dead.
        await found.lease_passes(LEASE * 1.5, *workers)
        async with stopped(found, workers[0]):
            await found.lease_passes(LEASE * 1.5, workers[1])
            await time_passes(4 * SWEEP)
        await until(lambda: workers[0].said("lease was lost"))


async def test_what_a_worker_says_after_it_was_declared_dead_is_refused_and_it_begins_anew(tmp_path):
    async with machine(tmp_path, lease=LEASE) as found:
        old = await found.worker()
        talking = await found.task("talk").submit(str(tmp_path))
        silent = await found.task("talk").submit(str(tmp_path / "never"))
        for handle in (talking, silent):
            await found.marked("start", handle.id, 1)
        hosts = [process for process in old.tree() if process.name() == "heavylift-host"]
        new = await found.worker()
        await found.lease_passes(LEASE * 1.5, old, new)
        async with stopped(found, old):
            (tmp_path / "1").touch()
            await found.marked("said", talking.id, 1)  # all of it waits for the worker to read it
            await found.lease_passes(LEASE * 2, new)
            for handle in (talking, silent):
                await found.marked("start", handle.id, 2)
        await until(lambda: old.said(rf"stale outcome of job {talking.id}, attempt 1"))
        await until(lambda: old.said(rf"stale report of job {talking.id}, attempt 1"))
        await until(lambda: old.said(rf"lease was lost; .*{silent.id}"))
        await until(lambda: sum(alive(host) for host in hosts) < len(hosts))  # the one that still ran something is gone

        job = await talking.refresh()
        assert (job.state, job.attempt, job.losses) == (State.RUNNING, 2, 1)
        assert (job.checkpoint, job.progress, job.log_bytes) == (None, None, 0)
        kinds = {event.kind for event in await found.client.store.events({talking.id: 0})}
        assert kinds == {"state"}

        status = await found.status(old)
        assert status is not None
        async with asyncio.timeout(30):
            while status.worker.epoch != 2 or status.dead:
                await found.beaten(old)
                status = await found.status(old)
        (tmp_path / "never").mkdir()
        (tmp_path / "1").unlink()
        next_one = await found.task("talk").submit(str(tmp_path))  # the new worker's hosts are taken
        await found.marked("start", next_one.id, 1)
        assert (await next_one.refresh()).worker == status.worker.id
        for path in (tmp_path / "1", tmp_path / "2", tmp_path / "never" / "2"):
            path.touch()
        assert [await handle.result(timeout=40) for handle in (talking, silent, next_one)] == [2, 2, 1]
        assert [found.starts(handle.id) for handle in (talking, silent)] == [[1, 2], [1, 2]]


async def test_jobs_that_hold_the_interpreter_for_many_leases_start_once(tmp_path):
    async with machine(tmp_path, lease=LEASE) as found:
        workers = [await found.worker(), await found.worker()]
        holding = found.task("hold_the_interpreter").using(grace=0.2)
        handles = [await holding.using(run_in=place).submit() for place in ("process", "thread")]
        for handle in handles:
            await found.marked("start", handle.id)
        await found.lease_passes(LEASES * LEASE, *workers)
        for handle in handles:
            job = await handle.refresh()
            assert (job.state, job.attempt, job.losses) == (State.RUNNING, 1, 0)
            receipt = await handle.cancel(force=True)
            assert receipt.state == State.CANCELLED
            assert found.starts(handle.id) == [1]


async def test_the_wall_clock_is_for_run_at_alone(tmp_path):
    async with machine(tmp_path, lease=LEASE) as found:
        workers = [await found.worker(), await found.worker()]
        limited = found.task("talk").using(timeout="30m")
        handles = [await limited.submit(str(tmp_path)), await found.task("talk_awaiting").submit(str(tmp_path))]
        for handle in handles:
            await found.marked("start", handle.id)
        soon, later = [await found.task("rest").using(delay=delay).submit(0.0) for delay in ("30m", "90m")]
        await found.lease_passes(LEASE * 1.5, *workers)

        for hours in (1, -2):
            async with stopped(found, workers[0]):  # the other one alone has beaten by the new time
                found.clock.shift(wall=hours * 3600)
                await found.beaten(workers[1])
                await time_passes(4 * SWEEP)
            await found.beaten(*workers)
            now = await found.task("rest").submit(0.0)
            assert await now.result(timeout=40) == 1
            assert await soon.result(timeout=40) == 1  # its time came with the first hour
        assert (await later.refresh()).state is State.QUEUED
        (tmp_path / "1").touch()
        assert [await handle.result(timeout=40) for handle in handles] == [1, 1]
        for handle in handles:
            assert (handle.job.attempt, handle.job.losses) == (1, 0)
            assert found.starts(handle.id) == [1]
        assert not any(worker.said("lease was lost|settled") for worker in workers)


# --- dead processes of the same machine ---------------------------------------------------------------------------


KILLS = int(os.environ.get("WORKER_KILLS", "3"))


@pytest.mark.timeout(max(120, 20 * KILLS))
async def test_jobs_outlive_their_workers_however_often_those_are_killed(tmp_path, capsys):
    async with machine(tmp_path) as found:
        names = [("rest", 2.0), ("rest_awaiting", 3.0)] * 4
        handles = [await found.task(name).submit(seconds) for name, seconds in names]
        for _ in range(KILLS):
            worker = await found.worker()
            await until(lambda: len(found.marks()) > 0)
            await time_passes(random.uniform(0, 2.5))  # to somewhere in the middle of what it runs
            worker.kill()
        await found.worker()
        for handle in handles:
            assert await handle.result(timeout=330) == handle.job.attempt
            assert found.starts(handle.id)[-1] == handle.job.attempt
        counts = {handle.job.id[-4:]: (handle.job.attempt, handle.job.losses) for handle in handles}
    with capsys.disabled():
        print(f"\n{KILLS} kills, attempts and losses of each job: {list(counts.values())}")


async def test_a_job_that_kills_its_workers_is_given_up_with_the_reason_and_its_neighbours_are_not(tmp_path):
    async with machine(tmp_path) as found:
        pid_file = tmp_path / "pid"
        poison = await found.task("kill_the_worker").submit(str(pid_file))
        neighbours = [await found.task(name).submit(2.0) for name in ("rest", "rest_awaiting")]
        while not (job := await poison.refresh()).state.final:
            pid_file.unlink(missing_ok=True)
            worker = await found.worker()
            (tmp_path / "unfinished").write_text(str(worker.pid))
            (tmp_path / "unfinished").rename(pid_file)
            while worker.process.poll() is None and not (await poison.refresh()).state.final:
                await asyncio.sleep(0.05)
        assert (job.state, job.losses, job.attempt) == (State.FAILED, 3, 3)
        assert job.error is not None
        assert (job.error.code, job.error.message) == ("lost", "its worker vanished")
        assert found.starts(poison.id) == [1, 2, 3]
        for handle in neighbours:
            assert await handle.result(timeout=40) == handle.job.attempt


async def gone(processes: list[psutil.Process]) -> float:
    """Wait until none of them lives; when the last one died (monotonic clock)."""
    await until(lambda: not any(alive(process) for process in processes))
    return time.monotonic()


@pytest.mark.parametrize("who", ["another worker", "its successor"])
async def test_what_a_dead_process_left_is_found_without_a_lease_running_out(tmp_path, capsys, who):
    """And nothing of what it had started lives on beside it."""
    async with machine(tmp_path, **ALONE) as found:
        first = await found.worker()
        families = [await found.task("family").submit(name=f"family-{number}") for number in range(2)]
        awaiting = await found.task("talk_awaiting").submit(str(tmp_path))
        for handle in (*families, awaiting):
            await found.marked("start", handle.id)
        await until(lambda: len(first.tree()) >= 2 * 7)
        tree = first.tree()
        if who == "another worker":
            await found.worker()
        killed_at = time.monotonic()
        first.kill()
        dying = asyncio.create_task(gone(tree))
        if who == "its successor":
            await found.worker()
        warm_at = time.monotonic()
        for handle in (*families, awaiting):
            await found.marked("start", handle.id, 2)
        again_at = max(int(line[3]) / 1e9 for line in found.marks() if line[0] == "start" and line[2] == "2")
        died_at = await dying
        jobs = [await handle.refresh() for handle in (*families, awaiting)]
        assert [(job.attempt, job.losses) for job in jobs] == [(2, 1)] * 3
        for handle in families:
            await handle.cancel(force=True)
    with capsys.disabled():
        times = f"all gone {died_at - killed_at:.2f} s, warm {warm_at - killed_at:.2f} s"
        print(f"\n{who}: {times}, all started again {again_at - killed_at:.2f} s after the kill")
