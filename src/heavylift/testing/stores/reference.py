"""A store in plain Python: what the contract says, and nothing of how it is done.

Random histories are done to it and to a real store; both must answer alike. It keeps jobs in a dictionary and asks the
rules of `core.lifecycle` for the rest. Where the contract leaves a choice (which lanes share a claim, which of two jobs
of the same age is pruned), `check_claim` and `prune` take the answer of the real store and judge it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from heavylift.core import lifecycle
from heavylift.core.errors import ConfigError, DuplicateJob, QueueFull, SubmitError
from heavylift.core.event import Event
from heavylift.core.job import Change, Job, NewEvent, State
from heavylift.core.limits import Gate, Rate, gates, opens_at, pace, taken
from heavylift.core.options import Slots
from heavylift.core.queue import UNLIMITED, Pause, Queue, QueueValues
from heavylift.core.retention import Retention
from heavylift.store import DEBOUNCE_MOST, Added, CancelOrder, Mailbox, WorkerRecord
from heavylift.testing.stores import judging
from heavylift.testing.stores.holding import Keys, answering, state_of
from heavylift.testing.stores.judging import Claim, Key, Passage, Turns, View

YOUNG = 60.0
NEVER, SOME = 300, 0
"""When to come again to a full queue: that does not drain, and that does, at a rate which the store judges."""
DAY = 86400.0
Answer = Added | SubmitError
Saved = int | DuplicateJob | None


@dataclass(slots=True)
class Settings:
    """What somebody set of a queue; `kept`: somebody did. `due`: when (monotonic) the next start of its rate is,
    evenly.
    """

    pause: Pause | None = None
    concurrency: int | None = None
    max_size: int | None = None
    rate: str | None = None
    keep: Retention | None = None
    kept: bool = False
    due: float = 0.0


class Lease(NamedTuple):
    """A worker's record. `ends` seconds of the monotonic clock; `died_at` Unix seconds. `gone`: its process is."""

    worker: WorkerRecord
    beat_at: float
    ends: float
    gone: bool
    died_at: float | None = None


