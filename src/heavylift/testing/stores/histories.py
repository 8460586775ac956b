"""Random histories: whatever is done in whatever order, a store does what the rules say.

Each step is done to the store and to a model, which is a dictionary of jobs and the pure rules of `core.lifecycle`;
then both are compared. Needs hypothesis.
"""

# ruff: noqa: D102  a test is named by its sentence, and asserts

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heavylift.core import lifecycle
from heavylift.core.errors import DuplicateJob
from heavylift.core.event import Event
from heavylift.core.job import CancelRequest, Change, Error, Job, NewEvent, State
from heavylift.core.options import Options, Slots
from heavylift.core.outcome import Cancelled, Crashed, Failed, Interrupted, Outcome, Snoozed, Succeeded, TimedOut
from heavylift.core.retry import Retry, fixed
from heavylift.store import Added, LeaseLost, Retention, Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases
from heavylift.testing.stores.saving import checkpoint, report

WORKERS = ("w0", "w1", "w2")
LOST = Interrupted("lost", lost=True)
ERROR = Error("failed", "it broke")
OUTCOMES: tuple[Outcome, ...] = (
    Succeeded(b"1"),
    Failed(ERROR),
    Failed(ERROR, retryable=False),
    Failed(ERROR, delay=0.0),
    TimedOut(ERROR),
    Crashed(ERROR),
    Cancelled(),
    Interrupted("drained"),
    Snoozed(7.0),
)

picks = st.integers(0, 1000)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2), st.sampled_from([0.0, 0.0, 5.0]), st.sampled_from([0, 3])),
        st.tuples(st.just("claim"), st.sampled_from(WORKERS), st.integers(1, 4)),
        st.tuples(st.just("settle"), picks, st.sampled_from(OUTCOMES)),
        st.tuples(st.just("settle late"), picks, st.sampled_from(OUTCOMES)),
        st.tuples(st.just("report"), picks),
        st.tuples(st.just("cancel"), picks),
        st.tuples(st.just("cancel late"), picks),
        st.tuples(st.just("retry"), picks),
        st.tuples(st.just("beat"), st.sampled_from(WORKERS)),
        st.tuples(st.just("sweep"), st.sampled_from(WORKERS)),
        st.tuples(st.just("pause"), st.booleans()),
        st.tuples(st.just("limit"), st.sampled_from([0, 1, 2])),
        st.tuples(st.just("pass"), st.sampled_from([0.5, 6.0, 20.0])),
        st.tuples(st.just("prune")),
    ),
    max_size=60,
)


