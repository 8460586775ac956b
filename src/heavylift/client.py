"""What callers do with jobs: submit, get, find, follow, cancel, retry; and the Handle of one job."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

from heavylift import submission
from heavylift.core import checkpoint as checkpoints
from heavylift.core import event, lifecycle
from heavylift.core import stack as stacks
from heavylift.core.errors import (
    ConfigError,
    DuplicateJob,
    HeavyliftError,
    JobChanged,
    JobNotFinished,
    JobNotFound,
    JobNotRunning,
    NoAnswer,
)
from heavylift.core.estimate import left
from heavylift.core.job import CancelRequest, Job, State, new_id
from heavylift.core.queue import place, values
from heavylift.core.result import Receipt, checkpoint_of, result_of
from heavylift.core.units import Duration, seconds
from heavylift.outlook import Outlook, look
from heavylift.store import Added, Query, Question
from heavylift.submission import ID_BYTES
from heavylift.tail import Tail

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from heavylift.core.checkpoint import Saved
    from heavylift.core.event import Event
    from heavylift.core.job import Change
    from heavylift.core.queue import Limits, Queue
    from heavylift.core.stack import Stack
    from heavylift.core.task import Task
    from heavylift.store import Clock, Page, Store, WorkerStatus
    from heavylift.submission import Request

R = TypeVar("R")

KILL_MARGIN = 10.0
"""Seconds beyond the grace for which a cancel waits to see what really happened."""
ANSWER = 15.0
"""Seconds for a worker to say where a job's code is: a beat may pass until it hears of the question, and native code
takes some seconds to be found."""
QUESTION = 20.0
"""Seconds for which a question and its answer are kept, at least."""
LOOK = 1.0
"""Seconds between two looks for an answer that no hint told of."""
MAX_RACES = 100
"""How often a decision is made anew because the job changed meanwhile; each time means that somebody else got on."""


class Client:
    """The verbs, on one store. Opens itself at its first use."""

    def __init__(self, store: Store, clock: Clock, max_payload: int = 2**20) -> None:
        self._opened = False
        self.use(store, clock, max_payload)

    def use(self, store: Store, clock: Clock, max_payload: int) -> None:
        """Work on this store from now on; only before the first use of the one before, or when it is closed.

        Raises ConfigError when it is open.
        """
        if self._opened:
            message = "The store is open already; say where jobs live before the first use, or close it first."
            raise ConfigError(message)
        self.store = store
        self._clock = clock
        self.max_payload = max_payload
        self._tail, self._ends = Tail(store), Tail(store, ends=True)

    async def open(self) -> None:
        """Open the store; the other verbs do so by themselves."""
        if not self._opened:
            await self.store.open()
            self._opened = True

    async def close(self) -> None:
        """End all streams, then close the store."""
        await self._tail.close()
        await self._ends.close()
        if self._opened:
            self._opened = False
            await self.store.close()

    def abandon(self) -> None:
        """What `close` does to streams cannot be done where their loop is gone: forget the store, which whoever opened
        it closes, and open it anew at the next use.
        """
        self._tail, self._ends = Tail(self.store), Tail(self.store, ends=True)
        self._opened = False

    def now(self) -> float:
        """Unix seconds by the clock of the store, which in tests is not the machine's."""
        return self._clock.wall()

    async def submit(self, requests: Sequence[Request], ids: Sequence[str] = ()) -> list[Job]:
        """Queue jobs: one write, or one for about 200 of them where they are more.

        Raises the first error of a refused one; then its neighbours may have been queued: their ids are known
        to the caller if given as `ids`, and submitting them again is safe.
        """
        return submission.accepted(await self.add(requests, ids))

    async def add(self, requests: Sequence[Request], ids: Sequence[str | None] = ()) -> list[Added | HeavyliftError]:
        """Like `submit`, with an answer per item: the job (an existing one for a taken unique key, and for an id that
        was submitted before), or its error. That is a SubmitError, or JobPruned for an id whose job is gone.
        """
        await self.open()
        return await submission.add(self.store, self._clock.wall(), requests, ids)

    async def get(self, job_id: str) -> Job:
        """The job's record; raises JobNotFound (JobPruned when it is past its retention)."""
        await self.open()
        job = (await self.store.get([job_id]))[0]
        if job is None:
            raise JobNotFound(job_id)
        return job

    def handle(self, job: Job, task: Task | None) -> Handle[Any]:
        """A handle of a job as it was read; `task` decodes its result."""
        return Handle(self, job, task)

    async def page(self, query: Query) -> Page:
        """One page of jobs, newest first."""
        await self.open()
        return await self.store.find(query)

    async def find(
        self,
        *,
        state: str | Sequence[str] = (),
        task: str | None = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Job]:
        """All matching jobs, newest first, read page by page."""
        states = tuple(State(name) for name in ([state] if isinstance(state, str) else state))
        token = None
        while True:
            query = Query(states, task, queue, labels or {}, limit=200, page_token=token)
            page = await self.page(query)
            for job in page.jobs:
                yield job
            token = page.next_page_token
            if token is None:
                return

    async def events(self, job_id: str, after: int = 0) -> AsyncGenerator[Event, None]:
        """The job's events above `after`, live, until its final state. Of progress reports that were made before
        the reader came, only the last is given.
        """
        job = await self.get(job_id)
        if job.state.final and after >= job.seq:
            return
        async with contextlib.aclosing(self._follow(job, after)) as events:
            async for item in events:
                yield item

    async def finished(self, job_id: str, timeout: float | None = None) -> Job:
        """The job when it is over; raises JobNotFinished after `timeout` seconds."""
        job = await self.get(job_id)
        if job.state.final:
            return job
        try:
            async with asyncio.timeout(timeout):
                async with self._ends.follow(job.id, job.seq) as follower:
                    while (item := await follower.next()) is not None and not _ends(item, job):
                        pass
        except TimeoutError:
            job = await self.get(job_id)
            if not job.state.final:
                raise JobNotFinished(job.id, job.state, f"it is not over after {timeout:g} s.") from None
            return job
        job = await self.get(job_id)
        # A manual retry may have begun it anew since: then this is the record of its new life.
        return job if job.state.final else await self.finished(job_id, timeout)

    async def cancel(
        self,
        job_id: str,
        *,
        grace: Duration | None = None,
        force: bool = False,
        reason: str | None = None,
        wait: float | None = None,
    ) -> Receipt:
        """Stop a job and say what really happened, waiting until it did (`wait` seconds at most; 0: at once).

        Raises JobNotFound, and JobFinished when it was over before.
        """
        limit = None if grace is None else seconds(grace, "grace")
        job = await self.get(job_id)
        request = CancelRequest(self._clock.wall(), limit, force, reason)
        job = await self._decide(job, lambda current: lifecycle.cancel(current, request))
        if not job.state.final and wait != 0:
            patience = (job.options.grace if limit is None else limit) + KILL_MARGIN if wait is None else wait
            with contextlib.suppress(JobNotFinished):
                job = await self.finished(job_id, patience)
        return Receipt.of(job)

    async def retry(self, job_id: str, *, from_checkpoint: bool = True) -> Job:
        """Start a job that is over anew, with new budgets; from its checkpoint, or from the start.

        Raises JobNotFinished, and DuplicateJob when another job that is not over has its unique key by now.
        """
        now = self._clock.wall()

        def rule(current: Job) -> Change:
            return lifecycle.retry(current, now, from_checkpoint=from_checkpoint)

        return await self._decide(await self.get(job_id), rule)

    async def checkpoint(self, job_id: str) -> Saved | None:
        """What the job saved to resume from: the value of its code, and the results of its steps; None: nothing."""
        job = await self.get(job_id)
        return None if job.checkpoint is None else checkpoints.read(job.checkpoint)

    async def stack(self, job_id: str, timeout: Duration = ANSWER) -> Stack:
        """Where the code of a running job is now, as its worker says.

        Raises JobNotFound, JobNotRunning, and NoAnswer after `timeout`.
        """
        limit = seconds(timeout, "timeout")
        job = await self.get(job_id)
        deadline = asyncio.get_running_loop().time() + limit
        async with self.store.watch() as hints:
            question = Question(new_id(self._clock.wall(), os.urandom(ID_BYTES)), job.id, job.attempt)
            asked = await self.store.ask(question, max(QUESTION, limit))
            while asked is not None:
                if (answer := await self.store.answered(asked)) is not None:
                    return stacks.read(answer)
                if (left := deadline - asyncio.get_running_loop().time()) <= 0:
                    raise NoAnswer(job.id, job.worker, limit)
                await hints.wait(min(left, LOOK))
                now = await self.get(job.id)
                if (now.state, now.attempt) != (State.RUNNING, question.attempt):
                    break
        now = await self.get(job.id)
        if now.state is State.RUNNING:
            return await self.stack(job_id, timeout)  # it has begun, or begun anew, meanwhile
        raise JobNotRunning(now.id, now.state, now.run_at - self._clock.wall())

    async def queues(self) -> list[Queue]:
        """All queues, their settings and what stands in them."""
        await self.open()
        return await self.store.queues()

    async def pause(self, queue: str, *, by: str | None = None, reason: str | None = None) -> Queue:
        """Start no more jobs of this queue; running ones go on. Who pauses it, and why, is shown to all who look."""
        await self.open()
        return await self.store.set_queue(queue, paused=True, by=by, reason=reason)

    async def resume(self, queue: str) -> Queue:
        """Start jobs of this queue again."""
        await self.open()
        return await self.store.set_queue(queue, paused=False)

    async def set_queue(self, queue: str, **limits: Unpack[Limits]) -> Queue:
        """Limit a queue: `concurrency` and `rate` of starts over all workers, `max_size` of what waits, and how long
        its finished jobs are kept (`keep`). None lifts a limit, and what is not given stays as it is.

        Raises ConfigError for what is no limit, and for a `max_size` below the number of jobs that wait.
        """
        given = values(limits)
        await self.open()
        return await self.store.set_queue(queue, **given)

    async def move(
        self,
        job_id: str,
        *,
        priority: int | None = None,
        run_at: datetime | str | float | None = None,
        delay: Duration | None = None,
        seq: int | None = None,
    ) -> Job:
        """Give a waiting job another place in the line: a priority, a time to run at or a delay from now. With `seq`
        only as long as that is the number of its last event.

        Raises JobNotFound, JobNotWaiting when it has begun or is over, JobChanged, and ConfigError.
        """
        now = self._clock.wall()
        to, at = place(now, priority=priority, run_at=run_at, delay=delay)

        def rule(current: Job) -> Change:
            change = lifecycle.move(current, now, priority=to, run_at=at)
            if seq is not None and current.seq != seq:
                raise JobChanged(current.id, seq, current.seq)
            return change

        return await self._decide(await self.get(job_id), rule)

    async def workers(self) -> list[WorkerStatus]:
        """All workers that the store knows."""
        await self.open()
        return await self.store.workers()

    async def working(self) -> bool:
        """Whether any worker is alive."""
        return any(not status.dead for status in await self.workers())

    async def outlook(self, jobs: Iterable[Job]) -> dict[str, Outlook]:
        """Why each of these jobs waits, when it starts, when it is over; by id, none of those that are over."""
        await self.open()
        return await look(self.store, jobs, self.now())

    async def _decide(self, job: Job, rule: Callable[[Job], Change]) -> Job:
        """Write what a rule makes of the job; made anew from the record as it is now when somebody was faster."""
        for _ in range(MAX_RACES):
            change = rule(job)
            if not change.fields:
                return job
            answer = (await self.store.save([change]))[0]
            if isinstance(answer, DuplicateJob):
                raise answer
            if answer is not None:
                return change.apply(job)
            job = await self.get(job.id)
        message = f"Job {job.id} changed {MAX_RACES} times while it was to be changed; try again."
        raise HeavyliftError(message)

    async def _follow(self, job: Job, after: int) -> AsyncGenerator[Event, None]:
        """Events until the final one: what was there when `job` was read, then what comes."""
        past = await self._past(job, after)
        for known in past:
            yield known
        if past and _ends(past[-1], job):
            return
        async with self._tail.follow(job.id, past[-1].seq if past else after) as follower:
            while (item := await follower.next()) is not None:
                yield item
                if _ends(item, job):
                    return

    async def _past(self, job: Job, after: int) -> list[Event]:
        """The events above `after` up to the record's own; of the progress among them only the last."""
        past: list[Event] = []
        while after < job.seq and (page := await self.store.events({job.id: after})):
            past += page
            after = page[-1].seq
        newest = max((item.seq for item in past if item.kind == event.PROGRESS), default=0)
        return [item for item in past if item.kind != event.PROGRESS or item.seq == newest]


