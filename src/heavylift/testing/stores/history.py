"""What the random histories of a store are written with: both sides of each step, which must be the same."""

# ruff: noqa: D102  a method is named by what it does

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
)

from heavylift.core import lifecycle
from heavylift.core.job import Change, Job, NewEvent, State
from heavylift.core.options import Options, Slots
from heavylift.store import LeaseLost
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases
from heavylift.testing.stores.comparing import come_again, compare, said, told
from heavylift.testing.stores.drawn import WORKERS, Attempt
from heavylift.testing.stores.reference import Answer, Process, Reference, Saved

T = TypeVar("T")


class Lived(StoreCases):
    """The suite that they belong to, which counts steps."""

    lived = 0
    """Steps that were made so far."""


class History(RuleBasedStateMachine):
    """A store, through the objects of two processes, and the reference beside it."""

    def __init__(self, cases: Lived) -> None:
        super().__init__()
        self.cases = cases
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.reference = Reference()
        self.processes = [Process(), Process()]
        self.stores = [cases.make_store(self.clock)]
        self.run(self.stores[0].open())
        self.stores.append(cases.make_again(self.stores[0], self.clock))
        self.run(self.stores[1].open())
        self.known: dict[Attempt, Job] = {}
        """Every attempt that began, as its worker knows the job."""
        self.epochs = dict.fromkeys(WORKERS, 1)
        self.tasks: dict[str, tuple[str, ...]] = dict.fromkeys(WORKERS, ())
        self.orphaned: list[Change] = []
        self.named = 0
        self.sound = False
        """Whether the last step ended as it should."""
        cases.lived -= 2  # it is compared before it begins, too

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        self.sound = False
        return self.loop.run_until_complete(work)

    @property
    def now(self) -> float:
        return self.clock.wall()

    def new(self, chosen: Options, args: bytes = b"{}") -> tuple[Job, NewEvent]:
        self.named += 1
        task = "other" if any(self.tasks.values()) and self.named % 3 == 0 else "task"
        return lifecycle.submit(f"j{self.named:02}", task, args, chosen, self.now)

    def check_added(self, got: Sequence[Answer], expected: Sequence[Answer]) -> None:
        assert [told(answer) for answer in got] == [told(answer) for answer in expected]
        come_again(got, expected)

    def claimed(self, worker: str, epoch: int, slots: Slots, queues: Collection[str]) -> list[Job]:
        try:
            got = self.run(self.stores[WORKERS[worker]].claim(worker, epoch, slots, queues))
        except LeaseLost:
            assert not self.reference.may_claim(worker, epoch)
            return []
        assert self.reference.may_claim(worker, epoch)
        self.met_late()
        claim = self.reference.asked(worker, slots, queues, self.now, self.clock.monotonic())
        self.reference.check_claim(worker, epoch, claim, got)
        due = self.run(self.stores[WORKERS[worker]].next_due())
        self.reference.check_next_due(claim, got, due)
        self.known |= {(job.id, job.attempt): job for job in got}
        return got

    def met_late(self) -> None:
        """Some of those that were to begin by now were settled by a claim: which, and in what order, it may choose."""
        late = [lifecycle.expire(job, self.now) for job in self.reference.late(self.now)]
        now_there = self.run(self.stores[0].get([change.id for change in late])) if late else []
        met = [change for change, job in zip(late, now_there, strict=True) if job and job.state is State.FAILED]
        if any(change.then for change in met):
            place = {name: number for number, name in enumerate(reversed(self.found()))}
            met.sort(key=lambda change: place[change.then[0][0].id] if change.then else 0)
        assert None not in self.reference.save(met, Process())

    def beaten(self, worker: str, epoch: int, *, gone: bool = False) -> bool:
        marks = {"process_started": 1} if gone else {}
        record = self.cases.worker(worker, epoch=epoch, tasks=self.tasks[worker], **marks)
        side = WORKERS[worker]
        got = self.run(self.stores[side].beat(record, LEASE))
        expected = self.reference.beat(record, self.clock.monotonic(), LEASE, self.processes[side], gone=gone)
        assert got.alive == expected.alive
        assert sorted(got.cancels, key=str) == sorted(expected.cancels, key=str)
        for order in got.cancels:
            self.known[order.job, order.attempt] = replace(self.known[order.job, order.attempt], cancel=order.request)
        return got.alive

    def found(self, **query: Any) -> list[str]:
        return self.run(self.cases.found(self.stores[0], limit=20, **query))

    def save(self, side: int, *changes: Change) -> Sequence[Saved]:
        before = self.stores[side].refused
        got = self.run(self.stores[side].save(changes))
        assert said(got) == said(self.reference.save(changes, self.processes[side]))
        assert self.stores[side].refused == before + got.count(None), "what is refused is counted"
        return got

    def side_of(self, job: Job) -> int:
        return WORKERS[job.worker or "w0"]

    @invariant()
    def what_is_read_is_what_was_written(self) -> None:
        self.cases.lived += 1
        self.run(compare(self.stores[self.cases.lived % 2], self.reference, self.now, self.clock.monotonic()))
        self.sound = True