@dataclass(slots=True)
class Process:
    """What the store's object of one process remembers: as which epochs it beats, and what its last sweep gave it."""

    beats: dict[str, int] = field(default_factory=dict)
    swept: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Reference:
    """The store. Jobs stand in the order in which they came."""

    jobs: dict[str, Job] = field(default_factory=dict)
    log: dict[str, list[Event]] = field(default_factory=dict)
    pruned: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Settings] = field(default_factory=dict)
    keys: Keys = field(default_factory=Keys)
    leases: dict[str, Lease] = field(default_factory=dict)
    passages: dict[Key, Passage] = field(default_factory=dict)
    """The gates."""
    turns: Turns = field(default_factory=Turns)
    apart: bool = False
    """Some worker named its tasks."""

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def add(self, new: Sequence[tuple[Job, NewEvent]], now: float) -> list[Answer]:
        """New jobs, one after the other."""
        return [self._add(job, first, now) for job, first in new]

    def _add(self, job: Job, first: NewEvent, now: float, *, bounded: bool = True) -> Answer:
        if job.id in self.jobs:
            return Added(self.jobs[job.id], created=False)
        unique, options = job.options.unique or "", job.options
        holds = self.keys.have(unique, now)
        states = {hold.job: state_of(hold, unique, self.jobs) for hold in holds}
        if (answer := answering(states, options)) is not None:
            if options.on_conflict == "reject" or states[answer] is None:
                return DuplicateJob(unique, answer)
            return Added(self.jobs[answer], created=False)
        # Those that make room for it.
        places = {State.QUEUED} if options.debounce else set()
        places |= {State.QUEUED, State.RUNNING} if options.on_conflict == "replace" else set()
        leaving = [self.jobs[name] for name, state in states.items() if state in places]
        settings = self.of(job.queue)
        most = settings.max_size
        free = sum(other.state is State.QUEUED and other.queue == job.queue for other in leaving)
        if bounded and most is not None and self.counts(job.queue)[State.QUEUED] - free >= most:
            drains = settings.pause is None and self.drained(job.queue, now)
            return QueueFull(job.queue, most, SOME if drains else NEVER)
        job, first = self._in_place_of(leaving, job, first, now)
        self.jobs[job.id] = job
        self.log[job.id] = [Event(job.id, 1, first.kind, job.created_at, first.data)]
        for gate in gates(job.options):
            self._passage(gate)
        return Added(job, created=True)

    def _in_place_of(self, leaving: Sequence[Job], job: Job, first: NewEvent, now: float) -> tuple[Job, NewEvent]:
        """A new job has its key, and those that leave for it do so."""
        unique, options, since = job.options.unique or "", job.options, job.created_at
        names = {other.id for other in leaving if other.state is State.QUEUED}
        lost = [hold for hold in self.keys.have(unique, now) if hold.job in names]
        if options.debounce is not None:
            since = min([since, *(hold.since for hold in lost if not hold.begun)])
        if options.on_conflict == "replace":
            lost += [
                hold
                for hold in self.keys.have(unique, now)
                if (state_of(hold, unique, self.jobs) or State.FAILED).final
            ]
        for other in leaving:
            if (change := lifecycle.replaced(other, job.id, now)) is not None:
                self._write(other, change)
        if unique:
            self.keys.lose(unique, lost)
            self.keys.take(job, since)
        if options.unique is None or options.debounce is None:
            return job, first
        return lifecycle.debounced(job, first, since + DEBOUNCE_MOST * options.debounce)

    def save(self, changes: Sequence[Change], process: Process) -> list[Saved]:
        """Changes, one after the other, each under its fence."""
        return [self._save(change, process) for change in changes]

    def _save(self, change: Change, process: Process) -> Saved:
        job = self.jobs.get(change.id)
        if job is None or (job.state, job.attempt) != (change.state, change.attempt):
            return None
        if change.seq is not None and change.seq != job.seq:
            return None
        decides = change.fields.get("state") is State.QUEUED or "cancel" in change.fields
        if decides and job.cancel != change.knows_cancel:
            return None
        if self._lost(job, process):
            return None
        unique = job.options.unique or ""
        others = {hold.job: state_of(hold, unique, self.jobs) for hold in self.keys.have(unique, change.at)}
        unfinished = [name for name, state in others.items() if state is not None and not state.final]
        if job.state.final and change.fields.get("state") is State.QUEUED and unfinished:
            return DuplicateJob(unique, unfinished[-1])
        self._write(job, change)
        for follower, first in change.then:
            self._add(follower, first, change.at, bounded=False)
        return self.jobs[job.id].seq

    def _lost(self, job: Job, process: Process) -> bool:
        """Whether it is this process that lost the job: its epoch was declared dead or another one has followed, and no
        sweep of its own gave the job back to it.
        """
        epoch = process.beats.get(job.worker or "")
        if job.epoch is None or epoch is None or process.swept.get(job.id) == job.attempt:
            return False
        lease = self.leases.get(job.worker or "")
        dead = lease is not None and lease.worker.epoch == job.epoch and lease.died_at is not None
        return epoch > job.epoch or (epoch == job.epoch and dead)

    def _write(self, job: Job, change: Change) -> None:
        after = change.apply(job)
        self.jobs[job.id] = after
        first = job.seq + 1
        self.log[job.id] += [
            Event(job.id, seq, new.kind, change.at, new.data) for seq, new in enumerate(change.events, first)
        ]
        if "state" in change.fields:
            self.keys.moved(job, after, change.at)
        if job.state.final and after.state is State.QUEUED:
            self._returns(after)

    # --- claims -------------------------------------------------------------------------------------------------------

    def check_claim(self, worker: str, epoch: int, claim: Claim, got: Sequence[Job]) -> None:
        """Judge what a claim returned, and begin these attempts here, too."""
        before = self.view(claim)
        judging.check_heads(before, claim, got)
        judging.check_gates(before, got)
        for job in got:
            known = self.jobs[job.id]
            change = lifecycle.claim(known, worker, epoch, claim.now)
            assert job == change.apply(known), "a claim is what the rules make of the job"
            self._write(known, change)
        judging.take(self.passages, self.settings, got, claim.monotonic)
        after = self.view(claim)
        judging.check_rest(after, claim, got)
        self.turns.check(before, after, claim, got)

    def check_next_due(self, claim: Claim, got: Sequence[Job], told: float | None) -> None:
        """Judge what is told of the time to come, after that claim."""
        judging.check_next(self.view(claim), claim, got, told)

    def asked(self, worker: str, slots: Slots, queues: Collection[str], now: float, monotonic: float) -> Claim:
        """What a worker asks for."""
        return Claim(slots, queues, self.leases[worker].worker.tasks, now, monotonic)

    def view(self, claim: Claim) -> View:
        """All that a claim decides by."""
        return View(dict(self.jobs), self.passages, self.settings, self.apart, claim.now, claim.monotonic)

    def reserve(self, rate: Rate, monotonic: float) -> float:
        """How long to wait for the next place in a rate."""
        passage = self._passage(Gate("rate", rate.key, rate.rate))
        wait = max(0.0, opens_at(passage.due, pace(rate.rate)) - monotonic)
        passage.due = taken(passage.due, monotonic, pace(rate.rate), 1)
        return wait

    def _passage(self, gate: Gate) -> Passage:
        """The gate, which gets its limit."""
        passage = self.passages.setdefault((gate.kind, gate.key), Passage(set()))
        passage.limits, passage.idle = {gate.limit}, False
        return passage

    def _returns(self, job: Job) -> None:
        """A job that was over waits at its gates again; where nobody was behind one, it may have been forgotten."""
        for gate in gates(job.options):
            passage = self.passages.setdefault((gate.kind, gate.key), Passage({gate.limit}))
            if passage.idle:
                passage.limits.add(gate.limit)

    def late(self, now: float) -> list[Job]:
        """The queued jobs that were to begin by now."""
        queued = [job for job in self.jobs.values() if job.state is State.QUEUED]
        return [job for job in queued if lifecycle.is_late(job.options, job.created_at, job.attempt, now)]

    def due(self, now: float) -> list[Job]:
        """The queued jobs whose time has come."""
        return [job for job in self.jobs.values() if job.state is State.QUEUED and job.run_at <= now]

    # --- leases -------------------------------------------------------------------------------------------------------

    def may_claim(self, worker: str, epoch: int) -> bool:
        """Whether this epoch is known, and was not declared dead."""
        lease = self.leases.get(worker)
        return lease is not None and lease.worker.epoch == epoch and lease.died_at is None

    def beat(self, worker: WorkerRecord, monotonic: float, lease: float, process: Process, *, gone: bool) -> Mailbox:
        """A lease is renewed, unless its epoch is over."""
        known = self.leases.get(worker.id)
        if known is not None and (worker.epoch, known.died_at is None) < (known.worker.epoch, True):
            return Mailbox(alive=False)
        self.leases[worker.id] = Lease(worker, monotonic, monotonic + lease, gone)
        process.beats[worker.id] = worker.epoch
        self.apart |= bool(worker.tasks)
        held = [job for job in self.running() if (job.worker, job.epoch) == (worker.id, worker.epoch)]
        return Mailbox(True, tuple(CancelOrder(job.id, job.attempt, job.cancel) for job in held if job.cancel))

    def retire(self, worker: str, epoch: int) -> None:
        """A worker says good-bye."""
        if self.may_claim(worker, epoch):
            del self.leases[worker]

    def sweep(self, worker: str, now: float, monotonic: float, process: Process, *, others: bool) -> list[Job]:
        """Workers are declared dead; all that nobody holds who lives. Who was away itself knows nothing of leases."""
        own = self.leases.get(worker)
        others = others and (own is None or monotonic <= own.beat_at + (own.ends - own.beat_at) / 2)
        for name, lease in self.leases.items():
            if lease.died_at is None and name != worker and (lease.gone or (others and monotonic > lease.ends)):
                self.leases[name] = lease._replace(died_at=now)
        orphans = [job for job in self.running() if not self.may_claim(job.worker or "", job.epoch or 0)]
        process.swept = {job.id: job.attempt for job in orphans}
        return orphans

    def workers(self, monotonic: float) -> list[tuple[WorkerRecord, float, bool]]:
        """(record, age of the last beat, dead) of all that are known; the dead as long as they hold jobs."""
        holding = {(job.worker, job.epoch) for job in self.running()}
        return sorted(
            (
                (lease.worker, monotonic - lease.beat_at, lease.died_at is not None or monotonic > lease.ends)
                for lease in self.leases.values()
                if lease.died_at is None or (lease.worker.id, lease.worker.epoch) in holding
            ),
            key=lambda status: status[0].id,
        )

    # --- queues and retention -----------------------------------------------------------------------------------------

    def of(self, queue: str) -> Settings:
        """A queue's settings, to be changed."""
        return self.settings.setdefault(queue, Settings())

    def set_queue(self, queue: str, now: float, given: QueueValues) -> Queue:
        """What is given of a queue's settings changes; raises ConfigError when more wait than are to have room."""
        known, most = self.of(queue), given.get("max_size")
        if most is not None and most < self.counts(queue)[State.QUEUED]:
            message = f"{self.counts(queue)[State.QUEUED]} jobs wait"
            raise ConfigError(message)
        known.kept = True
        if given.get("paused") is not None:
            since = now if known.pause is None else known.pause.at
            known.pause = Pause(since, given.get("by"), given.get("reason")) if given["paused"] else None
        for name in UNLIMITED:
            if name in given.get("unlimited", ()):
                setattr(known, name, None)
            elif given.get(name) is not None:
                setattr(known, name, given.get(name))
        return next(found for found in self.queues() if found.name == queue)

    def counts(self, queue: str) -> Counter[State]:
        """The jobs of a queue by state."""
        return Counter(job.state for job in self.jobs.values() if job.queue == queue)

    def drained(self, queue: str, now: float) -> bool:
        """Whether any job of a queue that had begun ended within a day."""
        ends = [job.finished_at or 0.0 for job in self.jobs.values() if job.queue == queue and job.attempt > 0]
        return any(at > now - DAY for at in ends)

    def queues(self) -> list[Queue]:
        """All queues that have settings or jobs, by name; without `oldest_wait` and `drain_rate`."""
        names = {job.queue for job in self.jobs.values()} | {name for name, item in self.settings.items() if item.kept}
        return [
            Queue(name, known.pause, known.concurrency, known.max_size, known.rate, known.keep, dict(self.counts(name)))
            for name, known in ((name, self.of(name)) for name in sorted(names))
        ]

    def check_pruned(self, retention: Retention, removed: Iterable[str], now: float) -> None:
        """Judge what a prune removed, and remove it here, too."""
        gone = set(removed)
        groups: dict[tuple[str, str | None], list[Job]] = {}
        for job in self.jobs.values():
            if job.state.final:
                own = None if job.options.keep is None else job.task
                groups.setdefault((job.queue, own), []).append(job)
        for (queue, _), jobs in groups.items():
            # Of those that ended at the same time, max gives the first: the one that came last.
            last = max(reversed(jobs), key=lambda job: job.finished_at or 0.0)
            kept = last.options.keep or self.of(queue).keep or retention
            good = [job for job in jobs if job.state is State.SUCCEEDED]
            _check_class(good, kept.succeeded, kept.age, gone, now)
            _check_class([job for job in jobs if job not in good], kept.failed, kept.age, gone, now)
        for job_id in gone:
            assert self.jobs.pop(job_id).state.final
            del self.log[job_id]
            self.pruned[job_id] = now
        left = [job for job in self.jobs.values() if not job.state.final]
        behind = {key for job in left for key in judging.keys_of(job)}
        for key, passage in self.passages.items():
            passage.idle |= key not in behind
        self.turns.forget({judging.lane_of(job, apart=self.apart) for job in left})
        for worker, lease in list(self.leases.items()):
            if (
                lease.died_at is not None
                and lease.died_at <= now - DAY
                and not any(job.worker == worker for job in self.running())
            ):
                del self.leases[worker]

    def remembers(self, name: str, now: float) -> bool:
        """Whether it is known that this id was pruned."""
        return name in self.pruned and self.pruned[name] > now - DAY

    # --- reading ------------------------------------------------------------------------------------------------------

    def running(self) -> list[Job]:
        """The jobs that run."""
        return [job for job in self.jobs.values() if job.state is State.RUNNING]

    def find(self, states: Sequence[State], queue: str | None) -> list[str]:
        """The ids of the jobs that match, newest first."""
        return [
            job.id
            for job in reversed(self.jobs.values())
            if (not states or job.state in states) and queue in (None, job.queue)
        ]


def _check_class(jobs: list[Job], most: int | None, age: float, gone: set[str], now: float) -> None:
    """Of jobs that are counted together: the old ones go, and the oldest of those that are too many."""
    ends = {job.id: job.finished_at or 0.0 for job in jobs}
    old = {name for name, at in ends.items() if at < now - max(age, YOUNG)}
    excess = max(0, len(jobs) - most) if most is not None else 0
    oldest = sorted(at for at in ends.values() if at < now - YOUNG)[:excess]
    removed = gone & ends.keys()
    assert old <= removed, "what is too old goes"
    assert len(removed) == max(len(old), len(oldest)), "and of the others as many as are too many"
    by_age = sorted(ends[name] for name in removed - old)
    assert by_age == sorted(at for name, at in ends.items() if name not in old)[: len(by_age)], "the oldest first"