class Handle(Generic[R]):
    """One submitted job."""

    def __init__(self, client: Client, job: Job, task: Task | None) -> None:
        self._client = client
        self._task = task
        self.job = job
        """The record as it was last read."""

    def __repr__(self) -> str:
        return f"<Handle {self.job.id} {self.job.task} {self.job.state}>"

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def state(self) -> State:
        """The state as it was last read; `refresh` reads anew."""
        return self.job.state

    @property
    def eta(self) -> float | None:
        """Seconds that it still runs, by its progress as it was last read; None when that cannot be told."""
        return left(self.job, self._client.now())

    async def outlook(self) -> Outlook:
        """Why it waits, when it starts, when it is over."""
        return (await self._client.outlook([await self.refresh()])).get(self.id, Outlook())

    async def refresh(self) -> Job:
        """The record as it is now."""
        self.job = await self._client.get(self.id)
        return self.job

    async def result(self, timeout: Duration | None = None) -> R:
        """Wait for the result.

        Raises JobFailed, JobTimedOut, JobCrashed or JobCancelled, and JobNotFinished after `timeout`.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        self.job = await self._client.finished(self.id, limit)
        result: R = result_of(self.job, self._task)
        return result

    async def cancel(self, *, grace: Duration | None = None, force: bool = False, reason: str | None = None) -> Receipt:
        """Stop it; the receipt says what really happened. Raises JobFinished when it was over before."""
        return await self._client.cancel(self.id, grace=grace, force=force, reason=reason)

    async def retry(self, *, from_checkpoint: bool = True) -> None:
        """Start it anew, from its checkpoint or from the start; raises JobNotFinished when it is not over, DuplicateJob
        when another job has its unique key by now.
        """
        self.job = await self._client.retry(self.id, from_checkpoint=from_checkpoint)

    async def move(
        self,
        *,
        priority: int | None = None,
        run_at: datetime | str | float | None = None,
        delay: Duration | None = None,
    ) -> None:
        """Give it another place in the line while it waits: a priority, a time to run at or a delay from now; raises
        JobNotWaiting when it has begun or is over.
        """
        self.job = await self._client.move(self.id, priority=priority, run_at=run_at, delay=delay)

    async def checkpoint(self, default: Any = None) -> Any:
        """The value that its code saved last, from which the next attempt resumes, or `default`."""
        return checkpoint_of(await self.refresh(), default)

    async def stack(self, timeout: Duration = ANSWER) -> Stack:
        """Where its code is now; raises JobNotRunning, and NoAnswer after `timeout`."""
        return await self._client.stack(self.id, timeout)

    def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Its events above `after`, live, until it is over."""
        return self._client.events(self.id, after)


def _ends(item: Event, job: Job) -> bool:
    """Whether this is the job's last event; an older end, before a manual retry, is not."""
    return item.kind == event.STATE and State(item.data["state"]).final and item.seq >= job.seq
