"""The lease protocol, small enough to be explored whole: who may run what, and whose word counts.

The rules of jobs are the real ones: each step that changes a job asks `core.lifecycle` (and, for what running code
reports, `worker.reported`) for the Change, so that a wrong rule is found here too. Modelled are only the parts around
them, as the contract of the store and the worker describe them: the fence, leases and epochs, what a worker has in its
memory, and writes that are on their way.

One state has for each job what the store keeps of it, what each worker believes of it, and the writes on their way
that concern it; and for each worker its process and its leases. Time is not counted: a lease may run out at any moment,
a write may take as long as it likes, and be followed by a repetition of itself. What goes wrong is bounded (`Bounds`),
or the states would be endless; what is asked of the protocol holds however these faults fall:

- I1 every job can still come to its end from every state, without another fault; it is over once.
- I2 an attempt has at most one recorded outcome.
- I3 a write from before (of another attempt, or of an epoch that was declared dead) changes nothing.
- I4 an attempt is counted before it begins, and begins once; no budget is passed.
- I6 whose cancel was acknowledged is never claimed again; no living worker begins what is not its own.
- I7 what is over stays as it is.

`Bugs` are mistakes that can be planted into the store and the worker of this model, to see that the search finds them.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.checker import Step
from tests.model.lease_world import (
    CANCEL,
    CHECKPOINT,
    COUNT,
    COUNTED,
    OPTIONS,
    OUTCOMES,
    OVER,
    QUEUED,
    RUNNING,
    Held,
    JobPart,
    Lease,
    Record,
    WorkerPart,
    World,
    Write,
    change_of,
    claimed,
    submitted,
    written,
)

from heavylift.core.job import State

NAMES = ("A", "B")


class Bounds(NamedTuple):
    """How much may go wrong. Of each worker: `deaths` of its process. Of both together: `stalls` that let the lease of
    a living one run out, `hosts` that die, and jobs that are handed back. Of each job: `cancels`, and `reports` of
    checkpoints by an attempt. `failures`: whether code fails.
    """

    jobs: int = 1
    deaths: int = 0
    stalls: int = 0
    hosts: int = 0
    handbacks: int = 0
    cancels: int = 0
    reports: int = 0
    failures: bool = False


class Bugs(NamedTuple):
    """Mistakes to plant. In the store: `no_fence` writes whatever it is told; `sweep_without_compare` writes what a
    sweep decided whatever happened since; `cancel_forgotten` takes a job back although its cancel was requested;
    `dead_may_save` lets a dead epoch write. In the worker and its store: `count_after_start` raises the attempt when it
    has begun; `claims_get_lost` may lose the answer of a claim that was written.
    """

    no_fence: bool = False
    sweep_without_compare: bool = False
    cancel_forgotten: bool = False
    dead_may_save: bool = False
    count_after_start: bool = False
    claims_get_lost: bool = False


RIGHT = Bugs()


# --- the model -------------------------------------------------------------------------------------------------------


class Protocol:
    """The steps of the protocol, under bounds, with or without a planted bug."""

    def __init__(self, bounds: Bounds, bugs: Bugs = RIGHT) -> None:
        self.bounds = bounds
        self.bugs = bugs
        self.first = World((JobPart(),) * bounds.jobs, (WorkerPart("w1"), WorkerPart("w2")))

    def steps(self, world: World) -> Iterator[Step]:
        """All that may happen next."""
        for place, job in enumerate(world.jobs):
            name = NAMES[place]
            if job.record is None:
                yield Step(f"{name} is submitted", world.with_job(place, job._replace(record=submitted())))
                continue
            yield from self._client(world, place, job, job.record)
            for side, worker in enumerate(world.workers):
                if worker.up:
                    yield from self._running(world, place, job, job.record, side, worker)
            for write in (*job.writes, *filter(None, (job.late,))):
                yield from self._delivered(world, place, job, job.record, write)
        for side, worker in enumerate(world.workers):
            yield from self._worker(world, side, worker)

    def _client(self, world: World, place: int, job: JobPart, record: Record) -> Iterator[Step]:
        if job.cancels < self.bounds.cancels and record.state not in OVER and not job.acknowledged:
            write = Write(("client", 0), CANCEL, record)
            asked = job._replace(writes=job.writes | {write}, cancels=job.cancels + 1)
            label = f"a client reads {NAMES[place]} ({record.state}) and asks to cancel it"
            yield Step(label, world.with_job(place, asked), fault=True)

    def _running(
        self, world: World, place: int, job: JobPart, record: Record, side: int, worker: WorkerPart
    ) -> Iterator[Step]:
        """Claim, begin, report, end: one worker and one job."""
        name, held = NAMES[place], job.memory[side]
        if held is None:
            if worker.may_claim and record.state == QUEUED:
                yield from self._claim(world, place, job, record, side, worker)
            return
        known = held.known
        if not held.begun:
            yield self._begin(world, place, job, record, side, worker)
        else:
            yield self._end(world, place, job, side, worker, "succeeded", f"{worker.id}'s code of {name} returns")
            if self.bounds.failures:
                yield self._end(world, place, job, side, worker, "failed", f"{worker.id}'s code of {name} raises")
            if world.spent.hosts < self.bounds.hosts:
                step = self._end(world, place, job, side, worker, "crashed", f"{worker.id}'s host of {name} dies")
                spent = world.spent._replace(hosts=world.spent.hosts + 1)
                yield step._replace(after=step.after._replace(spent=spent), fault=True)
            if held.reports < self.bounds.reports:
                memory = with_held(job, side, held._replace(reports=held.reports + 1))
                write = Write(worker.me, CHECKPOINT, known)
                label = f"{worker.id}'s code of {name} saves a checkpoint"
                yield Step(label, world.with_job(place, memory._replace(writes=job.writes | {write})), fault=True)
        if known.cancel:
            yield self._end(world, place, job, side, worker, "cancelled", f"{worker.id} stops {name}")
        if world.spent.handbacks < self.bounds.handbacks:
            step = self._end(world, place, job, side, worker, "handed back", f"{worker.id} hands {name} back")
            spent = world.spent._replace(handbacks=world.spent.handbacks + 1)
            yield step._replace(after=step.after._replace(spent=spent), fault=True)

    def _claim(
        self, world: World, place: int, job: JobPart, record: Record, side: int, worker: WorkerPart
    ) -> Iterator[Step]:
        after = known = claimed(record, worker.me)
        if self.bugs.count_after_start:
            after = after._replace(attempt=record.attempt)
        broken = audited(record, after)
        if job.acknowledged:
            broken = f"I6: {NAMES[place]} is claimed after its cancel was acknowledged"
        if known.attempt <= job.given:
            broken = f"I4: attempt {known.attempt} of {NAMES[place]} is given away a second time"
        job = job._replace(record=after, given=known.attempt)
        taken = with_held(job, side, Held(known))
        label = f"{worker.id} claims {NAMES[place]} as attempt {known.attempt}"
        for note, moved in left_behind(taken):
            yield Step(label + note, world.with_job(place, moved), broken=broken)
        if self.bugs.claims_get_lost:
            yield Step(f"{label}, and the answer is lost", world.with_job(place, job), fault=True)

    def _begin(self, world: World, place: int, job: JobPart, record: Record, side: int, worker: WorkerPart) -> Step:
        held = job.memory[side]
        assert held is not None
        attempt, broken = held.known.attempt, None
        if record.attempt < attempt:
            broken = f"I4: attempt {attempt} of {NAMES[place]} begins, and the store has counted {record.attempt}"
        elif world.lives(worker.me) and (record.state, record.attempt) != (RUNNING, attempt):
            broken = f"I6: {worker.id} lives, and begins {NAMES[place]}, which is {record.state}"
        after = with_held(job, side, held._replace(begun=True))
        if self.bugs.count_after_start:
            after = after._replace(writes=job.writes | {Write(worker.me, COUNT, held.known)})
        label = f"{worker.id} begins {NAMES[place]}, attempt {attempt}"
        return Step(label, world.with_job(place, after), broken=broken)

    def _end(
        self, world: World, place: int, job: JobPart, side: int, worker: WorkerPart, what: str, label: str
    ) -> Step:
        """An attempt ends in a worker, which settles it: the outcome is on its way."""
        held = job.memory[side]
        assert held is not None
        write = Write(held.known.holder or worker.me, what, held.known)
        after = with_held(job, side, None)._replace(writes=job.writes | {write})
        return Step(label, world.with_job(place, after))

    # --- writes that arrive ------------------------------------------------------------------------------------------

    def _delivered(self, world: World, place: int, job: JobPart, record: Record, write: Write) -> Iterator[Step]:
        """A write arrives. One that is refused for good changes nothing, and so is on its way for ever."""
        left = job._replace(writes=job.writes - {write})
        label = f"the store gets «{write.what}» of {write.sender[0]} for {NAMES[place]}, attempt {write.known.attempt}"
        gone = write.sender[0] not in {who for worker in world.workers if worker.up for who in worker.speaks}
        gone &= write.what != CANCEL
        if not self._accepted(world, record, write):
            anew = self._settled_anew(world, record, write)
            if anew is not None:
                again = left._replace(writes=left.writes | {anew})
                yield Step(f"{label}, and refuses it; it is decided anew", world.with_job(place, again), gone)
            return
        after, ended = written(write.what, write.known, record), left.ended
        broken = audited(record, after)
        if write.what == CHECKPOINT and after.checkpoint != record.checkpoint:
            left = left._replace(suffered=(*left.suffered[:2], 0))  # the job has come forward
        if write.what in OUTCOMES:
            attempt = write.known.attempt
            if attempt in ended:
                broken = broken or f"I2: attempt {attempt} of {NAMES[place]} gets a second outcome"
            ended |= {attempt}
            suffered = tuple(count + (write.what == kind) for count, kind in zip(left.suffered, COUNTED, strict=True))
            left = left._replace(suffered=suffered)
            broken = broken or over_budget(suffered, after)
        if after != record and self._is_stale(world, record, write):
            broken = broken or f"I3: a stale «{write.what}» changes {NAMES[place]}, which is {record.state}"
        acknowledged = left.acknowledged or write.what == CANCEL
        done = left._replace(record=after, ended=ended, acknowledged=acknowledged)
        for note, moved in left_behind(done, write):
            yield Step(label + note, world.with_job(place, moved), gone, broken)

    def _accepted(self, world: World, record: Record, write: Write) -> bool:
        """Whether the store takes a write: what the contract says of `save`, but for planted bugs."""
        if write.what == COUNT:
            return (record.state, record.holder) == (RUNNING, write.sender)
        change = change_of(write.what, write.known)
        if change is None:
            return False
        unfenced = self.bugs.no_fence or (self.bugs.sweep_without_compare and write.what == "lost")
        if not unfenced and (record.state, record.attempt) != (change.state.value, change.attempt):
            return False
        decides = change.fields.get("state") is State.QUEUED or "cancel" in change.fields
        if decides and record.cancel and not change.knows_cancel and not self.bugs.cancel_forgotten:
            return False
        dead = record.holder == write.sender and not world.lives(record.holder)
        return not dead or self.bugs.dead_may_save

    def _is_stale(self, world: World, record: Record, write: Write) -> bool:
        """Whether a write is from before, by the words of I3 rather than by those of the fence."""
        if (record.state, record.attempt) != (write.known.state, write.known.attempt):
            return write.what != COUNT
        return write.sender == record.holder and not world.lives(write.sender)

    def _settled_anew(self, world: World, record: Record, write: Write) -> Write | None:
        """What the sender of a refused write does about it. A client asks again, as long as the job is not over. A
        worker that lives and whose attempt still runs did not know of a cancel. (A sweep sees the job again by itself.)
        """
        if write.what == CANCEL:
            return None if record.state in OVER or record == write.known else write._replace(known=record)
        mine = (record.state, record.attempt, record.holder) == (RUNNING, write.known.attempt, write.sender)
        alive = any(worker.up and worker.me == write.sender for worker in world.workers)
        unaware = record.cancel and not write.known.cancel and write.what in OUTCOMES
        return write._replace(known=record) if mine and alive and unaware else None

    # --- processes and leases ----------------------------------------------------------------------------------------

    def _worker(self, world: World, side: int, worker: WorkerPart) -> Iterator[Step]:
        lease = worker.lease
        if not worker.up:
            anew = worker._replace(lives=worker.lives + 1, up=True, epoch=1, leases=(*worker.leases, None))
            yield Step(f"{worker.name} is started anew, as {anew.id}", world.with_worker(side, anew))
            return
        yield from self._beat(world, side, worker)
        if worker.may_claim:
            yield from self._sweep(world, side, worker)
        if lease is not None and not lease.over and not lease.dead and world.spent.stalls < self.bounds.stalls:
            stalled = world.with_worker(side, worker.with_lease(lease._replace(over=True)))
            spent = world.spent._replace(stalls=world.spent.stalls + 1)
            yield Step(f"{worker.id} is held up, and its lease runs out", stalled._replace(spent=spent), fault=True)
        if worker.lives <= self.bounds.deaths:
            dead = worker._replace(up=False)
            jobs = tuple(with_held(job, side, None) for job in world.jobs)
            yield Step(f"{worker.id} is killed", world._replace(jobs=jobs).with_worker(side, dead), fault=True)

    def _beat(self, world: World, side: int, worker: WorkerPart) -> Iterator[Step]:
        lease = worker.lease
        if lease is not None and (worker.epoch < lease.epoch or (worker.epoch == lease.epoch and lease.dead)):
            # The answer is that it was declared dead: it stops everything and begins a new epoch.
            anew = worker._replace(epoch=lease.epoch + 1)
            jobs = tuple(with_held(job, side, None) for job in world.jobs)
            label = f"{worker.id} beats, is told that it is dead, and begins epoch {anew.epoch}"
            yield Step(label, world._replace(jobs=jobs).with_worker(side, anew))
            return
        alive = world.with_worker(side, worker.with_lease(Lease(worker.epoch)))
        jobs = tuple(told(job, side, worker.me) for job in world.jobs)
        after = alive._replace(jobs=jobs)
        if after != world:
            news = ", and hears of a cancel" if jobs != world.jobs else ""
            yield Step(f"{worker.id} beats as epoch {worker.epoch}{news}", after)

    def _sweep(self, world: World, side: int, worker: WorkerPart) -> Iterator[Step]:
        """Declare the dead, as one write; decide about what they held, from the records as they are at that moment."""
        workers = tuple(other if other is worker else buried(other) for other in world.workers)
        me = buried(worker, itself=True)
        after = world._replace(workers=workers).with_worker(side, me)
        found = []
        for place, job in enumerate(world.jobs):
            record = job.record
            if record is not None and record.state == RUNNING and not after.lives(record.holder):
                # It does not sweep again before its last decision is written, or will never be.
                sender = (worker.speaks[1], 0)
                others = frozenset(write for write in job.writes if write.sender != sender)
                after = after.with_job(place, job._replace(writes=others | {Write(sender, "lost", record)}))
                found.append(NAMES[place])
        if after != world:
            yield Step(f"{worker.id} sweeps, and finds {' and '.join(found) or 'no job'}", after)


def with_held(job: JobPart, side: int, held: Held | None) -> JobPart:
    """A job with something else in the memory of one worker."""
    if job.memory[side] == held:
        return job
    return job._replace(memory=(*job.memory[:side], held, *job.memory[side + 1 :]))


def left_behind(job: JobPart, accepted: Write | None = None) -> Iterator[tuple[str, JobPart]]:
    """A job that has moved on, with the writes that came too late for it, and the one that moved it, which may come
    again because its answer was lost. Of these, one is kept: which one, is a choice. More of them at once would show
    nothing else: the right protocol lets none of them change anything, and a wrong one is found by the first that does.
    """
    record = job.record
    assert record is not None
    stale = {
        write
        for write in (*job.writes, *filter(None, (job.late, accepted)))
        if (write.known.state, write.known.attempt) != (record.state, record.attempt)
        and (write.what != CANCEL or record.state in OVER)
    }
    job = job._replace(writes=job.writes - stale, late=None)
    yield "", job
    for write in stale:
        yield f" (and «{write.what}» of {write.sender[0]} may still come)", job._replace(late=write)


def told(job: JobPart, side: int, me: tuple[str, int]) -> JobPart:
    """A job after a worker read its mailbox: it knows of the cancel of what it runs."""
    held, record = job.memory[side], job.record
    if held is None or record is None or not record.cancel or held.known.cancel:
        return job
    if (record.state, record.attempt, record.holder) != (RUNNING, held.known.attempt, me):
        return job
    return with_held(job, side, held._replace(known=held.known._replace(cancel=True)))


def buried(worker: WorkerPart, *, itself: bool = False) -> WorkerPart:
    """A worker whose processes that ended, and whose lease if it ran out, are declared dead. Of a life that is over,
    nothing else matters, so its lease is forgotten.
    """
    *earlier, last = worker.leases
    if not worker.up:
        last = None
    elif last is not None and last.over and not itself:
        last = Lease(last.epoch, dead=True)
    leases = (*([None] * len(earlier)), last)
    return worker if leases == worker.leases else worker._replace(leases=leases)


def audited(before: Record, after: Record) -> str | None:
    """What is wrong with a record that follows another, in words."""
    if before.state in OVER and after != before:
        return f"I7: a job that was {before.state} becomes {after.state}"
    if after.state == QUEUED and after.cancel:
        return "I6: a job whose cancel was requested goes back to its queue"
    if (after.holder is None) is (after.state == RUNNING):
        return f"I1: a job is {after.state}, and its holder is {after.holder}"
    return None


def over_budget(suffered: tuple[int, ...], after: Record) -> str | None:
    """What is wrong with the budgets, in words: with what they say, and with what is done about it."""
    if suffered != (after.failures, after.crashes, after.losses):
        return f"I4: the budgets do not say that a job failed, crashed and was lost {suffered} times"
    limits = (OPTIONS.retry.attempts, OPTIONS.crashes, OPTIONS.losses)
    for count, most in zip(suffered, limits, strict=True):
        if count > most or (count == most and after.state not in OVER):
            return f"I4: a budget of {most} stands at {count}, and the job is {after.state}"
    return None


def is_over(world: World) -> bool:
    """Whether every job has come to its end."""
    return all(job.record is not None and job.record.state in OVER for job in world.jobs)
