"""Random histories: whatever is done in whatever order, a store does what the rules say.

A state machine of hypothesis does each step to a store, through the objects of two processes, and to the `Reference`;
every answer must be the same, and after each step everything that can be read. At the end of each history the workers
go on without another fault, and all jobs must come to their end. A failure prints the steps that lead to it, shrunk to
few. Needs hypothesis.
"""

# ruff: noqa: D102  a rule is named by what it does

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from heavylift.core import lifecycle
from heavylift.core.errors import ConfigError, JobFinished, JobNotFinished, JobNotWaiting
from heavylift.core.job import CancelRequest, Change, State
from heavylift.core.limits import Rate
from heavylift.core.options import Options, Slots
from heavylift.core.outcome import Outcome, Succeeded
from heavylift.core.queue import UNLIMITED, QueueValues
from heavylift.core.retention import Retention
from heavylift.testing.stores import drawn
from heavylift.testing.stores.cases import LEASE
from heavylift.testing.stores.comparing import said
from heavylift.testing.stores.drawn import QUEUES, WORKERS, Attempt, has, one_of
from heavylift.testing.stores.history import History, Lived
from heavylift.testing.stores.judging import ROUNDING
from heavylift.testing.stores.reference import Answer, Process, Saved
from heavylift.testing.stores.saving import checkpoint, log, report

STEPS = 80
"""Steps of one history."""


