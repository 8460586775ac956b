"""Bugs that other job systems had: none of them is to come back here. Each test is named after one, and its docstring
says in which project it was, under which number, and what went wrong.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.system import patient_jobs
from tests.system.service import ROOT, serving, until

from heavylift import Heavylift, JobFinished, State
from heavylift.core.errors import ConfigError
from heavylift.core.job import Stopped
from heavylift.core.options import PLACES
from heavylift.stores import SCHEMES
from heavylift.stores.sqlite.url import SYNCHRONOUS

HEAVYLIFT = Path(sys.executable).with_name("heavylift")


def patient(folder, **settings):
    """A service whose jobs go on until they are told."""
    return serving(folder, jobs=patient_jobs, **settings)


def hosts_of(service, *job_ids):
    """The processes in which jobs began, latest starts last."""
    starts = {line[1]: int(line[3]) for line in service.marks() if line[0] == "start"}
    return [starts[job_id] for job_id in job_ids]


def starts_of(service, job_id):
    return [int(line[2]) for line in service.marks() if line[:2] == ["start", job_id]]


def waiting_in(service, place):
    """The task that waits for a file, where it runs as code of that place."""
    return service.task("await_file") if place == "loop" else service.task("wait_for").using(run_in=place)


async def started_again(service, handle, attempt):
    """Wait until this attempt of the job runs."""
    await until(lambda: attempt in starts_of(service, handle.id))


# --- neighbours -----------------------------------------------------------------------------------------------------


async def shared_with_neighbours(service, victim, path):
    """A job and four neighbours, which run in the same process."""
    neighbours = [await waiting_in(service, place).submit(path) for place in ("loop", "thread", "loop", "thread")]
    for neighbour in neighbours:
        await service.started(neighbour.id)
    handle = await victim
    await service.started(handle.id)
    assert len({*hosts_of(service, handle.id, *(neighbour.id for neighbour in neighbours))}) == 1
    return handle, neighbours


async def test_piscina_934_a_cancel_ended_the_neighbours_of_its_job(tmp_path):
    """Piscina #934: abortable tasks came to share a worker thread with others, and the abort of one terminated the
    thread, so that unrelated tasks failed with it.
    """
    path = str(tmp_path / "go")
    async with patient(tmp_path) as service:
        polite, neighbours = await shared_with_neighbours(
            service, service.task("await_file").using(grace=30).submit("never"), path
        )
        receipt = await polite.cancel()
        assert (receipt.state, receipt.stopped) == (State.CANCELLED, Stopped.SOFT)
        assert all(starts_of(service, neighbour.id) == [1] for neighbour in neighbours)

        # One that has to be killed takes the process along: then its neighbours begin anew, and nobody charges them.
        rude = await service.task("block_the_loop").using(grace=0.2).submit()
        await service.started(rude.id)
        receipt = await rude.cancel()
        assert (receipt.state, receipt.stopped) == (State.CANCELLED, Stopped.KILLED)
        for neighbour in neighbours:
            await started_again(service, neighbour, 2)
        Path(path).touch()
        assert [await neighbour.result(timeout=30) for neighbour in neighbours] == [2] * 4
        for neighbour in neighbours:
            assert (neighbour.job.failures, neighbour.job.crashes, neighbour.job.losses) == (0, 0, 0)


# --- cancels that are lost ------------------------------------------------------------------------------------------


async def test_dbos_767_a_cancel_was_lost_in_silence_when_its_job_ended_meanwhile(tmp_path):
    """DBOS (Python) #767: a cancel that met the completion of its workflow was dropped, and the call returned as if it
    had worked, although the workflow went on to SUCCESS.
    """
    async with patient(tmp_path) as service:
        finishing = await service.task("finish_in_spite").submit()
        await service.started(finishing.id)
        receipt = await finishing.cancel()
        assert (receipt.state, receipt.stopped, receipt.final) == (State.SUCCEEDED, None, True)
        assert await finishing.result(timeout=30) == "done"

        with pytest.raises(JobFinished) as refused:
            await finishing.cancel()
        assert refused.value.state is State.SUCCEEDED

        for number in range(20):  # at about the moment at which the job ends, on either side of it
            path = tmp_path / str(number)
            handle = await service.task("wait_for").submit(str(path))
            await service.started(handle.id)
            path.touch()
            await asyncio.sleep(random.uniform(0, 0.01))
            with contextlib.suppress(JobFinished):
                receipt = await handle.cancel()
                assert (receipt.final, receipt.state) == (True, (await handle.refresh()).state)
            job = await service.client.finished(handle.id, 30)
            assert (job.state, job.result) in {(State.SUCCEEDED, b"1"), (State.CANCELLED, None)}
            if job.cancel is None:  # nobody was told that it would be stopped
                assert job.state is State.SUCCEEDED


# --- threads and slots that leak ------------------------------------------------------------------------------------


async def all_threads_serve(service, folder, threads):
    """As many jobs as there are threads run at the same time."""
    path = folder / "all"
    path.unlink(missing_ok=True)
    handles = [await waiting_in(service, "thread").submit(str(path)) for _ in range(threads)]
    for handle in handles:
        await service.started(handle.id)
    path.touch()
    for handle in handles:
        assert await handle.result(timeout=30) >= 1


async def test_dramatiq_445_each_timeout_cost_the_worker_a_thread(tmp_path):
    """Dramatiq #445: an actor that passed its time limit in a system call, and then raised an exception of its own,
    left the TimeLimitExceeded to end its thread, until the worker had none left and hung.
    """
    async with patient(tmp_path, threads=2) as service:
        task = service.task("sleep_and_raise").using(timeout=0.2)
        graces = [30.0] * 4 + [0.1] * 4  # the first four may end by themselves, the others are killed before
        handles = [await task.using(grace=grace).submit(0.5) for grace in graces]
        for handle in handles:
            job = await service.client.finished(handle.id, 40)
            assert (job.state, job.failures, job.crashes) == (State.FAILED, 1, 0)
        await all_threads_serve(service, tmp_path, 2)


async def test_temporal_1648_a_late_cancel_ended_a_thread_that_had_gone_on(tmp_path):
    """Temporal (Python) #1648: the cancel of an activity that was at its timeout was raised in the thread when that had
    already gone back to wait for work, which ended the thread while its slot stayed taken, until nothing ran any more.
    """
    async with patient(tmp_path, threads=3) as service:
        late = await service.task("answer_and_upload").using(timeout=1.0, grace=30).submit_many([()] * 3)
        task = service.task("rest").using(timeout=0.05, grace=30)
        near = await task.submit_many([(0.05 + random.uniform(-0.005, 0.002),) for _ in range(45)])
        for handle in late:
            assert await handle.result(timeout=40) == "there"
        ends = [(await service.client.finished(handle.id, 40)).state for handle in near]
        assert set(ends) <= {State.SUCCEEDED, State.FAILED}
        await all_threads_serve(service, tmp_path, 3)


async def test_solid_queue_546_a_dead_worker_kept_the_slot_of_its_queue(tmp_path):
    """Solid Queue #546: when a worker died, its jobs were failed, but the concurrency that they had taken was not given
    back, so that the next jobs of the same limit waited for its expiry (a day, there).
    """
    async with patient(tmp_path) as service:
        await service.client.store.set_queue("default", concurrency=1)
        holder = await waiting_in(service, "process").using(losses=1).submit("never")
        await service.started(holder.id)
        (tmp_path / "go").touch()
        following = [await waiting_in(service, place).submit(str(tmp_path / "go")) for place in PLACES]
        assert (await service.client.queues())[0].counts == {State.RUNNING: 1, State.QUEUED: 3}

        os.kill(service.worker_pid, signal.SIGKILL)

        job = await service.client.finished(holder.id, 40)
        assert job.state is State.FAILED
        assert job.error is not None
        assert job.error.code == "lost"
        assert [await handle.result(timeout=40) for handle in following] == [1, 1, 1]


async def test_temporal_245_a_pool_stayed_broken_when_one_of_its_processes_died(tmp_path):
    """Temporal (Python) #245: one killed process broke the ProcessPoolExecutor for good; the worker went on to take
    activities, each of which failed with BrokenProcessPool.
    """
    async with patient(tmp_path) as service:
        worker = service.worker_pid
        for place in (*PLACES, "process"):
            handle = await waiting_in(service, place).using(crashes=1).submit("never")
            await service.started(handle.id)
            os.kill(hosts_of(service, handle.id)[0], signal.SIGKILL)
            job = await service.client.finished(handle.id, 40)
            assert job.error is not None
            assert (job.state, job.error.code, job.error.signal) == (State.FAILED, "crashed", "SIGKILL")
        (tmp_path / "go").touch()
        for place in PLACES:
            handles = [await waiting_in(service, place).submit(str(tmp_path / "go")) for _ in range(4)]
            assert [await handle.result(timeout=40) for handle in handles] == [1] * 4
        assert service.worker_pid == worker


# --- the store ------------------------------------------------------------------------------------------------------

SUBMITTER = """
import asyncio, sys
from heavylift.client import Client
from heavylift.core.options import Options
from heavylift.store import Query, SystemClock
from heavylift.stores import open_store

