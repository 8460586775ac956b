"""What becomes of jobs and processes when the worker, the nanny, or both are killed."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from heavylift.core.outcome import Cancelled, Crashed, Succeeded
from heavylift.executor import Application, StopReason
from heavylift.executors import processes
from heavylift.executors.link import Nanny
from heavylift.executors.pool import Pool
from heavylift.settings import Settings
from heavylift.testing.executors.cases import ExecutorSuite, alive, own_processes, until

TASKS = Application("heavylift.testing.executor_tasks", "application")
WORKER = """
import asyncio, sys
from heavylift.executor import Application
from heavylift.executors.link import Nanny
from heavylift.executors.pool import Pool
from heavylift.settings import Settings
from heavylift.testing.executors.cases import ExecutorSuite

async def main():
    folder = sys.argv[1]
    nanny = await Nanny.start(Application("heavylift.testing.executor_tasks", "application"))
    pool = Pool(nanny, Settings.load({}, concurrency=3))
    await pool.start()
    give = ExecutorSuite().give
    attempts = [
        give(pool, "loop", how="stubborn", path=folder + "/caught"),
        give(pool, "loop", how="native", path=folder + "/native"),
        give(pool, "start_children", path=folder + "/pids", then_wait=True),
    ]
    for attempt in attempts:
        await attempt.begun()
    hosts = [host.pid for host in pool._hosts]
    print(nanny.pid, *hosts, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

give = ExecutorSuite().give


def started_worker(folder):
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(folder)], stdout=subprocess.PIPE, text=True)
    nanny, *hosts = map(int, worker.stdout.readline().split())
    children = [int(pid) for pid in (folder / "pids").read_text().split()]
    assert len(hosts) == 3
    assert len(children) >= 3
    assert all(alive(pid) for pid in (nanny, *hosts, *children))
    return worker, nanny, hosts, children


async def test_nothing_outlives_a_killed_worker(tmp_path):
    worker, nanny, hosts, children = started_worker(tmp_path)
    worker.kill()
    await until(lambda: not any(alive(pid) for pid in (nanny, *hosts, *children)))
    worker.communicate()


async def test_nothing_outlives_a_worker_that_was_killed_before_it_had_read_all_of_its_nannys_news(tmp_path):
    worker, nanny, hosts, children = started_worker(tmp_path)
    worker.send_signal(signal.SIGSTOP)
    childless = next(pid for pid in hosts if not processes.children(pid))
    os.kill(childless, signal.SIGKILL)
    # Reaped by its nanny, which says so and then sleeps again.
    await until(lambda: not Path(f"/proc/{childless}").exists() and state(nanny) == "S")
    worker.kill()
    await until(lambda: not any(alive(pid) for pid in (nanny, *hosts, *children)))
    worker.communicate()


async def test_no_host_outlives_worker_and_nanny_killed_at_once(tmp_path):
    worker, nanny, hosts, children = started_worker(tmp_path)
    os.kill(nanny, signal.SIGSTOP)  # it can do nothing more, as if it had been killed in the same moment
    worker.kill()
    await until(lambda: not any(alive(pid) for pid in hosts))
    os.kill(nanny, signal.SIGKILL)
    worker.communicate()
    for pid in children:  # those that left their session have nobody who could know of them
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


async def running_pool(**settings):
    pool = Pool(await Nanny.start(TASKS), Settings.load({}, **({"concurrency": 3} | settings)))
    await pool.start()
    return pool


