"""One reader for all followers of a process: what one read cannot hold comes with the next, not with the next hint."""

import asyncio

import pytest

from heavylift.core.job import Change, NewEvent, State
from heavylift.store import SystemClock
from heavylift.stores import open_store
from heavylift.tail import Tail
from heavylift.testing.stores import StoreCases

CASES = StoreCases()
LINES = 10


async def test_events_beyond_one_read_reach_every_follower_without_another_hint(tmp_path, monkeypatch):
    monkeypatch.setattr("heavylift.tail.READ", 3)
    monkeypatch.setattr("heavylift.tail.POLL", 1000.0)
    monkeypatch.setattr("heavylift.stores.sqlite.wakeups.LOOK", 1000.0)
    clock = SystemClock()
    store = open_store(f"sqlite:///{tmp_path}/jobs.db")
    await store.open()
    tail = Tail(store)
    jobs = await CASES.started(store, clock, "a", "b")
    async with tail.follow("a", jobs[0].seq) as first, tail.follow("b", jobs[1].seq) as second:
        lines = tuple(NewEvent("log", {"lines": [number]}) for number in range(LINES))
        await store.save([Change(name, State.RUNNING, 1, {}, lines, clock.wall()) for name in "ab"])
        async with asyncio.timeout(30):
            for follower in (first, second):
                events = [await follower.next() for _ in range(LINES)]
                assert [event.data["lines"] for event in events] == [[number] for number in range(LINES)]
    await tail.close()
    await store.close()


async def test_followers_are_told_when_following_fails(tmp_path, monkeypatch):
    clock = SystemClock()
    store = open_store(f"sqlite:///{tmp_path}/jobs.db")
    await store.open()
    (job,) = await CASES.started(store, clock, "a")
    monkeypatch.setattr(store, "watch", lambda **_: 1 / 0)
    tail = Tail(store)
    async with asyncio.timeout(30), tail.follow("a", job.seq) as follower:
        with pytest.raises(ZeroDivisionError):
            await follower.next()
    await tail.close()
    await store.close()
