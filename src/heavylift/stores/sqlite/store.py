"""The store itself: each method of the contract is one operation of the writer, or a read beside it."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar, Unpack

from heavylift.core.errors import DuplicateJob, JobPruned, StoreUnavailable, SubmitError
from heavylift.core.event import Event
from heavylift.core.finding import Finding
from heavylift.core.job import Change, Job, NewEvent
from heavylift.core.limits import Rate
from heavylift.core.options import PLACES, Slots
from heavylift.core.queue import Queue, QueueValues, Standing, check
from heavylift.core.retention import Retention
from heavylift.core.tally import Key
from heavylift.store import (
    Added,
    Clock,
    Hints,
    Mailbox,
    Page,
    Query,
    Question,
    Schema,
    SystemClock,
    WorkerRecord,
    WorkerStatus,
)
from heavylift.stores.sqlite import (
    adding,
    claiming,
    diagnosis,
    expiring,
    following,
    memory,
    pruning,
    questions,
    reading,
    settings,
    standing,
    tallies,
    workers,
)
from heavylift.stores.sqlite.moment import Moment
from heavylift.stores.sqlite.opened import Opened
from heavylift.stores.sqlite.rows import Held
from heavylift.stores.sqlite.url import parse
from heavylift.stores.sqlite.wakeups import ENDS, FOLLOWER, Waiter, role
from heavylift.stores.sqlite.writer import LARGEST

T = TypeVar("T")

SLICE = 50
"""Rows that are read in one turn of the event loop."""
ROW = 8192
"""Bytes of arguments that take as long to write as a job without."""
REMEMBERED = 50_000
"""Claimed jobs of which it is remembered where they stand; the others are read before they are settled."""


class SqliteStore:
    """Jobs in an SQLite file (`sqlite:///…`), or in one that lives in memory and goes with this process (`memory://`).

    `refused`: changes that were refused because of their fence.
    """

    def __init__(self, url: str, clock: Clock | None = None, *, inline: bool = False) -> None:
        self._scheme = url.partition(":")[0]
        self._location = parse(url)
        self._clock = clock or SystemClock()
        self._inline = inline
        self._opening = threading.Lock()
        self._opened: Opened | None = None
        self._forked = False
        self._held: dict[str, Held] = {}
        self._mine: dict[str, dict[str, int]] = {"beats": {}, "swept": {}}
        self.refused = 0
        _STORES.add(self)

    @property
    def url(self) -> str:
        """The URL by which any process finds this store; that of one in memory is complete when it is open."""
        return self._location.url(self._scheme)

    @property
    def schema(self) -> Schema:
        """What the open store's `open` made of its schema."""
        return self._open_now().schema

    async def open(self) -> None:
        """Connect; create the schema of an empty store, migrate an older one; idempotent."""
        if self._opened is None:
            await asyncio.to_thread(self._open)

    async def diagnose(self) -> list[Finding]:
        """What is good and bad about the file, and the place where it is."""
        return await asyncio.to_thread(diagnosis.diagnose, self._location)

    async def close(self) -> None:
        """Finish what was begun and let go of everything; idempotent."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await asyncio.to_thread(opened.close)

    async def add(self, jobs: Sequence[tuple[Job, NewEvent]]) -> list[Added | SubmitError]:
        """Keep new queued jobs, each with its first event, in order."""
        writer = self._open_now().writer
        if len(jobs) <= LARGEST:
            return await writer.call(partial(adding.add, jobs=jobs), _rows(jobs))
        parts = _parts(jobs)
        answers = [await writer.call(partial(adding.add, jobs=part), _rows(part)) for part in parts]
        return [answer for part in answers for answer in part]

    async def claim(self, worker: str, epoch: int, slots: Slots, queues: Collection[str] = ()) -> list[Job]:
        """Begin attempts of as many due jobs as this worker has slots for, where they run."""
        if len(self._held) > REMEMBERED:
            self._held.clear()
        if sum(slots) <= LARGEST:
            return await self._claim(worker, epoch, slots, queues)
        found: list[Job] = []
        for place, wanted in zip(PLACES, slots, strict=True):
            left = wanted
            while left > 0:
                part = Slots(**{place: min(left, LARGEST)})
                jobs = await self._claim(worker, epoch, part, queues)
                found += jobs
                left = left - len(jobs) if len(jobs) == sum(part) else 0
        return found

    async def _claim(self, worker: str, epoch: int, slots: Slots, queues: Collection[str]) -> list[Job]:
        claim = partial(claiming.claim, worker=worker, epoch=epoch, slots=slots, queues=queues, held=self._held)
        return await self._open_now().writer.call(claim, sum(slots))

    async def held(self, worker: str, epoch: int) -> dict[str, int]:
        """Which running jobs this epoch of the worker holds, by id, with their attempt."""
        return await self._open_now().scan(lambda connection: workers.held(connection, worker, epoch))

    async def save(self, changes: Sequence[Change]) -> list[int | DuplicateJob | None]:
        """Write changes with their events; each answer is the job's new `seq`, or None for a refused one."""
        writer = self._open_now().writer
        answers: list[int | DuplicateJob | None] = []
        for part in _parts(changes):
            answers += await writer.call(
                partial(following.save, changes=part, held=self._held, mine=self._mine), len(part)
            )
        self.refused += answers.count(None)
        return answers

    async def beat(self, worker: WorkerRecord, lease: float) -> Mailbox:
        """Renew the worker's lease for `lease` seconds and bring back its mailbox."""
        mailbox = await self._open_now().writer.call(lambda transaction: workers.beat(transaction, worker, lease))
        if mailbox.alive:
            if self._mine["beats"].get(worker.id, worker.epoch) != worker.epoch:
                self._held.clear()  # what the epoch before claimed is not this one's
            self._mine["beats"][worker.id] = worker.epoch
        return mailbox

    async def ask(self, question: Question, lasts: float) -> str | None:
        """Ask the worker that runs an attempt where its code is; the id of the answer."""
        return await self._open_now().writer.call(lambda transaction: questions.ask(transaction, question, lasts))

    async def answer(self, answers: Mapping[str, bytes]) -> None:
        """Keep answers, by the ids of their questions."""
        await self._open_now().writer.call(lambda transaction: questions.answer(transaction, answers))

    async def answered(self, question: str) -> bytes | None:
        """The answer to a question, if there is one."""
        now = self._clock.wall()
        return await self._open_now().read(lambda connection: questions.answered(connection, question, now))

    async def retire(self, worker: str, epoch: int) -> None:
        """A worker that stops says good-bye."""
        await self._open_now().writer.call(lambda transaction: workers.retire(transaction, worker, epoch))

    async def sweep(self, worker: str, *, others: bool) -> list[Job]:
        """Declare workers dead, and return up to 200 running jobs whose worker is dead or unknown."""
        opened, now = self._open_now(), self._clock.monotonic()
        # A look first, which takes no turn: nearly always there is nothing to do.
        if not await opened.read(lambda connection: workers.is_to_sweep(connection, worker, now, others=others)):
            return []
        found = await opened.writer.call(lambda transaction: workers.sweep(transaction, worker, others=others))
        self._mine["swept"] = {job.id: job.attempt for job in found}
        return found

    async def next_due(self) -> float | None:
        """When some waiting job may become claimable by time alone."""
        return await self._open_now().read(lambda connection: reading.next_due(connection, Moment.of(self._clock)))

    async def reserve(self, rate: Rate) -> float:
        """Take the next free place in a rate of starts; seconds to wait until it is due."""
        return await self._open_now().writer.call(lambda transaction: transaction.reserve(rate))

    async def expired(self) -> list[Job]:
        """Up to 200 queued jobs that were to begin by now."""
        now = self._clock.wall()
        return await self._open_now().read(lambda connection: expiring.expired(connection, now))

    async def standing(self, ids: Sequence[str]) -> dict[str, Standing]:
        """Where those of these jobs stand that are queued."""
        return await self._open_now().scan(
            lambda connection: standing.standings(connection, ids, Moment.of(self._clock))
        )

    async def get(self, ids: Sequence[str]) -> list[Job | None]:
        """The jobs, in the order of `ids`, None for an unknown one."""
        opened = self._open_now()
        found: list[Job | None] = []
        for place, name in enumerate(ids):
            if place % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            found.append(await opened.read(partial(reading.get, name=name)))
        if found == [None]:
            since = self._clock.wall() - pruning.REMEMBERED
            if await opened.read(lambda connection: reading.is_pruned(connection, ids[0], since)):
                raise JobPruned(ids[0])
        return found

    async def find(self, query: Query) -> Page:
        """Jobs by state, task, queue and labels (all must match), newest first."""
        opened = self._open_now()
        reading.position(query.page_token)
        numbers, following = await opened.scan(lambda connection: reading.find_numbers(connection, query))
        found: list[Job] = []
        for start in range(0, len(numbers), SLICE):
            part = numbers[start : start + SLICE]
            found += await opened.read(partial(reading.jobs, numbers=part))
            await asyncio.sleep(0)
        return Page(tuple(found), reading.token(following))

    async def events(self, cursors: Mapping[str, int], limit: int = 1000) -> list[Event]:
        """Events of the given jobs with `seq` above each cursor, by job and seq; at most `limit`."""
        opened = self._open_now()
        found: list[Event] = []
        for place, (job, after) in enumerate(sorted(cursors.items())):
            if place % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            left = limit - len(found)
            if left <= 0:
                break
            found += await opened.read(partial(reading.events, job=job, after=after, limit=left))
        return found

    async def queues(self) -> list[Queue]:
        """All queues that have settings or jobs, by name."""
        return await self._open_now().scan(lambda connection: reading.queues(connection, self._clock.wall()))

    async def set_queue(self, name: str, **given: Unpack[QueueValues]) -> Queue:
        """Change what is given of a queue's settings, creating its record."""
        check(name, given)
        return await self._open_now().writer.call(lambda transaction: settings.set_queue(transaction, name, given))

    async def workers(self) -> list[WorkerStatus]:
        """All known workers, by start; dead ones until their jobs are settled."""
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        return await self._open_now().scan(lambda connection: workers.statuses(connection, wall, monotonic))

    async def count(self, added: Mapping[Key, float]) -> None:
        """Add to the counts of all workers."""
        amounts = dict(added)
        rows = min(len(amounts), LARGEST)
        await self._open_now().writer.call(lambda transaction: tallies.count(transaction, amounts), rows)

    async def counts(self) -> dict[Key, float]:
        """What all workers have counted."""
        return await self._open_now().read(tallies.counts)

    async def prune(self, retention: Retention) -> int:
        """Remove up to 200 finished jobs that retention lets go, with events; returns how many."""
        opened, now = self._open_now(), self._clock.wall()
        chosen = await opened.scan(lambda connection: pruning.victims(connection, retention, now))
        return await opened.writer.call(lambda transaction: pruning.prune(transaction, chosen), LARGEST)

    def watch(self, *, worker: str | None = None, ends: bool = False) -> Hints:
        """Hints for a worker, or without `worker` for a follower (`ends`: only when jobs are over)."""
        name = role(worker) if worker is not None else ENDS if ends else FOLLOWER
        return Waiter(lambda: self._open_now().folder, self._version, name)

    def _version(self) -> int | None:
        return None if self._opened is None else self._opened.version()

    # --- opening --------------------------------------------------------------------------------------------------

    def _open(self) -> Opened:
        with self._opening:
            if self._opened is None:
                if not self._location.path:
                    self._location = replace(self._location, path=f"{memory.make_folder()}/jobs.db")
                self._opened = Opened(self._location, self._clock, inline=self._inline)
            return self._opened

    def _open_now(self) -> Opened:
        if self._opened is not None:
            return self._opened
        if self._forked:
            return self._open()
        message = "The store is not open: await its open() first."
        raise StoreUnavailable(message)

    def _after_fork(self) -> None:
        """In the child: the parent's connections and threads are no use here, so this store is opened anew."""
        opened, self._opened = self._opened, None
        self._opening = threading.Lock()
        self._held = {}
        if opened is not None:
            opened.abandon()
            self._forked = True


_STORES: weakref.WeakSet[SqliteStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_STORES):
        store._after_fork()  # noqa: SLF001  its own module


os.register_at_fork(after_in_child=_after_fork)


def _rows(jobs: Sequence[tuple[Job, NewEvent]]) -> int:
    """As how many plain rows these count, so that large ones are written in the thread, and few of them together."""
    return len(jobs) + sum([len(job.args) for job, _ in jobs]) // ROW


def _parts(items: Sequence[T]) -> list[Sequence[T]]:
    """As many of them as one transaction takes; the items are independent of each other."""
    return [items[start : start + LARGEST] for start in range(0, len(items), LARGEST)]
