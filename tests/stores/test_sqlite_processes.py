"""Several processes on one file: nothing is lost, nothing is done twice, whoever is killed whenever."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heavylift.core import lifecycle
from heavylift.core.job import State
from heavylift.core.outcome import Interrupted
from heavylift.store import SystemClock
from heavylift.stores import open_store
from heavylift.stores.sqlite.facts import facts_of
from heavylift.testing import FakeClock
from heavylift.testing.stores import StoreCases

CASES = StoreCases()
SOURCE = str(Path(__file__).parents[2] / "src")

PRELUDE = f"""
import asyncio, os, sys, time
sys.path.insert(0, {SOURCE!r})
from heavylift.core import lifecycle
from heavylift.core.options import Slots
from heavylift.core.outcome import Succeeded
from heavylift.store import SystemClock
from heavylift.stores import open_store
from heavylift.testing.stores import StoreCases
cases, clock = StoreCases(), SystemClock()
url, name = sys.argv[1:3]
"""

WRITER = (
    PRELUDE
    + """
async def main():
    store = open_store(url, inline=name.endswith("inline"))
    await store.open()
    await store.beat(cases.worker(name), 3600)
    number = 0
    while True:
        names = [f"{name}-{number + item}" for item in range(40)]
        number += 40
        made = [[cases.job(clock, item)] for item in names]
        adds = made if name.endswith("turns") else [[job for [job] in made]]
        await asyncio.gather(*(store.add(jobs) for jobs in adds))
        print("\\n".join("added " + item for item in names), flush=True)
        jobs = await store.claim(name, 1, Slots(30))
        print("\\n".join(f"began {job.id} {job.attempt}" for job in jobs), flush=True)
        seqs = await store.save([lifecycle.settle(job, Succeeded(b"1"), clock.wall()) for job in jobs[:20]])
        assert None not in seqs
        print("\\n".join("done " + job.id for job in jobs[:20]), flush=True)
asyncio.run(main())
"""
)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/jobs.db"


def child(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, **options)


def read(process, lines):
    """Some lines of what a process prints, at least."""
    got = [process.stdout.readline() for _ in range(lines)]
    assert all(got), "it ended early"
    return got


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_writers_that_are_killed_lose_nothing_that_they_said(url, tmp_path):
    said = []
    for round_ in range(24):
        names = [f"w{round_}-{'turns' if round_ % 2 else 'thread'}", f"w{round_}-inline"]
        processes = [child(WRITER, url, name) for name in names]
        for process in processes:
            said += read(process, 100 + round_ * 17 % 230)
        for process in processes:
            process.kill()
        for process in processes:
            said += process.stdout.read().rpartition("\n")[0].splitlines(keepends=True)
            process.stdout.close()
            process.wait()
    connection = sqlite3.connect(tmp_path / "jobs.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    audit(connection)
    connection.close()
    store = open_store(url)
    await store.open()
    words = [line.split() for line in said if line.strip()]
    added = [word[1] for word in words if word[0] == "added"]
    done = {word[1] for word in words if word[0] == "done"}
    began = [tuple(word[1:]) for word in words if word[0] == "began"]
    assert len(added) > 1000
    assert len(began) == len(set(began)), "an attempt is given to one worker"
    jobs = {job.id: job for job in await store.get(added) if job is not None}
    assert len(jobs) == len(added), "what was acknowledged is there"
    assert all(job is not None and job.state is State.SUCCEEDED for job in await store.get(list(done)))
    lost = await store.sweep("judge", others=False)
    while lost:
        assert None not in await store.save(
            [lifecycle.settle(job, Interrupted("lost", lost=True), time.time()) for job in lost]
        )
        lost = await store.sweep("judge", others=False)
    assert not [job for job in (await store.get(added)) if job is not None and job.state is State.RUNNING]
    await store.close()


def audit(connection):
    """The counters, the lanes and the events are what the jobs say."""
    for state, codes in {"queued": "1, 2", "running": "3", "succeeded": "4", "failed": "5", "cancelled": "6"}.items():
        there = f"(SELECT count(*) FROM job WHERE job.queue = queue.number AND state IN ({codes}))"
        rows = connection.execute(f"SELECT name, {state}, {there} FROM queue").fetchall()
        assert all(counted == there for _, counted, there in rows), (state, rows)
    forgotten = connection.execute(
        "SELECT count(*) FROM job JOIN lane ON lane.number = job.lane WHERE state = 2 AND ready = 0"
    ).fetchone()
    assert forgotten == (0,), "a lane with due jobs can be claimed from"
    for history, seq in connection.execute("SELECT history, seq FROM job").fetchall():
        assert [event.seq for event in facts_of("", history)] == list(range(1, seq + 1))


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_processes_that_drain_together_get_each_job_once(url):
    clock = SystemClock()
    store = open_store(url)
    await store.open()
    names = [f"{number:04}" for number in range(3000)]
    await CASES.added(store, clock, *names)
    code = (
        PRELUDE
        + """
