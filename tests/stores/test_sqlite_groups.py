"""Small writes of one turn of the event loop are one transaction, and each caller gets its own answer."""

import asyncio
import fcntl
import threading
from pathlib import Path

import pytest

from heavylift.core import lifecycle
from heavylift.core.errors import QueueFull, StoreUnavailable
from heavylift.core.limits import Concurrency
from heavylift.core.options import Slots
from heavylift.core.outcome import Succeeded
from heavylift.stores import open_store
from heavylift.stores.sqlite import lanes
from heavylift.stores.sqlite.adding import add
from heavylift.testing import FakeClock
from heavylift.testing.stores import StoreCases

CASES = StoreCases()
CLOCK = FakeClock()


@pytest.fixture
async def store(tmp_path):
    found = open_store(f"sqlite:///{tmp_path}/jobs.db", CLOCK)
    await found.open()
    yield found
    await found.close()


@pytest.fixture
def commits(store):
    """The transactions that were committed, each with the name of the thread that did it."""
    writer, seen = store._opened.writer, []
    committed = writer._committed

    def count(transaction):
        seen.append((transaction, threading.current_thread().name))
        committed(transaction)

    writer._committed = count
    return seen


def adding(store, *names, **options):
    """Each job in a call of its own."""
    return asyncio.gather(*(store.add([CASES.job(CLOCK, name, **options)]) for name in names), return_exceptions=True)


async def test_adds_of_one_turn_are_one_transaction(store, commits):
    names = [f"job-{number:03}" for number in range(100)]
    answers = await adding(store, *names)
    assert [thread for _, thread in commits] == ["MainThread"]
    assert [answer[0].job.id for answer in answers] == names
    assert [job and job.id for job in await store.get(names)] == names
    await store.beat(CASES.worker("worker"), 60)
    assert sorted(job.id for job in await store.claim("worker", 1, Slots(100))) == names


@pytest.mark.parametrize("added_first", [True, False])
async def test_a_job_is_not_lost_in_a_lane_that_is_forgotten_in_the_same_transaction(store, monkeypatch, added_first):
    monkeypatch.setattr(lanes, "KEPT", 0)
    await store.beat(CASES.worker("worker"), 60)
    shared = {"fair_share": "tenant", "limits": [Concurrency(1, key="tenant")]}
    await adding(store, "first", **shared)
    for job in await store.claim("worker", 1, Slots(1)):
        await store.save([lifecycle.settle(job, Succeeded(b"1"), CLOCK.wall())])
    new = [CASES.job(CLOCK, f"job-{number}", **shared) for number in range(20)]
    steps = [lambda transaction: add(transaction, new), lambda transaction: transaction.forget_empty()]

    def together(transaction):
        for step in steps if added_first else reversed(steps):
            step(transaction)

    await store._open_now().writer.call(together)
    for _ in new:
        (job,) = await store.claim("worker", 1, Slots(100))
        await store.save([lifecycle.settle(job, Succeeded(b"1"), CLOCK.wall())])


async def test_a_crowd_is_written_in_several_transactions(store, commits):
    names = [f"job-{number:03}" for number in range(450)]
    answers = await adding(store, *names)
    assert len(commits) == 3
    assert all(answer[0].created for answer in answers)


async def test_large_jobs_are_written_by_the_thread_and_few_at_once(store, commits):
    answers = await adding(store, *"abcd", args=b"1" * 1_000_000)
    assert all(answer[0].created for answer in answers)
    assert len(commits) == 2
    assert {thread for _, thread in commits} == {"heavylift store"}


async def test_an_id_that_comes_twice_in_a_turn_is_one_job(store, commits):
    first, other, again = await adding(store, "a", "b", "a")
    assert [first[0].created, other[0].created, again[0].created] == [True, True, False]
    assert (await store.queues())[0].counts["queued"] == 2


async def test_a_full_queue_refuses_only_what_is_too_much(store):
    await store.set_queue("default", max_size=2)
    answers = [answer[0] for answer in await adding(store, "a", "b", "c")]
    assert [isinstance(answer, QueueFull) for answer in answers] == [False, False, True]
    assert [job and job.id for job in await store.get(["a", "b", "c"])] == ["a", "b", None]


async def test_a_group_that_has_no_turn_waits_for_it_in_the_thread(store, commits, tmp_path):
    with Path(tmp_path / "jobs.db-run" / "data").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = adding(store, "a", "b", "c")
        while len(store._opened.writer._waiting) < 3:
            await asyncio.sleep(0)
        assert commits == []
    answers = await waiting
    assert len(commits) == 1
    assert [answer[0].created for answer in answers] == [True] * 3


async def test_what_waits_for_its_group_is_written_when_the_store_is_closed(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/jobs.db", CLOCK)
    await store.open()
    writer = store._opened.writer
    waiting = asyncio.gather(*(writer.call(lambda _: "written") for _ in range(3)))
    await asyncio.sleep(0)  # they have asked …
    assert len(writer._gathered) == 3
    writer.close()  # … and their loop had no turn since
    assert await waiting == ["written"] * 3
    await store.close()


async def test_an_error_that_meets_a_group_is_told_to_each_caller(store, monkeypatch):
    def broken():
        message = "no turn"
        raise OSError(message)

    monkeypatch.setattr(store._opened.writer._turn, "take_now", broken)
    answers = await adding(store, "a", "b")
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
