"""The worker: claims jobs, runs them and settles them; keeps its lease; drains on stop.

One job's way: `_claim` → `_start` → the executor runs it → `_finished` settles it → `_save` writes it, fenced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from heavylift import housekeeping
from heavylift.core import lifecycle
from heavylift.core.errors import JobPruned, StoreUnavailable
from heavylift.core.job import Job, State
from heavylift.core.outcome import NOT_STARTED, Interrupted
from heavylift.demand import Demand
from heavylift.executor import LogLines, Report, Reserve, StopReason
from heavylift.journal import Journal
from heavylift.questions import Questions
from heavylift.reports import Running, Settled, reported
from heavylift.reservations import Reservations
from heavylift.store import LeaseLost

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable, Sequence

    from heavylift.core.options import Slots
    from heavylift.core.outcome import Outcome
    from heavylift.executor import Executor
    from heavylift.settings import Settings
    from heavylift.store import Clock, Mailbox, Store, WorkerRecord

T = TypeVar("T")

BATCH = 200
"""Changes of one save, at most."""
CROWD, TICK = 4, 0.01
"""While more jobs than this run, outcomes wait so many seconds for company: half of them are written at a time."""
LAST_WRITES = 10.0
"""Seconds that a draining worker waits for a store that is away."""
AWAY = (0.1, 5.0)
"""Seconds between two tries while the store is away: at first, and at most."""
LOOK = 1.0
"""Seconds between two looks for workers of this machine whose process is gone, at most."""

log = logging.getLogger("heavylift.worker")


class Worker:
    """One worker on one store with one executor. `run` lives until `drain`."""

    def __init__(
        self, store: Store, executor: Executor, settings: Settings, record: WorkerRecord, clock: Clock
    ) -> None:
        self.record = record
        self._store = store
        self._executor = executor
        self._settings = settings
        self._clock = clock
        self._journal = Journal(executor.tally, repeats=settings.log_jobs)
        self._counted_at = float("-inf")
        self._running: dict[str, Running] = {}
        self._unsaved: list[Settled] = []
        self._contact_since: float | None = None
        self._last_beat = clock.monotonic()
        self._longest_gap = max(settings.lease / 2, settings.beat + settings.lease / 4)
        """Seconds between two beats after which this worker was away itself: it was stopped, or so was its machine."""
        self._demand = Demand({name: settings.queues.get(name, 1) for name in record.queues})
        self._reservations = Reservations()
        self._save_now = asyncio.Event()
        self._half_done = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._drain_now = asyncio.Event()
        self._drain_grace = settings.drain
        self._cut = asyncio.Event()
        self._questions = Questions()
        self._saved = asyncio.Event()
        self._saving: list[Settled] = []
        self._doubts: list[float] = []
        """When (monotonic) to ask the store what it believes is held here."""

    def drain(self, grace: float | None = None) -> None:
        """Take no more jobs, let the running ones end within `grace` seconds (default: the setting), hand back the
        others at no cost, and let `run` return. A second call cuts the grace to zero.
        """
        if self._drain_now.is_set():
            self._cut.set()
        elif grace is not None:
            self._drain_grace = grace
        self._drain_now.set()

    async def run(self, ready: Future[None] | None = None) -> None:
        """Work until drained; `ready` is done when the first claim was made."""
        if not await self._registered():
            return
        async with asyncio.TaskGroup() as group:
            claims = group.create_task(self._claim_loop(ready), name="claim")
            others = [
                group.create_task(self._hint_loop(), name="hints"),
                group.create_task(self._beat_loop(), name="beat"),
                group.create_task(self._housekeeping_loop(), name="housekeeping"),
                group.create_task(self._save_loop(), name="save"),
                group.create_task(self._questions.answer(self._executor, self._store), name="answers"),
                group.create_task(self._demand.keep_time(self._store, self._clock, self._no_contact), name="due"),
                group.create_task(self._reservations.make(self._store, self._no_contact), name="reservations"),
            ]
            await self._drain_now.wait()
            await self._wind_down(claims, others)

    async def _registered(self) -> bool:
        """The first beat, which gives the right to claim; False when the worker was to drain before it succeeded."""
        beat = asyncio.create_task(self._until_available(self._beat))
        drain = asyncio.create_task(self._drain_now.wait())
        await asyncio.wait([beat, drain], return_when="FIRST_COMPLETED")
        drain.cancel()
        if not beat.done():
            beat.cancel()
            return False
        await beat
        return True

    # --- claim -> run -> settle -> save ------------------------------------------------------------------------

    async def _claim_loop(self, ready: Future[None] | None) -> None:
        while not self._drain_now.is_set():
            slots = self._demand.slots(self._executor.free)
            try:
                await self._hand_back_unknown()
                jobs = await self._claim(slots) if any(slots) else []
            except StoreUnavailable as error:
                self._no_contact(error)
                await self._demand.wait()  # each poll is another try
                continue
            more = self._demand.brought(slots, jobs)
            for job in jobs:
                self._start(job)
            if ready is not None and not ready.done():
                ready.set_result(None)
            if not more:
                await self._demand.wait()

    async def _claim(self, slots: Slots) -> Sequence[Job]:
        record, asked = self.record, self._clock.monotonic()
        try:
            jobs = await self._store.claim(record.id, record.epoch, slots, self._demand.queues(slots))
            self._journal.called("claim", self._clock.monotonic() - asked)
        except LeaseLost:
            self._begin_new_epoch(record.epoch)
            return []
        except StoreUnavailable:
            # It may have been carried out all the same: at once, or by a server that still has it.
            self._doubts = [0.0, self._clock.monotonic() + self._settings.lease]
            raise
        if record.epoch == self.record.epoch and self._clock.monotonic() - asked <= self._settings.lease:
            return jobs
        # The lease ran out while the answer was under way: others may have these jobs by now.
        for job in jobs:
            self._settle(job, Interrupted(NOT_STARTED))
        return []

    async def _hand_back_unknown(self) -> None:
        """After a claim whose answer was lost, hand back what the store says is held here, and nobody here knows of."""
        while self._doubts and self._doubts[0] <= self._clock.monotonic():
            record = self.record
            ours: list[Running | Settled] = [*self._running.values(), *self._saving, *self._unsaved]
            known = {(item.job.id, item.job.attempt) for item in ours}
            held = await self._store.held(record.id, record.epoch)
            unknown = [name for name, attempt in held.items() if (name, attempt) not in known]
            for job in await self._store.get(unknown) if unknown else []:
                if job is not None and job.state is State.RUNNING and job.attempt == held[job.id]:
                    self._journal.unknown(job)
                    self._settle(job, Interrupted(NOT_STARTED))
            self._doubts.pop(0)

    def _start(self, job: Job) -> None:
        if self._drain_now.is_set():
            # Claimed while the drain began: it never started, so it goes back at no cost.
            self._settle(job, Interrupted(NOT_STARTED))
            return
        self._running[job.id] = Running(job, self._clock.monotonic())
        if self._journal.tells_all:
            self._journal.began(job)
        self._executor.run(job, self._report, self._finished)

    def _finished(self, claimed: Job, outcome: Outcome) -> None:
        running = self._running.get(claimed.id)
        if running is None or running.job.attempt != claimed.attempt:
            # The lease was lost meanwhile. The store refuses the outcome and counts it, unless it is that of our stop.
            if not isinstance(outcome, Interrupted):
                self._settle(claimed, outcome)
            return
        del self._running[claimed.id]
        self._settle(running.job, outcome)
        self._demand.freed(claimed.options.run_in)

    def _settle(self, job: Job, outcome: Outcome, *, anew: bool = False) -> None:
        chance = random.random()  # noqa: S311  spreads retries, guards nothing
        change = lifecycle.settle(job, outcome, self._clock.wall(), chance)
        self._unsaved.append(Settled(change, job, outcome))
        if not anew:
            self._journal.ended(job, outcome, change)
        self._save_now.set()
        if len(self._unsaved) >= len(self._running):
            self._half_done.set()

    async def _save_loop(self) -> None:
        while True:
            await self._save_now.wait()
            if len(self._running) > CROWD:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK):
                        await self._half_done.wait()
            self._save_now.clear()
            self._half_done.clear()
            while self._unsaved:
                self._saving, self._unsaved = self._unsaved[:BATCH], self._unsaved[BATCH:]
                await self._save(self._saving)
                self._saving = []
            self._saved.set()

    async def _save(self, batch: list[Settled]) -> None:
        changes = [settled.change for settled in batch]
        seqs = await self._until_available(lambda: self._store.save(changes), "save")
        refused = []
        for settled, seq in zip(batch, seqs, strict=True):
            if seq is None:
                refused.append(settled)
            elif settled.outcome and (state := settled.change.fields["state"]) is not State.QUEUED:
                self._journal.tally.finished(settled.job.task, state)
            elif settled.outcome:
                self._demand.expect(settled.change.fields["run_at"] - self._clock.wall())
        if refused:
            reports = {(one.job.id, one.job.attempt): one.job for one in refused if not one.outcome}
            for job in reports.values():
                self._journal.stale(job, "report")
                self._beat_now.set()  # it runs something that is not its own any more
            await self._settle_anew([settled for settled in refused if settled.outcome])

    async def _settle_anew(self, refused: list[Settled]) -> None:
        """A refused settle is either stale, or it did not know that the job's cancel was requested meanwhile."""
        ids = [settled.job.id for settled in refused]
        try:
            found = await self._until_available(lambda: self._store.get(ids), "get")
        except JobPruned:
            found = [None]  # it was the only one
        for settled, current in zip(refused, found, strict=True):
            mine = (State.RUNNING, settled.job.attempt)
            if settled.outcome and current and current.cancel and (current.state, current.attempt) == mine:
                self._settle(current, settled.outcome, anew=True)
            else:
                self._journal.stale(settled.job, "outcome")

    def _report(self, job: Job, report: Report) -> None:
        """What running code reported becomes a change of its own, in order, and never one that ends the attempt."""
        running = self._running.get(job.id)
        if isinstance(report, Reserve):
            self._reservations.ask(report, lambda: running is not None and self._running.get(job.id) is running)
            return
        if running is None or running.job.attempt != job.attempt:
            _, change = reported(job, report, self._clock.wall())  # the lease was lost: the store refuses and counts it
        else:
            change = running.heard(report, self._clock.monotonic(), self._clock.wall())
            if isinstance(report, LogLines):
                self._journal.wrote(running.job, report)
        self._unsaved.append(Settled(change, job, None))
        self._save_now.set()

    # --- lease, cancels, house ---------------------------------------------------------------------------------

    async def _hint_loop(self) -> None:
        async with self._store.watch(worker=self.record.id) as hints:
            while True:
                hinted = await hints.wait(self._settings.poll)
                self._demand.hint()
                if hinted and self._running:
                    self._beat_now.set()  # the hint may be a cancel: the beat brings it

    async def _beat_loop(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.beat):
                    await self._beat_now.wait()
            self._beat_now.clear()
            try:
                await self._beat()
            except StoreUnavailable as error:
                self._no_contact(error)

    async def _beat(self) -> None:
        self.record = record = replace(
            self.record,
            running=len(self._running),
            draining=self._drain_now.is_set(),
            hosts=dict(self._executor.hosts),
            tasks=tuple(self._executor.tasks),
        )
        began = self._clock.monotonic()
        mailbox = await self._store.beat(record, self._settings.lease)
        now = self._clock.monotonic()
        self._journal.called("beat", now - began)
        if self._contact_since is None or now - self._last_beat > self._longest_gap:
            self._contact_since = now  # after it was away everybody looks dead, and it is as if it had just come
        self._last_beat = began
        if not mailbox.alive:
            self._begin_new_epoch(record.epoch)
            return
        self._deliver(mailbox)
        if now - self._counted_at >= self._settings.beat:
            await self._journal.write(self._store)
            self._counted_at = now

    def _deliver(self, mailbox: Mailbox) -> None:
        for order in mailbox.cancels:
            running = self._running.get(order.job)
            if running is None or running.job.attempt != order.attempt or running.job.cancel == order.request:
                continue
            running.job = replace(running.job, cancel=order.request)
            grace = running.job.options.grace if order.request.grace is None else order.request.grace
            self._executor.stop(order.job, order.attempt, StopReason.CANCEL, grace, force=order.request.force)
        self._questions.ask(mailbox.questions)

    def _begin_new_epoch(self, dead: int) -> None:
        """An epoch was declared dead: others may run by now what this worker ran. Stop all of it, settle none of it."""
        if self.record.epoch != dead:
            return  # a beat and a claim were told so, one after the other
        lost = list(self._running.values())
        self._running.clear()
        self._journal.lease_lost([running.job for running in lost])
        for running in lost:
            self._executor.stop(running.job.id, running.job.attempt, StopReason.DRAIN, 0.0, force=True)
        self.record = replace(self.record, epoch=self.record.epoch + 1)
        self._contact_since = None
        self._beat_now.set()

    async def _housekeeping_loop(self) -> None:
        due = self._clock.monotonic()
        while True:
            now = self._clock.monotonic()
            try:
                if now >= due:
                    due = now + self._settings.sweep
                    self._look_for_stalled()
                    others = self._may_sweep_others(now)
                    await housekeeping.keep_house(
                        self._store, self.record.id, self._settings, self._clock, self._journal, others=others
                    )
                else:
                    await housekeeping.look_round(self._store, self.record.id, self._clock, self._journal, others=False)
            except StoreUnavailable as error:
                self._no_contact(error)
            await asyncio.sleep(min(LOOK, self._settings.sweep))

    def _may_sweep_others(self, now: float) -> bool:
        """Only after a whole lease of unbroken contact with the store, which an outage ends, and a suspend."""
        since = self._contact_since
        if since is None or now - self._last_beat > self._longest_gap:
            return False
        return now - since > self._settings.lease

    def _look_for_stalled(self) -> None:
        now, wall = self._clock.monotonic(), self._clock.wall()
        for job, line in self._journal.silent(self._running.values(), self._settings.stalled, now, wall):
            self._report(job, line)

    def _no_contact(self, error: StoreUnavailable) -> None:
        self._contact_since = None
        self._journal.away(error)

    async def _until_available(self, call: Callable[[], Awaitable[T]], name: str = "") -> T:
        """Try again, with growing pauses, while the store is away: running jobs go on meanwhile. `name` is the call's
        if it is to be counted here.
        """
        delay = AWAY[0]
        while True:
            began = self._clock.monotonic()
            try:
                answer = await call()
            except StoreUnavailable as error:
                self._no_contact(error)
            else:
                if name:
                    self._journal.called(name, self._clock.monotonic() - began)
                return answer
            await asyncio.sleep(delay)
            delay = min(delay * 2, AWAY[1])

    # --- the end -----------------------------------------------------------------------------------------------

    async def _wind_down(self, claims: asyncio.Task[None], others: Sequence[asyncio.Task[None]]) -> None:
        """No claim is cut off half-way: what it brought goes back. Then the jobs end or are interrupted, and every
        outcome is written before the lease is given up.
        """
        if count := len(self._running):
            jobs = "1 job has" if count == 1 else f"{count} jobs have"
            log.info("draining: %s %g s to end", jobs, self._drain_grace)
        self._demand.hint()
        self._beat_now.set()
        await claims
        closing = asyncio.create_task(self._executor.close(self._drain_grace))
        cut = asyncio.create_task(self._cut.wait())
        await asyncio.wait([closing, cut], return_when="FIRST_COMPLETED")
        cut.cancel()
        if not closing.done():
            await self._executor.close(0.0)
        await closing
        try:
            # The store may be away: what cannot be written by then is settled by others as a loss.
            async with asyncio.timeout(LAST_WRITES):
                await self._flushed()
        except TimeoutError:
            self._journal.unwritten([settled.job for settled in (*self._saving, *self._unsaved) if settled.outcome])
        for task in others:
            task.cancel()
        with contextlib.suppress(StoreUnavailable):
            await self._journal.write(self._store)
            await self._store.retire(self.record.id, self.record.epoch)
        log.info("drained")

    async def _flushed(self) -> None:
        while self._running or self._unsaved or self._saving:
            self._saved.clear()
            await self._saved.wait()