async def main():
    store = open_store(url, inline=True)
    await store.open()
    await store.beat(cases.worker(name), 3600)
    while jobs := await store.claim(name, 1, Slots(25)):
        assert None not in await store.save([lifecycle.settle(job, Succeeded(b"1"), clock.wall()) for job in jobs])
        print(*[job.id for job in jobs], flush=True)
    await store.close()
asyncio.run(main())
"""
    )
    processes = [child(code, url, f"w{number}") for number in range(3)]
    parts = [await asyncio.to_thread(process.communicate) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(" ".join(out for out, _ in parts).split()) == names
    assert (await store.queues())[0].counts == {State.SUCCEEDED: 3000}
    await store.close()


async def test_many_processes_may_open_a_new_store_at_once(url):
    code = (
        PRELUDE
        + """
async def main():
    store = open_store(url)
    await store.open()
    await store.add([cases.job(clock, name)])
    await store.close()
asyncio.run(main())
"""
    )
    processes = [child(code, url, f"j{number}") for number in range(5)]
    for process in processes:
        await asyncio.to_thread(process.communicate)
        assert process.returncode == 0
    store = open_store(url)
    await store.open()
    assert None not in await store.get([f"j{number}" for number in range(5)])
    await store.close()


async def test_a_child_process_opens_the_same_memory(tmp_path):
    store = open_store("memory://")
    assert store.url == "memory://"
    await store.open()
    await CASES.added(store, SystemClock(), "a")
    code = (
        PRELUDE
        + """
async def main():
    store = open_store(url)
    await store.open()
    print((await store.get(["a"]))[0].id)
    await store.add([cases.job(clock, "b")])
    await store.close()
asyncio.run(main())
"""
    )
    out, _ = await asyncio.to_thread(child(code, store.url, "x").communicate)
    assert out == "a\n"
    assert (await store.get(["b"]))[0] is not None
    await store.close()


@pytest.mark.parametrize("end", ["exit", "kill"])
async def test_memory_goes_with_the_process_that_made_it(end):
    code = (
        PRELUDE
        + """
async def main():
    store = open_store("memory://")
    await store.open()
    print(store.url, flush=True)
    sys.stdin.readline()
asyncio.run(main())
"""
    )
    process = child(code, "", "", stdin=subprocess.PIPE)
    folder = Path(process.stdout.readline().strip().removeprefix("memory://")).parent
    assert (folder / "jobs.db").exists()
    if end == "exit":
        process.communicate("\n")
    else:
        process.kill()
        process.communicate()
        store = open_store("memory://")  # the next one tidies up what is nobody's
        await store.open()
        await store.close()
    assert not folder.exists()


async def test_a_store_can_be_used_after_a_fork(url):
    clock = SystemClock()
    store = open_store(url)
    await store.open()
    await CASES.added(store, clock, "before")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.run(in_child(store, clock))
            code = 0
        finally:
            os._exit(code)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert status == 0
    assert [job and job.id for job in await store.get(["before", "child"])] == ["before", "child"]
    await CASES.added(store, clock, "after")
    await store.close()


async def in_child(store, clock):
    assert await store.get(["before"]) != [None]
    await CASES.added(store, clock, "child")
    await store.close()


async def test_a_process_that_dies_in_its_turn_gives_it_up(url):
    store = open_store(url)
    await store.open()
    code = (
        PRELUDE
        + """
from heavylift.stores.sqlite.turns import Turn
turn = Turn(name)
turn.take()
print("mine", flush=True)
sys.stdin.readline()
"""
    )
    path = url.removeprefix("sqlite:///")
    process = child(code, url, f"{path}-run", stdin=subprocess.PIPE)
    assert process.stdout.readline() == "mine\n"
    waiting = asyncio.create_task(store.add([CASES.job(FakeClock(), "a")]))
    await asyncio.sleep(0)
    assert not waiting.done()
    process.send_signal(signal.SIGKILL)
    await waiting
    process.communicate()
    await store.close()


async def test_stores_of_several_event_loops_are_one(url):
    clock = SystemClock()
    store = open_store(url)
    await store.open()

    def elsewhere():
        asyncio.run(store.add([CASES.job(clock, "thread")]))

    await asyncio.gather(*[asyncio.to_thread(elsewhere) for _ in range(1)], CASES.added(store, clock, "loop"))
    assert None not in await store.get(["thread", "loop"])
    await store.close()


async def test_a_log_that_grew_is_copied_back_while_writers_go_on(url, tmp_path, monkeypatch):
    monkeypatch.setattr("heavylift.stores.sqlite.checkpoints.PAGES", 50)
    clock = SystemClock()
    store = open_store(url)
    await store.open()
    written, size = 0, 1
    while size > written / 2:  # until the log was begun anew, and again: it does not hold all that was ever written
        await CASES.added(store, clock, f"{written}", args=b"x" * 4000)
        written += 4000
        size = (tmp_path / "jobs.db-wal").stat().st_size
    await store.close()
