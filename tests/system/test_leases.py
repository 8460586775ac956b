"""Leases on real workers: suspended, resumed, taken over, under clocks that jump. One attempt has one outcome, nothing
runs doubly that need not, and nobody pays for it.

The time of leases is the tests' own: it passes when they say so, and however slow the machine is.
"""

import asyncio
import itertools
import os
import time

import psutil
import pytest
from tests.system.service import until
from tests.system.workers import alive, machine, stopped

from heavylift import State

LEASE = 15.0
LEASES = int(os.environ.get("GIL_LEASES", "10"))
ALONE = {"lease": 3600, "beat": 600, "sweep": 600, "poll": 600}
"""Settings under which nothing but the look for dead processes can find what a dead worker left."""


async def rounds_of_housekeeping(count: int = 4) -> None:
    """Time for whoever would wrongly sweep: nothing tells of a sweep that finds nothing."""
    began = time.monotonic()
    await until(lambda: time.monotonic() - began > count * 0.3, 60)


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))), ids=str)
async def test_a_suspend_of_all_workers_costs_nothing(tmp_path, order):
    async with machine(tmp_path, lease=LEASE) as found:
        workers = [await found.worker(), await found.worker()]
        names = ["talk", "talk", "talk_awaiting", "talk", "talk_awaiting", "talk"]
        handles = [await found.task(name).submit(str(tmp_path)) for name in names]
        for handle in handles:
            await found.marked("start", handle.id)
        await found.lease_passes(LEASE * 1.5, *workers)  # each of them may sweep the other
        async with stopped(found, *workers):
            found.clock.shift(lease=3 * LEASE)
            for number in order:
                workers[number].go_on()
                await found.beaten(workers[number])
                await rounds_of_housekeeping()
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
            await rounds_of_housekeeping()
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
        await until(lambda: old.said(rf"stale reports of job {talking.id}, attempt 1"))
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


@pytest.mark.parametrize("place", ["process", "thread"])
async def test_a_job_that_holds_the_interpreter_for_many_leases_starts_once(tmp_path, place):
    async with machine(tmp_path, lease=LEASE, threads=1) as found:
        workers = [await found.worker(), await found.worker()]
        handle = await found.task("hold_the_interpreter").using(run_in=place, grace=0.2).submit()
        await found.marked("start", handle.id)
        await found.lease_passes(LEASES * LEASE, *workers)
        job = await handle.refresh()
        assert (job.state, job.attempt, job.losses) == (State.RUNNING, 1, 0)
        receipt = await handle.cancel(force=True)
        assert receipt.state == State.CANCELLED
        assert found.starts(handle.id) == [1]


@pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])
async def test_the_wall_clock_is_for_run_at_alone(tmp_path, hours):
    async with machine(tmp_path, lease=LEASE) as found:
        workers = [await found.worker(), await found.worker()]
        limited = found.task("talk").using(timeout="30m")
        handles = [await limited.submit(str(tmp_path)), await found.task("talk_awaiting").submit(str(tmp_path))]
        for handle in handles:
            await found.marked("start", handle.id)
        waiting = await found.task("rest").using(delay="30m").submit(0.0)
        await found.lease_passes(LEASE * 1.5, *workers)

        found.clock.shift(wall=hours * 3600)
        await found.lease_passes(LEASE * 1.5, *workers)
        await rounds_of_housekeeping()
        now = await found.task("rest").submit(0.0)
        assert await now.result(timeout=40) == 1
        if hours > 0:
            assert await waiting.result(timeout=40) == 1  # its time has come
        else:
            assert (await waiting.refresh()).state is State.QUEUED
        (tmp_path / "1").touch()
        assert [await handle.result(timeout=40) for handle in handles] == [1, 1]
        for handle in handles:
            assert (handle.job.attempt, handle.job.losses) == (1, 0)
            assert found.starts(handle.id) == [1]
        assert not any(worker.said("lease was lost|settled") for worker in workers)


# --- dead processes of the same machine ---------------------------------------------------------------------------


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
        for handle in (*families, awaiting):
            await found.marked("start", handle.id, 2)
        again_at = max(int(line[3]) / 1e9 for line in found.marks() if line[0] == "start" and line[2] == "2")
        died_at = await dying
        jobs = [await handle.refresh() for handle in (*families, awaiting)]
        assert [(job.attempt, job.losses) for job in jobs] == [(2, 1)] * 3
        for handle in families:
            await handle.cancel(force=True)
    with capsys.disabled():
        print(f"\n{who}: all gone {died_at - killed_at:.2f} s, all started again {again_at - killed_at:.2f} s after")
