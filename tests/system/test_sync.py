"""The verbs for code without an event loop: in threads, after forks, beside a loop; and jobs that submit jobs."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.system import service as system
from tests.system.service import serving

from heavylift import ConfigError, Heavylift, JobFinished, JobNotFinished, JobNotFound, JobNotRunning

THREADS = 20


def add(a: int, b: int = 1) -> int:
    return a + b


@pytest.fixture
def lift(tmp_path):
    lift = Heavylift(f"sqlite:///{tmp_path}/jobs.db")
    lift.define("add").handler(add)
    yield lift
    lift.sync.close()


@pytest.fixture
def own_threads():
    """Names the threads of ours that are there now and were not before: code that never ends may have left some."""
    before = set(threading.enumerate())

    def names():
        return sorted(
            one.name for one in threading.enumerate() if one.name.startswith("heavylift") and one not in before
        )

    return names


def test_many_threads_submit_at_once_through_one_loop(own_threads, lift):
    task = lift.find_task("add")
    together = threading.Barrier(THREADS)

    def submit(number):
        together.wait()
        return task.submit_sync(number).id

    with ThreadPoolExecutor(THREADS) as threads:
        ids = list(threads.map(submit, range(THREADS)))
    assert len(set(ids)) == THREADS
    assert {job.id for job in lift.sync.find(state="queued", task="add")} == set(ids)
    assert own_threads().count("heavylift sync") == 1
    assert own_threads().count("heavylift store") == 1
    lift.sync.close()
    assert own_threads() == []
    assert len(task.submit_many_sync([(1,)], kwargs=[{"a": 2, "b": 3}])) == 2  # it opens anew


def test_each_verb_without_a_loop(lift):
    handle = lift.find_task("add").using(queue="slow").submit_sync(1)
    assert lift.sync.get(handle.id).job.args == b'{"a":1}'
    assert [queue.name for queue in lift.sync.queues()] == ["slow"]
    pause = lift.sync.pause("slow", by="anna", reason="too slow").pause
    assert (pause.by, pause.reason) == ("anna", "too slow")
    assert not lift.sync.resume("slow").paused
    limited = lift.sync.set_queue("slow", concurrency=2, rate="10/s", max_size=5)
    assert (limited.concurrency, limited.rate, limited.max_size) == (2, "10/s", 5)
    assert lift.sync.set_queue("slow", rate=None).rate is None
    with pytest.raises(ConfigError, match="Did you mean 'concurrency'"):
        lift.sync.set_queue("slow", concurency=2)
    moved = lift.sync.move(handle, priority=3, delay="1h")
    assert (moved.id, moved.job.options.priority, moved.job.seq) == (handle.id, 3, 2)
    assert list(lift.sync.workers()) == []
    with pytest.raises(JobNotFinished, match=r"after 0\.01 s"):
        lift.sync.result(handle, timeout=0.01)
    assert lift.sync.cancel(handle, reason="enough").state == "cancelled"
    with pytest.raises(JobFinished):
        lift.sync.cancel(handle.id)
    assert lift.sync.retry(handle).state == "queued"
    assert lift.sync.checkpoint(handle, "nothing") == "nothing"
    with pytest.raises(JobNotRunning, match="queued"):
        lift.sync.stack(handle)
    lift.sync.cancel(handle)
    states = [event.data["state"] for event in lift.sync.events(handle) if event.kind == "state"]
    assert states == ["queued", "queued", "cancelled", "queued", "cancelled"]
    assert lift.sync.retry(handle, from_checkpoint=False).state == "queued"
    with pytest.raises(JobNotFound):
        lift.sync.get("nobody")


async def test_a_thread_with_a_loop_is_told_to_await(own_threads, lift):
    task = lift.find_task("add")
    with pytest.raises(ConfigError, match=r"`await add.submit\(…\)`"):
        task.submit_sync(1)
    with pytest.raises(ConfigError, match=r"`await add.submit_many\(…\)`"):
        task.submit_many_sync([(1,)])
    with pytest.raises(ConfigError, match=r"`await lift.get\(…\)`"):
        lift.sync.get("id")
    with pytest.raises(ConfigError, match="would block the event loop"):
        next(lift.sync.find())
    handle = await asyncio.to_thread(task.submit_sync, 1)  # a thread beside the loop may
    assert (await handle.refresh()).id == handle.id
    await lift.close()
    assert own_threads() == []


def test_a_plain_view_of_an_async_framework_submits(lift):
    def view(request):  # such as a view of Django under ASGI: the framework calls it in a thread
        return JSONResponse({"id": lift.find_task("add").submit_sync(int(request.query_params["a"])).id}, 202)

    with TestClient(Starlette(routes=[Route("/add", view)])) as web:
        ids = [web.get("/add", params={"a": number}).json()["id"] for number in range(3)]
    assert [job.id for job in lift.sync.find()] == ids[::-1]


def test_a_store_in_memory_is_the_same_for_both_sides():
    lift = Heavylift("memory://")
    lift.define("add").handler(add)
    handle = lift.find_task("add").submit_sync(1)

    async def main():
        assert (await lift.get(handle.id)).job.args == b'{"a":1}'
        await lift.close()

    asyncio.run(main())


PREFORK = """
import os, sys, threading
from heavylift import Heavylift

