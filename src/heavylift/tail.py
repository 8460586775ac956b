"""The one reader of a process's followed jobs: it reads the store once for all followers and fans the events out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING

from heavylift.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from heavylift.core.event import Event
    from heavylift.store import Store

POLL = 1.0
"""Seconds after which followed jobs are read although no hint came."""
BACKLOG = 4096
"""Events that a follower may lag behind before it is dropped; it resumes from its position."""
READ = 1000
"""Events of one read at most."""
SLICE = 200
"""Followers that are served in one turn of the loop."""

log = logging.getLogger("heavylift")


class FellBehind(Exception):
    """This follower reads too slowly; `seq` is the last event that it was given."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"the follower fell behind after event {seq}")
        self.seq = seq


class Follower:
    """One reader of one job's events, from a position on."""

    def __init__(self, job: str, after: int) -> None:
        self.job = job
        self.cursor = after
        self._given = after
        self._waiting: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._closed = False
        self._error: Exception | None = None

    def deliver(self, event: Event) -> None:
        """Take an event unless it was taken before; the same one may come from two reads."""
        if event.seq <= self.cursor or self._closed:
            return
        if len(self._waiting) >= BACKLOG:
            self.end(FellBehind(self._given))
            return
        self.cursor = event.seq
        self._waiting.append(event)
        self._arrived.set()

    def end(self, error: Exception | None = None) -> None:
        """No more events: the reader gets what is waiting, then the error or the end."""
        self._closed, self._error = True, error
        self._arrived.set()

    async def next(self) -> Event | None:
        """The next event, or None at the end; raises FellBehind."""
        while not self._waiting:
            if self._closed:
                if self._error is not None:
                    raise self._error
                return None
            self._arrived.clear()
            await self._arrived.wait()
        event = self._waiting.popleft()
        self._given = event.seq
        return event


class Tail:
    """Follows jobs for this process; begins with its first follower. `ends`: its followers wait for nothing else, so
    it is not woken by what happens before.
    """

    def __init__(self, store: Store, *, ends: bool = False) -> None:
        self._store = store
        self._ends = ends
        self._followers: dict[str, set[Follower]] = {}
        self._task: asyncio.Task[None] | None = None
        self._watching = asyncio.Event()

    async def close(self) -> None:
        """End all followers at once, so that open streams never hold up a shutdown."""
        for followers in list(self._followers.values()):
            for follower in followers:
                follower.end()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @contextlib.asynccontextmanager
    async def follow(self, job: str, after: int = 0) -> AsyncIterator[Follower]:
        """A follower of the job's events above `after`."""
        follower = Follower(job, after)
        self._followers.setdefault(job, set()).add(follower)
        if self._task is None or self._task.done():
            self._watching.clear()
            self._task = asyncio.create_task(self._run(), name="heavylift tail")
        try:
            # Hints must flow before the first read, or an event between the two would wait for the poll.
            await self._watching.wait()
            await self._read({job: after})
            yield follower
        finally:
            self._followers[job].discard(follower)
            if not self._followers[job]:
                del self._followers[job]

    async def _run(self) -> None:
        try:
            await self._serve()
        except Exception as error:  # whoever follows is told, and does not wait for ever
            log.exception("following ended")
            for follower in [follower for followers in self._followers.values() for follower in followers]:
                follower.end(error)
        finally:
            self._watching.set()

    async def _serve(self) -> None:
        async with self._store.watch(ends=self._ends) as hints:
            self._watching.set()
            while True:
                await hints.wait(POLL)
                if not self._followers:
                    continue
                try:
                    await self._read({job: min(f.cursor for f in all_) for job, all_ in self._followers.items()})
                except StoreUnavailable as error:
                    log.warning("the store is away, followers wait: %s", error)

    async def _read(self, cursors: dict[str, int]) -> None:
        while True:
            events = await self._store.events(cursors, READ)
            for served, event in enumerate(events):
                for follower in self._followers.get(event.job, ()):
                    follower.deliver(event)
                if served % SLICE == SLICE - 1:
                    await asyncio.sleep(0)  # so that one burst never holds the loop for long
            if len(events) < READ:
                return
            cursors = cursors | {event.job: event.seq for event in events}  # the last of each job stands last