async def test_a_killed_nanny_costs_no_running_job_and_is_replaced(tmp_path):
    others = own_processes()
    pool = await running_pool()
    ending = give(pool, "wait_for", path=str(tmp_path / "go"))
    dying = give(pool, "wait_for", path=str(tmp_path / "never"))
    cancelled = give(pool, "start_children", path=str(tmp_path / "pids"), then_wait=True)
    for attempt in (ending, dying, cancelled):
        await attempt.begun()
    first = pool.nanny.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: pool.nanny.ready and pool.nanny.pid != first)
    (tmp_path / "go").touch()
    assert isinstance(await ending.outcome(), Succeeded)
    os.kill(next(host.pid for host in pool._hosts if dying.job in [run.job for run in host.running.values()]), 9)
    outcome = await dying.outcome()
    assert isinstance(outcome, Crashed)
    assert outcome.error.signal == "SIGKILL"
    pool.stop(cancelled.job.id, 1, StopReason.CANCEL, 25.0, force=True)
    assert isinstance(await cancelled.outcome(), Cancelled)
    assert not any(alive(int(pid)) for pid in (tmp_path / "pids").read_text().split())
    for outcome in [await give(pool, "give").outcome() for _ in range(3)]:
        assert isinstance(outcome, Succeeded)
    await pool.close(0.0)
    assert not own_processes(others)


async def test_a_nanny_that_hangs_is_replaced(tmp_path):
    pool = await running_pool()
    first = pool.nanny.pid
    attempt = give(pool, "wait_for", path=str(tmp_path / "never"))
    await attempt.begun()
    os.kill(first, signal.SIGSTOP)
    pool.stop(attempt.job.id, 1, StopReason.CANCEL, 0.0, force=True)
    assert isinstance(await attempt.outcome(), Cancelled)
    await until(lambda: pool.nanny.ready and pool.nanny.pid != first)
    assert isinstance(await give(pool, "give").outcome(), Succeeded)
    await pool.close(0.0)


async def test_a_nanny_that_is_killed_while_the_pool_is_idle(tmp_path):
    pool = await running_pool(concurrency=1)
    before = await give(pool, "where").outcome()
    os.kill(pool.nanny.pid, signal.SIGKILL)
    await until(lambda: not pool.nanny.ready)
    after = await give(pool, "where").outcome()
    assert before.result == after.result  # its hosts live on
    await pool.close(0.0)


async def test_signals_to_the_group_do_not_reach_a_job(tmp_path):
    pool = await running_pool(concurrency=1)
    attempt = give(pool, "wait_for", path=str(tmp_path / "go"))
    await attempt.begun()
    for pid in (pool.nanny.pid, *(host.pid for host in pool._hosts)):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
    (tmp_path / "go").touch()
    assert isinstance(await attempt.outcome(), Succeeded)
    await pool.close(0.0)


def test_a_worker_imports_neither_pydantic_nor_the_application():
    code = (
        "import sys; before = set(sys.modules)\n"
        "import heavylift.executors.link, heavylift.executors.pool\n"
        "print(*sorted(name for name in sys.modules if name in ('pydantic', 'traceback', 'numpy')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pydantic" not in found.stdout.split(), found.stdout
    assert Path(__file__).exists()


@pytest.mark.parametrize(("size", "outcome"), [(10, Succeeded), (5_000_000, Crashed)], ids=["behind it", "within it"])
async def test_a_host_that_dies_while_it_answers(tmp_path, size, outcome):
    """An answer that is there whole counts, whatever became of its host; half of one is none."""
    pool = await running_pool(concurrency=1, max_result="10MiB")
    attempt = give(pool, "wait_for", path=str(tmp_path / "go"), size=size)
    await attempt.begun()
    [host] = pool._hosts
    loop = asyncio.get_running_loop()
    loop.remove_reader(host._stream)  # as if the worker had something else to do
    (tmp_path / "go").touch()
    await until(lambda: unread(host._stream) >= min(size, 50_000))
    os.kill(host.pid, signal.SIGKILL)
    ended = await attempt.outcome()
    assert isinstance(ended, outcome), ended
    assert len(attempt.reports) == 1, "it ran once"
    assert isinstance(await give(pool, "give").outcome(), Succeeded)
    await pool.close(0.0)


def unread(stream):
    """How many bytes wait to be read."""
    try:
        return len(stream.recv(1_000_000, socket.MSG_PEEK))
    except BlockingIOError:
        return 0


def state(pid):
    """The state of a process as proc_pid_stat(5) has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