def add(a: int) -> int: return a

lift = Heavylift(sys.argv[1])
task = lift.define("add").handler(add)
task.submit_sync(0)                      # a parent that has used it before it forks, as with gunicorn's --preload
waiting = threading.Thread(target=lambda: lift.sync.result("nobody-yet"), daemon=True)
children = []
for number in range(1, 4):
    pid = os.fork()
    if pid == 0:
        task.submit_sync(number)
        assert len(list(lift.sync.find())) >= 2
        if number == 3:
            lift.sync.close()
        sys.exit(0)                      # through atexit, as a worker of gunicorn ends
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
assert codes == [0, 0, 0], codes
task.submit_sync(4)
print(sorted(int(job.args[5:-1]) for job in lift.sync.find()))
stuck = task.submit_sync(5)
threading.Thread(target=lambda: lift.sync.result(stuck), daemon=True).start()   # must not keep the process
"""


def test_children_of_a_fork_have_a_loop_of_their_own_and_all_ends(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREFORK, f"sqlite:///{tmp_path}/jobs.db"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout.strip() == "[0, 1, 2, 3, 4]", done.stderr
    assert done.returncode == 0, done.stderr


# --- a real worker -----------------------------------------------------------------------------------------------


async def test_jobs_submit_jobs_and_their_host_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HEAVYLIFT_STORE", f"sqlite:///{tmp_path}/jobs.db")
    async with serving(tmp_path, concurrency=1) as service:
        parent = service.task("parent").using(labels={"tenant": "acme"})
        first = await parent.submit(3)
        host, children, threads = await first.result(timeout=40)
        assert any(name.startswith("heavylift") for name in threads)
        found = {job.id: job async for job in service.client.find(labels={"parent": first.id})}
        assert set(found) == set(children)
        for job in found.values():
            assert dict(job.options.labels) == {"tenant": "acme", "parent": first.id}
        handles = [service.client.handle(job, None) for job in found.values()]
        assert sorted([await handle.result(timeout=40) for handle in handles]) == [0, 1, 2]
        assert (await (await parent.submit(0)).result(timeout=40))[0] == host


async def test_a_cancel_from_far_away_closes_what_was_provided(tmp_path):
    async with serving(tmp_path) as service:
        handle = await service.task("hold").submit()
        await service.started(handle.id)
        receipt = await handle.cancel()
        assert receipt.stopped == "soft"
        words = [line[0] for line in service.marks() if line[1] == handle.id]
        assert words == ["opened", "start", "exit", "closed"]
        [folder] = [line[2] for line in service.marks() if line[0] == "start"]
        assert not Path(folder).exists()


async def test_a_worker_that_dies_leaves_no_folders_for_long(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with serving(tmp_path, lease=2.0, beat=0.5, sweep=0.2) as service:
        handle = await service.task("hold").submit()
        await service.started(handle.id)
        [folder] = [line[2] for line in service.marks() if line[0] == "start"]
        assert folder.startswith(str(tmp_path))
        assert Path(folder).is_dir()
        os.kill(service.worker_pid, 9)
        await system.until(lambda: not Path(folder).exists())  # the next worker's start sweeps
        await system.until(lambda: [line[0] for line in service.marks()].count("start") == 2)
        await handle.cancel()
    left = [path.name for path in (tmp_path / f"heavylift-{os.getuid()}").iterdir()]
    assert left == [".lock"]
