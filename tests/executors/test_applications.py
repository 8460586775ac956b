"""How an application is found and imported, and what its import may leave behind."""

import asyncio
import json
import socket

import pytest
from applications import HEAD, nanny_of, pool_of, write

from heavylift.core.errors import ConfigError
from heavylift.core.outcome import Succeeded
from heavylift.executor import Application
from heavylift.executors.link import Nanny
from heavylift.executors.pools import Pools
from heavylift.settings import Settings
from heavylift.testing.executors.cases import Attempt, ExecutorSuite, own_processes, until

give = ExecutorSuite().give


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('broken wing')", "broken wing"),
        ("import nothing_of_that_name", "nothing_of_that_name"),
        ("raise SystemExit('bye')", "bye"),
        ("import os; os._exit(4)", "exit code 4"),
        ("lift = 1", "is a int, not a Heavylift"),
        ("del lift", "has no attribute 'lift'"),
        ("def f(:", "SyntaxError"),
    ],
    ids=["raises", "imports", "exits", "dies", "other", "absent", "syntax"],
)
async def test_an_application_that_cannot_be_imported_is_told_with_its_traceback(tmp_path, body, said):
    write(tmp_path, "broken", body)
    others = own_processes()
    with pytest.raises(ConfigError) as caught:
        await nanny_of(tmp_path, "broken")
    assert said in str(caught.value)
    if said in ("broken wing", "nothing_of_that_name"):
        assert str(tmp_path) in str(caught.value)
        assert "Traceback" in str(caught.value)
    assert not own_processes(others)


async def test_a_module_that_is_not_there_is_told_with_the_path():
    with pytest.raises(ConfigError, match=r"(?s)nowhere:lift.*It was looked for in:\n.*/of/mine"):
        await Nanny.start(Application("nowhere", "lift", (), ("/of/mine",)))


async def test_a_file_is_imported_under_another_name_than_main(tmp_path):
    body = "assert __name__ != '__main__'\n@lift.task\ndef name() -> str:\n    return __name__\n"
    path = write(tmp_path, "script", body)
    nanny = await Nanny.start(Application(str(path), "lift"))
    assert list(nanny.tasks) == ["name"]
    await nanny.close()


async def test_further_modules_add_their_tasks(tmp_path):
    write(tmp_path, "base", "")
    write(tmp_path, "more", "from base import lift\n@lift.task\ndef more(): pass\n", head="")
    nanny = await nanny_of(tmp_path, "base", imports=("more",))
    assert list(nanny.tasks) == ["more"]
    assert nanny.settings == {"concurrency": 3, "store": "memory://"}
    await nanny.close()


async def test_a_module_of_the_application_does_not_pose_as_one_of_ours(tmp_path, monkeypatch):
    write(tmp_path, "json", "raise RuntimeError('not the real one')", head="")
    write(tmp_path, "honest", "")
    monkeypatch.chdir(tmp_path)
    nanny = await nanny_of(tmp_path, "honest")
    await nanny.close()


async def test_connections_that_the_import_opened_are_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        write(tmp_path, "connected", f"import socket\nkept = socket.create_connection(('127.0.0.1', {port}))\n")
        nanny = await nanny_of(tmp_path, "connected")
        (warning,) = nanny.warnings
        assert "connection" in warning
        assert str(port) in warning
        await nanny.close()


async def test_threads_of_the_import_are_named_and_hosts_are_spawned(tmp_path):
    body = """
        import os, threading, time
        threading.Thread(target=time.sleep, args=(1000,), name="ticker", daemon=True).start()

        @lift.task
        def where() -> list[int]:
            return [os.getpid(), threading.active_count()]
    """
    write(tmp_path, "threaded", body)
    pool = await pool_of(tmp_path, "threaded")
    await pool.start()
    try:
        assert any("ticker" in warning for warning in pool.nanny.warnings)
        outcome = await give(pool, "where").outcome()
        assert isinstance(outcome, Succeeded)
        assert outcome.result.endswith(b",2]")  # the thread is there too: nothing was forked
        await until(lambda: pool.warm > 1)  # one waits in reserve
    finally:
        await pool.close(0.0)


async def test_children_that_the_import_started_are_left_alone(tmp_path):
    body = """
        import subprocess
        from heavylift.testing import executor_tasks
        helper = subprocess.Popen(["sleep", "1000"])
        lift.registry.update(executor_tasks.application.registry)

        @lift.task
        def helper_lives() -> bool:
            import os
            return os.path.exists(f"/proc/{helper.pid}/cwd")
    """
    write(tmp_path, "helped", body)
    others = own_processes()
    pool = await pool_of(tmp_path, "helped")
    await pool.start()
    await give(pool, "die", how="kill").outcome()
    outcome = await give(pool, "helper_lives").outcome()
    assert isinstance(outcome, Succeeded)
    assert outcome.result == b"true"
    await pool.close(0.0)
    assert not own_processes(others)