class Histories(History):
    """One history of a store."""

    @initialize(apart=st.sampled_from([False, False, True]))
    def begin(self, apart: bool) -> None:  # noqa: FBT001  drawn
        if apart:
            self.tasks |= drawn.TASKS
        for worker in WORKERS:
            self.beat(worker)

    # --- jobs come ----------------------------------------------------------------------------------------------------

    @rule(side=drawn.sides, chosen=st.lists(drawn.options, min_size=1, max_size=4), large=st.booleans())
    def add(self, side: int, chosen: list[Options], large: bool) -> None:  # noqa: FBT001  drawn
        new = [self.new(each, b'"' + b"x" * 3_000 + b'"' if large else b"{}") for each in chosen]
        self.check_added(self.run(self.stores[side].add(new)), self.reference.add(new, self.now))

    add_often = add

    @precondition(has(drawn.all_ids))
    @rule(side=drawn.sides, name=one_of(drawn.all_ids), chosen=drawn.options, twice=st.booleans())
    def add_again(self, side: int, name: str, chosen: Options, twice: bool) -> None:  # noqa: FBT001  drawn
        """A submit that is repeated, or an id whose job was pruned; a new one beside it, or itself."""
        first = lifecycle.submit(name, "task", b"[2]", chosen, self.now)
        new = [first, first if twice else self.new(chosen)]
        self.check_added(self.run(self.stores[side].add(new)), self.reference.add(new, self.now))

    @precondition(has(drawn.keyed))
    @rule(
        side=drawn.sides,
        name=one_of(drawn.keyed),
        chosen=st.lists(drawn.options, min_size=1, max_size=2),
        works=st.booleans(),
    )
    def want_its_key(self, side: int, name: str, chosen: list[Options], works: bool) -> None:  # noqa: FBT001  drawn
        """Submits of a key that was given to a job before, which may have begun."""
        if works:
            self.work("w0")
        unique = self.reference.jobs[name].options.unique
        new = [self.new(replace(each, unique=unique)) for each in chosen]
        self.check_added(self.run(self.stores[side].add(new)), self.reference.add(new, self.now))

    want_it_often = want_its_key

    # --- attempts -----------------------------------------------------------------------------------------------------

    @rule(worker=drawn.workers, slots=st.builds(Slots, *[st.integers(0, 3)] * 3), queues=st.sampled_from(drawn.SERVED))
    def claim(self, worker: str, slots: Slots, queues: Collection[str]) -> None:
        self.claimed(worker, self.epochs[worker], slots, queues)

    @rule(worker=drawn.workers)
    def work(self, worker: str) -> None:
        """Take all that there is room for, with a lease that is good."""
        self.beat(worker)
        self.beat(worker)
        self.claimed(worker, self.epochs[worker], Slots(3, 3, 3), QUEUES)

    work_often = work_more_often = work

    @rule(side=drawn.sides, rate=st.sampled_from(drawn.RATES))
    def reserve(self, side: int, rate: Rate) -> None:
        wait = self.run(self.stores[side].reserve(rate))
        assert abs(wait - self.reference.reserve(rate, self.clock.monotonic())) < ROUNDING

    @rule(side=drawn.sides, settled=st.booleans())
    def expire(self, side: int, settled: bool) -> None:  # noqa: FBT001  drawn
        """What is found is settled at once, or much later by somebody who was slow."""
        got = self.run(self.stores[side].expired())
        assert sorted(got, key=str) == sorted(self.reference.late(self.now), key=str)
        changes = [lifecycle.expire(job, self.now) for job in got]
        if settled:
            self.save(side, *changes)
        else:
            self.orphaned += changes

    @precondition(has(drawn.running_attempts))
    @rule(attempt=one_of(drawn.running_attempts), outcome=drawn.outcomes, random=drawn.chances)
    def settle(self, attempt: Attempt, outcome: Outcome, random: float) -> None:
        """As the worker that runs it does: one that was refused because of a cancel is settled anew."""
        job = self.known[attempt]
        side = self.side_of(job)
        (answer,) = self.save(side, lifecycle.settle(job, outcome, self.now, random))
        current = self.reference.jobs[job.id]
        if answer is None and (current.state, current.attempt) == (State.RUNNING, job.attempt) and current.cancel:
            self.save(side, lifecycle.settle(current, outcome, self.now, random))

    settle_often = settle_more_often = settle

    @precondition(has(drawn.all_attempts))
    @rule(attempt=one_of(drawn.all_attempts), outcome=drawn.outcomes, side=drawn.sides)
    def settle_late(self, attempt: Attempt, outcome: Outcome, side: int) -> None:
        """An outcome from any time, and from any process."""
        self.save(side, lifecycle.settle(self.known[attempt], outcome, self.now))

    @precondition(has(drawn.all_attempts))
    @rule(attempt=one_of(drawn.mostly_running), kinds=st.sets(st.sampled_from("pclm"), min_size=1))
    def report(self, attempt: Attempt, kinds: set[str]) -> None:
        """Progress, a checkpoint, a log, or much progress, in one call; now and then of an attempt that is over."""
        self.save(self.side_of(self.known[attempt]), *self.reports(attempt, kinds))

    def reports(self, attempt: Attempt, kinds: set[str]) -> list[Change]:
        job, now = self.known[attempt], self.now
        changes = [report(job, now, float(number)) for number in range(drawn.MANY)] if "m" in kinds else []
        if "p" in kinds:
            changes.append(report(job, now, 0.5))
        if "c" in kinds:
            value = b"%d" % len(self.reference.log[job.id]) if job.id in self.reference.log else b"0"
            changes.append(checkpoint(job, now, value * (1000 if "l" in kinds else 1)))
            self.known[attempt] = replace(job, checkpoint=changes[-1].fields["checkpoint"])
        if "l" in kinds:
            changes.append(log(self.known[attempt], now, "a line"))
            self.known[attempt] = replace(self.known[attempt], log_bytes=changes[-1].fields["log_bytes"])
        return changes

    @precondition(has(drawn.running_attempts))
    @rule(
        attempts=st.runner().flatmap(
            lambda machine: st.lists(st.sampled_from(drawn.running_attempts(machine)), min_size=1, max_size=6)
        ),
        outcome=drawn.outcomes,
        side=drawn.sides,
    )
    def save_together(self, attempts: list[Attempt], outcome: Outcome, side: int) -> None:
        """Reports and outcomes of several jobs in one call; some more than once."""
        changes: list[Change] = []
        for number, attempt in enumerate(attempts):
            changes += self.reports(attempt, {"p"} if number % 2 else {"c"})
            if number % 3:
                changes.append(lifecycle.settle(self.known[attempt], outcome, self.now))
        self.save(side, *changes)

    @precondition(has(drawn.running_attempts))
    @rule(
        attempt=one_of(drawn.running_attempts),
        outcome=drawn.outcomes,
        chosen=st.lists(drawn.options, min_size=9, max_size=12),
    )
    def at_once(self, attempt: Attempt, outcome: Outcome, chosen: list[Options]) -> None:
        """Calls of one process that do not wait for each other, and may share a transaction."""
        job = self.known[attempt]
        side = self.side_of(job)
        new, extra = [self.new(each) for each in chosen], [self.new(chosen[0])]
        changes = [lifecycle.settle(job, outcome, self.now), report(job, self.now, 1.0)]
        store = self.stores[side]

        async def together() -> tuple[Sequence[Answer], Sequence[Saved], Sequence[Answer]]:
            return await asyncio.gather(store.add(new), store.save(changes), store.add(extra))

        first, answers, second = self.run(together())
        self.check_added(first, self.reference.add(new, self.now))
        assert said(answers) == said(self.reference.save(changes, self.processes[side]))
        self.check_added(second, self.reference.add(extra, self.now))

    # --- what clients ask for -----------------------------------------------------------------------------------------

    @precondition(has(drawn.all_jobs))
    @rule(name=one_of(drawn.all_jobs), request=drawn.requests, side=drawn.sides)
    def cancel(self, name: str, request: CancelRequest, side: int) -> None:
        job = self.reference.jobs[name]
        try:
            change = lifecycle.cancel(job, replace(request, at=self.now))
        except JobFinished:
            assert job.state.final
            return
        (answer,) = self.save(side, change)
        lost = job.state is State.RUNNING and not self.reference.may_claim(job.worker or "", job.epoch or 0)
        assert answer is not None or lost, "only of a job whose worker is dead may a cancel be refused"

    @precondition(has(drawn.running_attempts))
    @rule(attempt=one_of(drawn.running_attempts), request=drawn.requests, outcome=drawn.outcomes)
    def cancel_as_it_ends(self, attempt: Attempt, request: CancelRequest, outcome: Outcome) -> None:
        """The worker has not heard of it."""
        job = self.reference.jobs[attempt[0]]
        self.cancel(job.id, request, 1 - self.side_of(job))
        self.settle(attempt, outcome, 0.5)

    @precondition(has(drawn.all_attempts))
    @rule(attempt=one_of(drawn.all_attempts), request=drawn.requests, side=drawn.sides)
    def cancel_late(self, attempt: Attempt, request: CancelRequest, side: int) -> None:
        """As somebody asks who read the job when it was claimed."""
        self.save(side, lifecycle.cancel(self.known[attempt], replace(request, at=self.now)))

    @precondition(has(drawn.all_jobs))
    @rule(name=one_of(drawn.all_jobs), side=drawn.sides, from_checkpoint=st.booleans())
    def retry(self, name: str, side: int, from_checkpoint: bool) -> None:  # noqa: FBT001  drawn
        job = self.reference.jobs[name]
        try:
            change = lifecycle.retry(job, self.now, from_checkpoint=from_checkpoint)
        except JobNotFinished:
            assert not job.state.final
            return
        self.save(side, change)

    @precondition(has(drawn.all_jobs))
    @rule(name=one_of(drawn.all_jobs), side=drawn.sides, priority=drawn.priorities, delay=drawn.delays)
    def move(self, name: str, side: int, priority: int | None, delay: float | None) -> None:
        job, run_at = self.reference.jobs[name], None if delay is None else self.now + delay
        try:
            change = lifecycle.move(job, self.now, priority=priority, run_at=run_at)
        except JobNotWaiting:
            assert job.state is not State.QUEUED
            return
        if change.fields:
            assert self.save(side, change) == [job.seq + 1]
            self.save(1 - side, change)  # as one does who read the job before

    @rule(queue=st.sampled_from(QUEUES), side=drawn.sides, given=drawn.settings())
    def set_queue(self, queue: str, side: int, given: QueueValues) -> None:
        try:
            known = self.reference.set_queue(queue, self.now, given)
        except ConfigError:
            with pytest.raises(ConfigError):
                self.run(self.stores[side].set_queue(queue, **given))
            self.sound = True
            return
        got = self.run(self.stores[side].set_queue(queue, **given))
        assert replace(got, oldest_wait=None, drain_rate=None) == known

    # --- leases -------------------------------------------------------------------------------------------------------

    @rule(worker=drawn.workers, gone=st.sampled_from([False, False, False, True]))
    def beat(self, worker: str, gone: bool = False) -> None:  # noqa: FBT001, FBT002  drawn
        """As a worker does; or as one whose process is gone a moment later. A dead one begins a new epoch."""
        if not self.beaten(worker, self.epochs[worker], gone=gone):
            self.epochs[worker] += 1

    @rule(worker=drawn.workers, claims=st.booleans())
    def come_as_an_earlier_epoch(self, worker: str, claims: bool) -> None:  # noqa: FBT001  drawn
        if claims:
            self.claimed(worker, self.epochs[worker] - 1, Slots(3, 3, 3), ())
        elif worker in self.reference.leases:
            self.beaten(worker, self.epochs[worker] - 1)

    @rule(span=drawn.spans, beating=drawn.beating)
    def wait(self, span: float, beating: set[str]) -> None:
        """Time passes, in which some workers beat."""
        passed = 0.0
        while passed < span:
            step = min(5.0, span - passed)
            self.clock.advance(step)
            passed += step
            for worker in sorted(beating):
                self.beat(worker)

    @rule(span=st.sampled_from([5.0, 3600.0]))
    def set_the_wall_clock_forward(self, span: float) -> None:
        """Leases and rates take no notice. Set back, what was due already would seem to be early."""
        self.clock.set_wall(self.now + span)

    @rule(worker=drawn.workers, others=st.booleans(), settled=st.booleans())
    def sweep(self, worker: str, others: bool, settled: bool) -> None:  # noqa: FBT001  drawn
        """What is found is settled at once, or much later by somebody who was slow."""
        side = WORKERS[worker]
        got = self.run(self.stores[side].sweep(worker, others=others))
        expected = self.reference.sweep(worker, self.now, self.clock.monotonic(), self.processes[side], others=others)
        assert {job.id: job for job in got} == {job.id: job for job in expected}
        assert len(got) == len(expected)
        judged = lifecycle.lose(got, lifecycle.suspect(got, {}))
        changes = [lifecycle.settle(job, outcome, self.now) for job, outcome in judged]
        if settled:
            self.save(side, *changes)
        else:
            self.orphaned += changes

    @precondition(has(drawn.running_attempts))
    @rule(attempt=one_of(drawn.running_attempts), outcome=drawn.outcomes)
    def fall_behind(self, attempt: Attempt, outcome: Outcome) -> None:
        """A worker is held up, and declared dead; it settles before those who found that out."""
        side = self.side_of(self.known[attempt])
        self.clock.advance(LEASE + 0.1)
        other = "w0" if side else "w1"
        self.beat(other)
        self.sweep(other, others=True, settled=False)
        self.settle(attempt, outcome, 0.5)

    @precondition(has(drawn.decided))
    @rule(change=one_of(drawn.decided), side=drawn.sides)
    def settle_an_orphan_late(self, change: Change, side: int) -> None:
        self.save(side, change)

    @rule(worker=drawn.workers, epochs_ago=st.sampled_from([0, 0, 1]))
    def retire(self, worker: str, epochs_ago: int) -> None:
        epoch = self.epochs[worker] - epochs_ago
        self.run(self.stores[WORKERS[worker]].retire(worker, epoch))
        if self.reference.may_claim(worker, epoch):
            self.epochs[worker] += 1  # a process that is started anew has another name; here, another epoch
        self.reference.retire(worker, epoch)

    @rule(side=drawn.sides)
    def start_a_process_anew(self, side: int) -> None:
        """It forgets what it remembered; what it was answered is there."""
        self.run(self.stores[side].close())
        self.stores[side] = self.cases.make_again(self.stores[1 - side], self.clock)
        self.run(self.stores[side].open())
        self.processes[side] = Process()

    # --- the past -----------------------------------------------------------------------------------------------------

    @rule(
        side=drawn.sides,
        age=st.sampled_from([0.0, 100.7]),
        succeeded=st.sampled_from([None, 0, 2]),
        failed=st.sampled_from([None, 0, 2]),
    )
    def prune(self, side: int, age: float, succeeded: int | None, failed: int | None) -> None:
        kept = Retention(age, succeeded, failed)
        count = 1
        while count:
            # Each call for itself: when the job is gone that said how long its task's jobs are kept, another one says.
            count = self.run(self.stores[side].prune(kept))
            removed = self.reference.jobs.keys() - set(self.found())
            assert count == len(removed)
            self.reference.check_pruned(kept, removed, self.now)

    @rule(states=st.sets(st.sampled_from(State)), queue=st.none() | st.sampled_from(QUEUES))
    def find(self, states: set[State], queue: str | None) -> None:
        chosen = tuple(sorted(states))
        assert self.found(states=chosen, queue=queue) == self.reference.find(chosen, queue)

    # --- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.sound:
                self.all_jobs_come_to_their_end()
        finally:
            for store in self.stores:
                self.loop.run_until_complete(store.close())
            self.loop.close()

    def all_jobs_come_to_their_end(self) -> None:
        """Nothing goes wrong any more: one worker lives, the gates are open, and time passes."""
        worker = "w1"
        self.tasks[worker] = ()
        for queue in QUEUES:
            self.set_queue(queue, 0, {"paused": False, "unlimited": UNLIMITED})
        for _ in range(150):
            self.clock.advance(400)
            self.beat(worker)
            self.sweep(worker, others=True, settled=True)
            for queues in ((), QUEUES):
                self.claimed(worker, self.epochs[worker], Slots(50, 50, 50), queues)
            self.beat(worker)
            for attempt in drawn.running_attempts(self):
                self.settle(attempt, Succeeded(b"1"), 0.0)
            if all(job.state.final for job in self.reference.jobs.values()):
                break
        self.what_is_read_is_what_was_written()
        left = [job for job in self.reference.jobs.values() if not job.state.final]
        assert not left, "a job that was acknowledged comes to its end"


class StoreHistories(Lived):
    """Random histories of one store, about `steps` in all; the same in each run, unless `derandomize` is False."""

    steps = 5_000
    derandomize = True

    def test_any_history_is_what_the_rules_make_of_it(self) -> None:
        chosen = settings(
            max_examples=-(-self.steps * 5 // (STEPS * 4)),  # some histories are shorter
            stateful_step_count=STEPS,
            derandomize=self.derandomize,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        made: Any = lambda: Histories(self)  # noqa: E731  typed as a class, any callable serves
        run_state_machine_as_test(made, settings=chosen)
        assert self.lived >= 0.9 * self.steps