@dataclass(slots=True)
class World:
    """A store, the model of it, and what both were told."""

    store: Store
    clock: FakeClock
    cases: StoreCases
    jobs: dict[str, Job] = field(default_factory=dict)
    claimed: list[Job] = field(default_factory=list)
    """Every attempt that ever began, as it was claimed."""
    pruned: set[str] = field(default_factory=set)
    epochs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WORKERS, 0))
    deadlines: dict[str, float] = field(default_factory=dict)
    """Until when a living worker's lease lasts."""
    paused: bool = False
    concurrency: int = 0

    async def step(self, name: str, *values: Any) -> None:
        await getattr(self, name.replace(" ", "_").replace("pass", "pass_"))(*values)

    # --- the steps ----------------------------------------------------------------------------------------------------

    async def add(self, count: int, delay: float, priority: int) -> None:
        new: list[tuple[Job, NewEvent]] = []
        for _ in range(count + 1):
            options = Options(
                delay=delay,
                priority=priority,
                retry=Retry(2, fixed(3)),
                crashes=2,
                losses=2,
                unique=f"u{len(self.jobs) % 3}",
            )
            name = f"j{len(self.jobs) + len(new):03}"
            new.append(lifecycle.submit(name, "task", b"{}", options, self.clock.wall()))
        for (job, _), answer in zip(new, await self.store.add(new), strict=True):
            assert isinstance(answer, Added)
            holder = next((old for old in self.jobs.values() if self.holds(old, job.options.unique)), None)
            if holder is None:
                assert answer == Added(job, created=True)
                self.jobs[job.id] = job
            else:
                assert not answer.created
                assert self.holds(answer.job, job.options.unique)

    def holds(self, job: Job, unique: str | None) -> bool:
        return not job.state.final and job.options.unique == unique

    async def claim(self, worker: str, limit: int) -> None:
        try:
            got = await self.store.claim(worker, self.epochs[worker], Slots(limit))
        except LeaseLost:
            assert worker not in self.deadlines
            return
        assert worker in self.deadlines
        now = self.clock.wall()
        due = sorted(
            (job for job in self.jobs.values() if job.state is State.QUEUED and job.run_at <= now),
            key=lambda job: (job.run_at - 60 * job.options.priority, list(self.jobs).index(job.id)),
        )
        running = sum(job.state is State.RUNNING for job in self.jobs.values())
        slots = 0 if self.paused else max(0, self.concurrency - running) if self.concurrency else limit
        assert [job.id for job in got] == [job.id for job in due[: min(limit, slots)]]
        for job in got:
            expected = lifecycle.claim(self.jobs[job.id], worker, self.epochs[worker], now).apply(self.jobs[job.id])
            assert job == expected
            self.jobs[job.id] = job
            self.claimed.append(job)

    async def settle(self, pick: int, outcome: Outcome) -> None:
        running = [job for job in self.jobs.values() if job.state is State.RUNNING]
        if running:
            job = running[pick % len(running)]
            await self.save(lifecycle.settle(job, outcome, self.clock.wall()))

    async def settle_late(self, pick: int, outcome: Outcome) -> None:
        """Settle an attempt as it was claimed, whatever has become of it."""
        if self.claimed:
            job = self.claimed[pick % len(self.claimed)]
            await self.save(lifecycle.settle(job, outcome, self.clock.wall()))

    async def report(self, pick: int) -> None:
        if self.claimed:
            job, at = self.claimed[pick % len(self.claimed)], self.clock.wall()
            await self.save(report(job, at, float(pick)), checkpoint(job, at, b"%d" % pick))

    async def cancel(self, pick: int) -> None:
        living = [job for job in self.jobs.values() if not job.state.final]
        if living:
            await self.save(lifecycle.cancel(living[pick % len(living)], CancelRequest(self.clock.wall(), float(pick))))

    async def cancel_late(self, pick: int) -> None:
        """Ask an attempt to stop as it was claimed, not knowing of another request."""
        if self.claimed:
            job = self.claimed[pick % len(self.claimed)]
            await self.save(lifecycle.cancel(job, CancelRequest(self.clock.wall(), float(pick))))

    async def retry(self, pick: int) -> None:
        over = [job for job in self.jobs.values() if job.state.final]
        if over:
            job = over[pick % len(over)]
            await self.save(lifecycle.retry(job, self.clock.wall(), from_checkpoint=pick % 2 == 0))

    async def beat(self, worker: str) -> None:
        if worker not in self.deadlines:
            self.epochs[worker] += 1
        mailbox = await self.store.beat(self.cases.worker(worker, epoch=self.epochs[worker]), LEASE)
        assert mailbox.alive
        self.deadlines[worker] = self.clock.monotonic() + LEASE
        expected = {
            (job.id, job.attempt, job.cancel)
            for job in self.jobs.values()
            if job.state is State.RUNNING and job.cancel and self.holder(job) == (worker, self.epochs[worker])
        }
        assert {(order.job, order.attempt, order.request) for order in mailbox.cancels} == expected

    async def sweep(self, worker: str) -> None:
        got = await self.store.sweep(worker, others=True)
        for name, deadline in list(self.deadlines.items()):
            if name != worker and deadline < self.clock.monotonic():
                del self.deadlines[name]
        orphans = {
            job.id: job
            for job in self.jobs.values()
            if job.state is State.RUNNING
            and not (job.worker in self.deadlines and self.epochs[job.worker] == job.epoch)
        }
        assert {job.id: job for job in got} == orphans
        await self.save(*[lifecycle.settle(job, LOST, self.clock.wall()) for job in got])

    async def pause(self, paused: bool) -> None:  # noqa: FBT001  drawn
        self.paused = paused
        await self.store.set_queue("default", paused=paused)

    async def limit(self, concurrency: int) -> None:
        self.concurrency = concurrency
        if concurrency:
            await self.store.set_queue("default", concurrency=concurrency)
        else:
            await self.store.set_queue("default", unlimited=["concurrency"])

    async def pass_(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def prune(self) -> None:
        now = self.clock.wall()
        gone = {job.id for job in self.jobs.values() if job.finished_at is not None and job.finished_at < now - 60}
        assert await self.store.prune(Retention(age=0.0)) == len(gone)
        self.pruned |= gone
        for name in gone:
            # Its place stays, so that the numbers of later jobs are not those of earlier ones.
            self.jobs[name] = replace(self.jobs[name], finished_at=None)

    # --- the model ----------------------------------------------------------------------------------------------------

    def holder(self, job: Job) -> tuple[str | None, int | None]:
        return job.worker, job.epoch

    async def save(self, *changes: Change) -> None:
        answers = await self.store.save(changes)
        for change, answer in zip(changes, answers, strict=True):
            expected = self.saved(change)
            assert (answer.existing if isinstance(answer, DuplicateJob) else answer) == expected

    def saved(self, change: Change) -> int | str | None:
        """The new seq, the id of the job that has the unique key, or None for what is refused."""
        job = self.jobs.get(change.id)
        if job is None or change.id in self.pruned or (job.state, job.attempt) != (change.state, change.attempt):
            return None
        decides = change.fields.get("state") is State.QUEUED or "cancel" in change.fields
        if decides and job.cancel != change.knows_cancel:
            return None
        if job.state.final and change.fields.get("state") is State.QUEUED:
            unique = job.options.unique
            holder = next((other.id for other in self.jobs.values() if self.holds(other, unique)), None)
            if holder is not None:
                return holder
        self.jobs[change.id] = change.apply(job)
        return self.jobs[change.id].seq

    async def compare(self) -> None:
        kept = {name: job for name, job in self.jobs.items() if name not in self.pruned}
        found = dict(zip(kept, await self.store.get(list(kept)), strict=True)) if len(kept) > 1 else kept
        assert found == kept
        for name, job in kept.items():
            self.audit(job, await self.store.events({name: 0}))
        counts: dict[State, int] = {}
        for job in kept.values():
            counts[job.state] = counts.get(job.state, 0) + 1
        queues = await self.store.queues()
        assert (dict(queues[0].counts) if queues else {}) == counts

    def audit(self, job: Job, events: list[Event]) -> None:
        """The invariants, read from a job's events."""
        assert [item.seq for item in events] == list(range(1, job.seq + 1)), "numbers without a gap"
        states = [item.data for item in events if item.kind == "state"]
        assert states[-1]["state"] == job.state
        starts = [data["attempt"] for data in states if data["state"] == State.RUNNING]
        assert starts == list(range(1, job.attempt + 1)), "each attempt begins once, and is counted when it does"
        ends = [data["attempt"] for data in states if "outcome" in data]
        assert len(ends) == len(set(ends)), "at most one outcome of an attempt"
        over = False
        for data in states:
            assert not over or data.get("retry"), "final is final, but for a manual retry"
            over = State(data["state"]).final
        assert job.failures <= job.options.retry.attempts
        assert job.crashes <= job.options.crashes
        assert job.losses <= job.options.losses


class StoreHistories(StoreCases):
    """Random histories of one store."""

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(history=steps)
    def test_any_history_is_what_the_rules_make_of_it(self, history: list[tuple[Any, ...]]) -> None:
        asyncio.run(self.live(history))

    async def live(self, history: list[tuple[Any, ...]]) -> None:
        clock = FakeClock()
        store = self.make_store(clock)
        await store.open()
        try:
            world = World(store, clock, self)
            for worker in WORKERS:
                await world.beat(worker)
            for name, *values in history:
                await world.step(name, *values)
            await world.compare()
        finally:
            await store.close()
