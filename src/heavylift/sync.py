"""The client's verbs for code without an event loop: they run on a loop of their own, in one thread of the process."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor as Threads
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from anyio.from_thread import BlockingPortal

from heavylift.client import ANSWER, Handle
from heavylift.context import is_loop_running
from heavylift.core.errors import ConfigError
from heavylift.core.result import Receipt, checkpoint_of, result_of
from heavylift.core.units import Duration, seconds
from heavylift.outlook import Outlook

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from heavylift.client import Client
    from heavylift.core.errors import HeavyliftError
    from heavylift.core.event import Event
    from heavylift.core.job import Job
    from heavylift.core.queue import Limits, Queue
    from heavylift.core.stack import Stack
    from heavylift.core.task import Task
    from heavylift.store import Added, WorkerStatus
    from heavylift.submission import Request

T = TypeVar("T")
R = TypeVar("R")

NAME = "heavylift sync"
BATCH = 200
"""Items that are fetched at a time."""


class Sync:
    """`lift.sync`: blocks until there is an answer. Safe to use from many threads, and after a fork.

    Where an event loop runs, each verb raises ConfigError: to block there would hold up everything else. `make` opens
    a client of its own in the loop that it is called in; `handle` makes the handle of a job.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[Client]],
        handle: Callable[[Job], Handle[Any]],
        find_task: Callable[[str], Task | None],
    ) -> None:
        self._make, self._handle, self._find_task = make, handle, find_task
        self._clear()
        os.register_at_fork(after_in_child=self._clear)

    def _clear(self) -> None:
        """Nothing is open; in a child after a fork that is so as well, for it has none of the parent's threads."""
        self._lock = threading.Lock()
        self._opened: Client | None = None

    def add(self, requests: Sequence[Request], ids: Sequence[str] = ()) -> list[Added | HeavyliftError]:
        """See `Client.add`."""
        return self.call(lambda client: client.add(requests, ids), "submit(…)")

    def get(self, job_id: str) -> Handle[Any]:
        """The job's handle; raises JobNotFound."""
        return self._handle(self.call(lambda client: client.get(job_id), "lift.get(…)"))

    def find(
        self,
        *,
        state: str | Sequence[str] = (),
        task: str | None = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Iterator[Job]:
        """All matching jobs, newest first."""
        found = self._client().find(state=state, task=task, queue=queue, labels=labels)
        while batch := self.call(lambda _: _some(found, BATCH), "lift.find(…)"):
            yield from batch

    @overload
    def result(self, job: Handle[R], timeout: Duration | None = None) -> R: ...
    @overload
    def result(self, job: str, timeout: Duration | None = None) -> Any: ...
    def result(self, job: Handle[Any] | str, timeout: Duration | None = None) -> Any:
        """Wait for the result of a job, given by its handle or its id.

        Raises JobFailed, JobTimedOut, JobCrashed or JobCancelled, and JobNotFinished after `timeout`.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        found = self.call(lambda client: client.finished(_id(job), limit), "handle.result(…)")
        return result_of(found, self._find_task(found.task))

    def cancel(
        self,
        job: Handle[Any] | str,
        *,
        grace: Duration | None = None,
        force: bool = False,
        reason: str | None = None,
    ) -> Receipt:
        """Stop a job; the receipt says what really happened. Raises JobNotFound, JobFinished."""
        return self.call(
            lambda client: client.cancel(_id(job), grace=grace, force=force, reason=reason), "lift.cancel(…)"
        )

    def retry(self, job: Handle[Any] | str, *, from_checkpoint: bool = True) -> Handle[Any]:
        """Start a job that is over anew, from its checkpoint or from the start; raises JobNotFound, JobNotFinished,
        DuplicateJob.
        """
        found = self.call(lambda client: client.retry(_id(job), from_checkpoint=from_checkpoint), "lift.retry(…)")
        return self._handle(found)

    def move(
        self,
        job: Handle[Any] | str,
        *,
        priority: int | None = None,
        run_at: datetime | str | float | None = None,
        delay: Duration | None = None,
    ) -> Handle[Any]:
        """Give a waiting job another place in the line: a priority, a time to run at or a delay from now. Raises
        JobNotFound, and JobNotWaiting when it has begun or is over.
        """
        moved = self.call(
            lambda client: client.move(_id(job), priority=priority, run_at=run_at, delay=delay), "lift.move(…)"
        )
        return self._handle(moved)

    def checkpoint(self, job: Handle[Any] | str, default: Any = None) -> Any:
        """The value that a job's code saved last, from which the next attempt resumes, or `default`."""
        return checkpoint_of(self.call(lambda client: client.get(_id(job)), "handle.checkpoint()"), default)

    def stack(self, job: Handle[Any] | str, timeout: Duration = ANSWER) -> Stack:
        """Where the code of a running job is now; raises JobNotFound, JobNotRunning, and NoAnswer after `timeout`."""
        return self.call(lambda client: client.stack(_id(job), timeout), "handle.stack()")

    def outlook(self, job: Handle[Any] | str) -> Outlook:
        """Why it waits, when it starts, when it is over."""
        found = self.call(lambda client: client.get(_id(job)), "handle.outlook()")
        return self.call(lambda client: client.outlook([found]), "handle.outlook()").get(found.id, Outlook())

    def events(self, job: Handle[Any] | str, after: int = 0) -> Iterator[Event]:
        """Its events above `after`, live, until it is over."""
        events = self._client().events(_id(job), after)
        try:
            while batch := self.call(lambda _: _some(events, 1), "handle.events(…)"):
                yield from batch
        finally:
            self.call(lambda _: events.aclose(), "handle.events(…)")

    def queues(self) -> list[Queue]:
        """All queues, their settings and what stands in them."""
        return self.call(lambda client: client.queues(), "lift.queues()")

    def pause(self, queue: str, *, by: str | None = None, reason: str | None = None) -> Queue:
        """Start no more jobs of this queue; running ones go on. Who pauses it, and why, is shown to all who look."""
        return self.call(lambda client: client.pause(queue, by=by, reason=reason), "lift.pause(…)")

    def resume(self, queue: str) -> Queue:
        """Start jobs of this queue again."""
        return self.call(lambda client: client.resume(queue), "lift.resume(…)")

    def set_queue(self, queue: str, **limits: Unpack[Limits]) -> Queue:
        """Limit a queue; None lifts a limit, and what is not given stays as it is. Raises ConfigError."""
        return self.call(lambda client: client.set_queue(queue, **limits), "lift.set_queue(…)")

    def workers(self) -> list[WorkerStatus]:
        """All workers that the store knows."""
        return self.call(lambda client: client.workers(), "lift.client.workers()")

    def close(self) -> None:
        """Let go of the store, and of the thread unless others use it; the next use opens anew."""
        with self._lock:
            client, self._opened = self._opened, None
            if client is not None:
                _PORTAL.leave(client.close)

    def call(self, verb: Callable[[Client], Awaitable[T]], instead: str) -> T:
        """Run a verb, and wait for it; `instead` is what code with a loop awaits."""
        if is_loop_running():
            message = f"This would block the event loop that runs on this thread: use `await {instead}`."
            raise ConfigError(message)
        client = self._client()
        return _PORTAL.call(lambda: verb(client))

    def _client(self) -> Client:
        client = self._opened
        if client is not None:
            return client
        if is_loop_running():
            message = "This would block the event loop that runs on this thread: use the verbs of `lift`, and await."
            raise ConfigError(message)
        with self._lock:
            if self._opened is None:
                self._opened = _PORTAL.join(self._make)
            return self._opened


class _Portal:
    """The loop of this process, and its thread; it lives while somebody has joined."""

    def __init__(self) -> None:
        self._clear()
        os.register_at_fork(after_in_child=self._clear)
        atexit.register(self._end)

    def _clear(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._portal: BlockingPortal | None = None
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run it in the loop and wait for it; what interrupts the waiting cancels it."""
        portal = self._portal
        if portal is None:
            message = "The client was closed meanwhile."
            raise ConfigError(message)
        future: Future[T] = portal.start_task_soon(function)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def join(self, make: Callable[[], Awaitable[T]]) -> T:
        """One more user; returns what `make` makes."""
        with self._lock:
            if self._portal is None:
                begun: Future[BlockingPortal] = Future()
                self._thread = threading.Thread(target=_run_loop, args=(begun,), name=NAME, daemon=True)
                self._thread.start()
                self._portal = begun.result()
            self._users += 1
        try:
            return self.call(make)
        except BaseException:
            self.leave(_nothing)
            raise

    def leave(self, close: Callable[[], Awaitable[None]]) -> None:
        """One user less, after its `close`; the last one ends the thread."""
        try:
            self.call(close)
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._end()

    def _end(self) -> None:
        portal, thread = self._portal, self._thread
        self._portal = self._thread = None
        if portal is not None and thread is not None:
            with suppress(RuntimeError):  # it has ended
                portal.call(portal.stop, True)  # noqa: FBT003  what still waits is cancelled: nobody could wake it
            thread.join()


_PORTAL = _Portal()


def _run_loop(begun: Future[BlockingPortal]) -> None:
    async def serve() -> None:
        # In a host, threads with our name are known not to be the job's.
        asyncio.get_running_loop().set_default_executor(Threads(thread_name_prefix=NAME))
        async with BlockingPortal() as portal:
            begun.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        asyncio.run(serve())
    except BaseException as error:
        if begun.done():
            raise
        begun.set_exception(error)


async def _some(items: AsyncIterator[T] | AsyncGenerator[T, None], limit: int) -> list[T]:
    found: list[T] = []
    while len(found) < limit:
        try:
            found.append(await anext(items))
        except StopAsyncIteration:
            break
    return found


async def _nothing() -> None:
    """There is nothing to close."""


def _id(job: Handle[Any] | str) -> str:
    return job if isinstance(job, str) else job.id