async def main(url, count):
    client = Client(open_store(url), SystemClock())
    await client.open()
    for number in range(count):
        await client.submit([("nothing", b"{}", Options())])
        await client.page(Query())
    await client.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_prefect_18934_the_database_was_locked_by_its_own_users(tmp_path, capfd):
    """Prefect #18934: even the examples, on SQLite, filled the log with "database is locked", since the server's own
    services and its clients wrote at the same time.
    """
    async with patient(tmp_path) as service:
        chats = [await service.task("chat").submit(150) for _ in range(4)]
        command = [sys.executable, "-c", SUBMITTER, service.client.store.url, "100"]
        others = [await asyncio.create_subprocess_exec(*command, cwd=ROOT) for _ in range(3)]
        for _ in range(100):
            await service.task("nothing").submit()
        assert [await other.wait() for other in others] == [0, 0, 0]
        assert [await chat.result(timeout=40) for chat in chats] == [150] * 4

        async def all_done():
            while (counts := (await service.client.queues())[0].counts) != {State.SUCCEEDED: 404}:
                assert State.FAILED not in counts
                await asyncio.sleep(0.05)

        await asyncio.wait_for(all_done(), 40)
    said = capfd.readouterr().err
    assert "drained" in said, "the log of the worker is not the one that was read"
    assert "locked" not in said
    assert "the store is away" not in said