async def test_start_hooks_run_in_each_host(tmp_path):
    body = """
        import os
        opened = []
        lift.host_start_hooks.append(lambda: opened.append(os.getpid()))

        @lift.task
        def check() -> bool:
            return opened == [os.getpid()]
    """
    write(tmp_path, "hooked", body)
    pool = await pool_of(tmp_path, "hooked")
    await pool.start()
    for outcome in [await give(pool, "check").outcome() for _ in range(3)]:
        assert isinstance(outcome, Succeeded)
        assert outcome.result == b"true"
    await pool.close(0.0)


async def test_a_start_hook_that_fails_is_told(tmp_path):
    write(tmp_path, "badly_hooked", "lift.host_start_hooks.append(lambda: 1 / 0)\n")
    pool = await pool_of(tmp_path, "badly_hooked")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        await pool.start()
    await pool.close(0.0)


async def test_random_numbers_differ_from_host_to_host(tmp_path):
    body = """
        import random, time

        @lift.task
        def draw() -> float:
            time.sleep(0.05)
            return random.random()
    """
    write(tmp_path, "lottery", body)
    pool = await pool_of(tmp_path, "lottery", concurrency=3)
    await pool.start()
    attempts: list[Attempt] = [give(pool, "draw") for _ in range(3)]
    results = [(await attempt.outcome()).result for attempt in attempts]
    assert len(set(results)) == 3
    await pool.close(0.0)


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path):
    write(tmp_path, "endless", "import time\ntime.sleep(1000)\n", head=HEAD)
    others = own_processes()
    starting = asyncio.ensure_future(nanny_of(tmp_path, "endless"))
    await until(lambda: own_processes(others))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not own_processes(others)


async def test_a_peak_of_memory_is_forgotten_when_what_made_it_is_gone(tmp_path):
    body = """
        import time
        kept = []

        @lift.task
        def keep(): kept.append(b"x" * (64 << 20)); time.sleep(0.01)

        @lift.task
        def drop(): kept.clear(); time.sleep(0.01)

        @lift.task
        def small(): time.sleep(0.01)
    """
    write(tmp_path, "peaks", body)
    pool = await pool_of(tmp_path, "peaks", concurrency=1)
    await pool.start()
    peaks = []
    for task in ("small", "keep", "small", "drop", "small"):
        outcome = await give(pool, task).outcome()
        assert isinstance(outcome, Succeeded)
        peaks.append(outcome.usage.peak_rss >> 20)
    await pool.close(0.0)
    first, made, held, _, after = peaks
    assert made > first + 60
    assert held > first + 60
    assert after < first + 30


async def test_a_plain_task_runs_in_a_thread_when_its_job_says_so(tmp_path):
    """There is room for it although no task of the application runs there by itself."""
    body = """
        import os, threading

        @lift.task
        def where() -> list:
            return [os.getpid(), threading.current_thread() is threading.main_thread()]
    """
    write(tmp_path, "plain", body)
    pool = Pools(await nanny_of(tmp_path, "plain"), Settings.load({}, concurrency=1))
    await pool.start()
    assert pool.free.thread > 0
    assert pool.free.loop == 0
    outcomes = [await give(pool, "where", job={"run_in": place}).outcome() for place in ("thread", "process")]
    (pid, is_main), (other, other_is_main) = (json.loads(outcome.result) for outcome in outcomes)
    assert (is_main, other_is_main) == (False, True)
    assert pid != other
    await pool.close(0.0)


async def test_a_job_runs_where_its_task_does_by_now(tmp_path):
    """It was submitted to another version of the application, in which the task was a coroutine, or was none."""
    body = """
        @lift.task
        def was_coroutine(): return 1

        @lift.task
        async def was_plain(): return 2
    """
    write(tmp_path, "changed", body)
    pool = Pools(await nanny_of(tmp_path, "changed"), Settings.load({}, concurrency=1))
    await pool.start()
    for task, place, result in (("was_coroutine", "loop", b"1"), ("was_plain", "process", b"2")):
        outcome = await give(pool, task, job={"run_in": place}).outcome()
        assert isinstance(outcome, Succeeded), outcome
        assert outcome.result == result
    await pool.close(0.0)


async def test_a_shared_host_that_only_a_single_job_asked_for_goes_when_it_is_idle(tmp_path):
    write(tmp_path, "plain", "@lift.task\ndef give():\n    return 1")
    pools = Pools(await nanny_of(tmp_path, "plain"), Settings.load({}, concurrency=1, idle=0.2))
    await pools.start()
    assert not pools.shared._hosts
    for _ in range(2):
        assert isinstance(await give(pools, "give", job={"run_in": "thread"}).outcome(), Succeeded)
        await until(lambda: not pools.shared._hosts)
    await pools.close(1.0)
