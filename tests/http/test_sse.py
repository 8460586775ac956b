"""What a stream does between events: pings, and an end for who cannot go on."""

import asyncio
from types import SimpleNamespace

import pytest

from heavylift.core.errors import StoreUnavailable
from heavylift.core.event import Event
from heavylift.core.job import Job, State
from heavylift.core.options import Options
from heavylift.http import sse
from heavylift.tail import FellBehind

JOB = Job("1", "add", b"{}", Options(), State.RUNNING, 0.0, 0.0, seq=2)


def service(events):
    """A service whose client has only these events to tell."""

    async def reasons(_jobs):
        return {}

    client = SimpleNamespace(events=events)
    return SimpleNamespace(client=client, stopping=asyncio.Event(), when_stopping=set(), reasons=reasons)


async def silence(*_):
    await asyncio.Event().wait()
    yield  # a generator, though it never comes here


async def chunks(events, job=JOB, after=2):
    return [chunk async for chunk in sse.stream(service(events), job, after, "")]


async def test_a_silent_job_is_pinged(monkeypatch):
    monkeypatch.setattr(sse, "PING_EVERY", 0)
    stream = sse.stream(service(silence), JOB, 2, "")
    assert [await anext(stream) for _ in range(3)] == [sse.RETRY, sse.PING, sse.PING]
    await stream.aclose()


async def test_a_reader_who_leaves_ends_the_reading(monkeypatch):
    monkeypatch.setattr(sse, "PING_EVERY", 0)
    ended = asyncio.Event()

    async def events(*_):
        try:
            await asyncio.Event().wait()
            yield
        finally:
            ended.set()

    stream = sse.stream(service(events), JOB, 2, "")
    assert [await anext(stream) for _ in range(2)] == [sse.RETRY, sse.PING]
    await stream.aclose()
    async with asyncio.timeout(10):
        await ended.wait()


@pytest.mark.parametrize("error", [FellBehind(2), StoreUnavailable("away"), RuntimeError("a fault")])
async def test_a_stream_that_cannot_go_on_ends_without_an_end_so_that_its_reader_comes_again(error):
    async def events(*_):
        yield Event("1", 3, "cancel", 0.0, {"force": False})
        raise error

    whole = await chunks(events)
    assert whole[0] == sse.RETRY
    assert whole[1].startswith(b"id: 3\nevent: cancel\n")
    assert len(whole) == 2


async def test_a_message_of_several_lines_is_one_event():
    async def events(*_):
        yield Event("1", 3, "progress", 0.0, {"message": "one\ntwo\r\n\nid: 99"})
        yield Event("1", 4, "state", 0.0, {"state": "succeeded", "attempt": 1})

    whole = await chunks(events)
    assert whole[1].count(b"\n") == 4
    assert b"\r" not in whole[1]
    assert whole[-1] == b'event: end\ndata: {"state":"succeeded"}\n\n'
