"""A job's events as server-sent events: live, and resumable from any event number."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from heavylift.core import event
from heavylift.core.errors import StoreError
from heavylift.core.job import State
from heavylift.http import render
from heavylift.tail import FellBehind

if TYPE_CHECKING:
    from heavylift.core.event import Event
    from heavylift.core.job import Job
    from heavylift.http.service import Service

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MEDIA_TYPE = "text/event-stream"
RETRY = b"retry: 2000\n\n"
PING = b": ping\n\n"
PING_EVERY = 15.0
AHEAD = 64
"""Events that are read ahead of a slow reader; beyond them it is dropped by the tail, and resumes."""

log = logging.getLogger("heavylift.http")

Feed = asyncio.Queue["Event | None"]
Frames = AsyncIterator[bytes]


def frame(kind: str, data: dict[str, Any], seq: int | None = None) -> bytes:
    """One event on the wire; JSON text holds no line breaks, so one data line is enough."""
    number = b"" if seq is None else b"id: %d\n" % seq
    return b"%sevent: %s\ndata: %s\n\n" % (number, kind.encode(), to_json(data))


def over(job: Job, after: int | None) -> bool:
    """Whether a reader that has read up to `after` has read it all."""
    return job.state.final and after is not None and after >= job.seq


async def stream(service: Service, job: Job, after: int | None, base: str) -> Frames:
    """The events of `job` above `after`; a reader who is new, or knows what never was, gets a snapshot first."""
    yield RETRY
    if after is None or after > job.seq:
        outlook = (await service.client.outlook([job])).get(job.id)
        yield frame("snapshot", render.job(job, base, outlook), job.seq)
        after = job.seq
    state = job.state
    if not over(job, after):
        async with contextlib.aclosing(live_events(service, job.id, after)) as live:
            async for item in live:
                if item is None:
                    yield PING
                    continue
                yield frame(item.kind, render.fact(item), item.seq)
                state = State(item.data["state"]) if item.kind == event.STATE else state
    if state.final:
        yield frame("end", {"state": state.value})


async def log_stream(service: Service, job: Job, after: int) -> Frames:
    """The log of `job` above event `after`. Its end has a number too, so that a browser that has it stays away."""
    yield RETRY
    last, state = job.seq, job.state
    async with contextlib.aclosing(live_events(service, job.id, after)) as live:
        async for item in live:
            if item is None:
                yield PING
                continue
            last = item.seq
            if item.kind == event.LOG:
                yield frame(item.kind, render.fact(item), item.seq)
            state = State(item.data["state"]) if item.kind == event.STATE else state
    if state.final:
        yield frame("end", {"state": state.value}, last)


async def live_events(service: Service, job_id: str, after: int) -> AsyncGenerator[Event | None, None]:
    """Events as they come, None when a ping is due; ends with the job, with the server, and for a reader too slow."""
    feed: Feed = asyncio.Queue(AHEAD)
    # A task of its own reads, so that a reader who goes away in the middle never cuts a read of the store in two.
    reading = asyncio.create_task(_read(service.client.events(job_id, after), feed))

    def stop() -> None:
        reading.cancel()
        if not feed.full():
            feed.put_nowait(None)

    service.when_stopping.add(stop)
    try:
        while not service.stopping.is_set():
            try:
                async with asyncio.timeout(PING_EVERY):
                    item = await feed.get()
            except TimeoutError:
                yield None
                continue
            if item is None:
                return
            yield item
    finally:
        service.when_stopping.discard(stop)
        reading.cancel()


async def _read(events: AsyncGenerator[Event, None], feed: Feed) -> None:
    try:
        async with contextlib.aclosing(events):
            async for item in events:
                await feed.put(item)
    except (FellBehind, StoreError) as error:
        # The connection ends, and the reader comes again with the last event that it got.
        log.info("a stream ends early: %s", error)
    except Exception:
        log.exception("a stream failed")
    await feed.put(None)