VARIANTS = ["memory://", *(f"sqlite:///{{folder}}/jobs.db?synchronous={mode}" for mode in SYNCHRONOUS)]


@pytest.mark.parametrize("url", VARIANTS)
async def test_taskiq_redis_130_one_kind_of_store_never_gave_back_what_a_dead_worker_held(tmp_path, url):
    """taskiq-redis #130: the broker for clusters, other than the plain one, never looked for messages that were
    delivered and not acknowledged, so that what a dead worker had taken was never delivered again.
    """
    async with patient(tmp_path, url=url.format(folder=tmp_path)) as service:
        path = tmp_path / "go"
        held = [await waiting_in(service, place).submit(str(path)) for place in (*PLACES, "process")]
        for handle in held:
            await started_again(service, handle, 1)
        os.kill(service.worker_pid, signal.SIGKILL)
        for handle in held:
            await started_again(service, handle, 2)
        path.touch()
        assert [await handle.result(timeout=40) for handle in held] == [2] * 4


def test_taskiq_redis_130_every_kind_of_store_is_asked():
    """The list above has every scheme."""
    assert {url.partition("://")[0] for url in VARIANTS} == set(SCHEMES)


# --- drains and leases ----------------------------------------------------------------------------------------------


async def test_procrastinate_1598_a_draining_worker_heard_no_cancel(tmp_path):
    """Procrastinate #1598: a worker that was shutting down no longer looked for jobs to abort, so that one which it
    let go on could not be aborted.
    """
    async with patient(tmp_path, drain=40) as service:
        handles = [await waiting_in(service, place).using(grace=15).submit("never") for place in PLACES]
        for handle in handles:
            await service.started(handle.id)
        worker = service.worker_pid
        os.kill(worker, signal.SIGTERM)
        async with asyncio.timeout(30):
            while not any(status.worker.draining for status in await service.client.workers()):
                await asyncio.sleep(0.01)

        receipts = await asyncio.gather(*(handle.cancel() for handle in handles))

        assert [(receipt.state, receipt.stopped) for receipt in receipts] == [(State.CANCELLED, Stopped.SOFT)] * 3
        await until(lambda: not Path(f"/proc/{worker}").exists())  # nothing is left to wait for
        for handle in handles:
            assert (await handle.refresh()).state is State.CANCELLED
            assert starts_of(service, handle.id) == [1]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"beat": "15s", "lease": "15s"}, ("beat", "lease")),
        ({"beat": "20s"}, ("beat", "default")),
        ({"lease": "8s"}, ("lease", "default")),
        ({"beat": "0s"}, ("beat",)),
        ({"sweep": "0s"}, ("sweep",)),
    ],
)
def test_pgqueuer_430_a_running_job_was_taken_for_dead_between_two_beats(tmp_path, given, named):
    """PGQueuer #430: heartbeats came at most as often as the time after which a job without one counts as dead, so that
    a job was picked again while it ran.
    """
    with pytest.raises(ConfigError) as refused:
        Heavylift(**given)
    for word in named:
        assert word in str(refused.value)

    variables = {f"HEAVYLIFT_{name.upper()}": value for name, value in given.items()}
    command = [HEAVYLIFT, "worker", "tests.system.patient_jobs:lift", "--store", f"sqlite:///{tmp_path}/jobs.db"]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == 2
    assert all(name in ended.stderr for name in variables), ended.stderr
    assert not (tmp_path / "jobs.db").exists()
