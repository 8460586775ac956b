"""What the handlers share: the application, whether it is stopping, and waits that end with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from heavylift.core.errors import JobNotFinished, StoreError
from heavylift.http.deadlines import Deadlines
from heavylift.http.problems import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from types import FrameType

    from heavylift.app import Heavylift
    from heavylift.core.job import Job

T = TypeVar("T")
Role = Literal["monolith", "api"]
"""`monolith` has a worker of its own, `api` only submits: its workers are elsewhere."""

DRAINING_RETRY_AFTER = 5

log = logging.getLogger("heavylift.http")


class Service:
    """An application as it is served."""

    def __init__(self, lift: Heavylift, role: Role) -> None:
        self.lift = lift
        self.client = lift.client
        self.role = role
        self.stopping = asyncio.Event()
        self.when_stopping: set[Callable[[], None]] = set()
        """What open streams want to be called for: one that stayed open would hold up the whole stop."""
        self.deadlines = Deadlines()
        self._started = False
        self._looked = False

    # --- life --------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """The lifespan under a server that is not ours: it tells of its stop by signals alone."""
        undo = self._hear_signals()
        try:
            async with self.running():
                yield
        finally:
            undo()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The store is open, and in `monolith` the worker is warm."""
        self.stopping = asyncio.Event()
        async with self.lift.with_worker() if self.role == "monolith" else self.lift:
            self._started = True
            try:
                yield
            finally:
                self.stop()
                self._started = False

    def stop(self) -> None:
        """End all streams and waits, and take no more jobs, and no worker that another process leaves behind."""
        self.stopping.set()
        self.lift.stopping()
        for call in list(self.when_stopping):
            call()

    async def look_around(self) -> None:
        """Say it, loudly and once, when requests come although nothing was started.

        The lifespan of an application that is mounted into another one never runs.
        """
        if self._started or self._looked:
            return
        self._looked = True
        self._hear_signals()
        with contextlib.suppress(StoreError):
            if await self.client.working():
                return
            log.error(
                "No worker runs: this API was mounted or included, so its own lifespan never ran. Its jobs are"
                " accepted, and wait. Give the outer application lifespan=lift.lifespan, or start `heavylift worker`."
            )

    def accepting(self) -> None:
        """Refuse new jobs once the stop has begun."""
        if self.stopping.is_set():
            detail = "This server is stopping. Try again: another one, or its successor, will answer."
            raise Refused(503, "draining", detail, headers={"Retry-After": str(DRAINING_RETRY_AFTER)})

    def _hear_signals(self) -> Callable[[], None]:
        """Stop when the server is told to; returns what undoes it.

        Servers wait for open connections before they run the end of a lifespan, so a stream that waited for that
        would hold them up for ever. What the server itself does on the signal still happens.
        """
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def received(number: int, frame: FrameType | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.stop)
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)

        # Where nobody handles a signal, its default ends the process, and there is nothing to wait for.
        hooked = [number for number, handler in before.items() if callable(handler)]
        for number in hooked:
            signal.signal(number, received)

        def undo() -> None:
            for number in hooked:
                if signal.getsignal(number) is received:
                    signal.signal(number, before[number])

        return undo

    # --- looking -----------------------------------------------------------------------------------------------

    async def settled(self, job_id: str, seconds: float) -> Job:
        """The job, as soon as it is over, or as it is after so many seconds or when the server stops."""
        with contextlib.suppress(JobNotFinished):
            job = await self._before_stop(self.client.finished(job_id, seconds))
            if job is not None:
                return job
        return await self.client.get(job_id)

    async def changed(self, job: Job, seconds: float) -> Job:
        """The job, as soon as it is another than this record, or as it is after so many seconds or at a stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._before_stop(self._next_event(job))
        return await self.client.get(job.id)

    async def _next_event(self, job: Job) -> None:
        async with contextlib.aclosing(self.client.events(job.id, job.seq)) as events:
            async for _ in events:
                return

    async def _before_stop(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` returns; None when the server stops before it does."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stopping.cancel()
