"""What one state of the lease protocol is made of, and the real rules, asked about it.

For each job: what the store keeps of it, what each worker believes of it, and the writes on their way that concern it.
For each worker: its process, and its leases in the store.
"""

from functools import lru_cache
from typing import NamedTuple

from heavylift.core import lifecycle
from heavylift.core.errors import JobFinished
from heavylift.core.job import FINAL, CancelRequest, Change, Error, Job, State
from heavylift.core.options import Options
from heavylift.core.outcome import Cancelled, Crashed, Failed, Interrupted, Succeeded
from heavylift.core.retry import Retry, fixed
from heavylift.executor import Checkpoint
from heavylift.worker import reported

OUTCOMES = {
    "succeeded": Succeeded(b"1"),
    "failed": Failed(Error("failed", "it broke")),
    "crashed": Crashed(Error("crashed", "its host died")),
    "cancelled": Cancelled(),
    "handed back": Interrupted("drained"),
    "lost": Interrupted("its worker vanished", lost=True),
}
QUEUED, RUNNING, OVER = State.QUEUED.value, State.RUNNING.value, {state.value for state in FINAL}
COUNTED = ("failed", "crashed", "lost")
CANCEL, CHECKPOINT, COUNT = "cancel", "checkpoint", "count"


class Record(NamedTuple):
    """What the store keeps of a job, as far as the protocol depends on it. `checkpoint`: by which attempt.

    The state is plain text: hashing a member of an enum takes most of a search's time.
    """

    state: str
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    losses: int = 0
    holder: tuple[str, int] | None = None
    cancel: bool = False
    checkpoint: int = 0


class Held(NamedTuple):
    """A job in the memory of a worker, as the worker knows it."""

    known: Record
    begun: bool = False
    reports: int = 0


class Write(NamedTuple):
    """A change of a job on its way to the store, decided by `sender` from the job as it knew it."""

    sender: tuple[str, int]
    what: str
    known: Record


class JobPart(NamedTuple):
    """All that concerns one job. `writes` are on their way; `late` is one that the job has left behind (`left_behind`).
    The others are for the audit alone: the highest attempt that a worker was given, the attempts with a recorded
    outcome, how many of these were failures, crashes and losses, and whether a cancel was acknowledged.
    """

    record: Record | None = None
    memory: tuple[Held | None, ...] = (None, None)
    writes: frozenset[Write] = frozenset()
    late: Write | None = None
    cancels: int = 0
    given: int = 0
    ended: frozenset[int] = frozenset()
    suffered: tuple[int, ...] = (0, 0, 0)
    acknowledged: bool = False


class Lease(NamedTuple):
    """A worker's record in the store. `over`: it ran out, and nobody has said so yet; `dead`: somebody has."""

    epoch: int
    over: bool = False
    dead: bool = False


class WorkerPart(NamedTuple):
    """A place for a worker's process. `lives` so far, whose names differ; `epoch` as the process believes; `leases` of
    each life, None before its first beat.
    """

    name: str
    lives: int = 1
    up: bool = True
    epoch: int = 1
    leases: tuple[Lease | None, ...] = (None,)

    @property
    def id(self) -> str:
        """The name of this life of it: w1, then w1', as a process that is started anew has a new name."""
        return self.name + "'" * (self.lives - 1)

    @property
    def speaks(self) -> tuple[str, str]:
        """As whom it sends writes."""
        return self.id, f"{self.id}'s sweep"

    @property
    def me(self) -> tuple[str, int]:
        """By what its jobs name it."""
        return self.id, self.epoch

    @property
    def lease(self) -> Lease | None:
        """What the store knows of this life."""
        return self.leases[-1]

    @property
    def may_claim(self) -> bool:
        """Whether the store knows it as the one that it believes to be, and takes it for alive."""
        return self.up and self.lease is not None and self.lease.epoch == self.epoch and not self.lease.dead

    def with_lease(self, lease: Lease | None) -> "WorkerPart":
        """With another record of this life."""
        return self._replace(leases=(*self.leases[:-1], lease))


class Spent(NamedTuple):
    """How much has gone wrong already, of what is bounded for both workers together."""

    stalls: int = 0
    hosts: int = 0
    handbacks: int = 0


class World(NamedTuple):
    """One state."""

    jobs: tuple[JobPart, ...]
    workers: tuple[WorkerPart, ...]
    spent: Spent = Spent()

    def with_job(self, place: int, job: JobPart) -> "World":
        return self._replace(jobs=(*self.jobs[:place], job, *self.jobs[place + 1 :]))

    def with_worker(self, place: int, worker: WorkerPart) -> "World":
        return self._replace(workers=(*self.workers[:place], worker, *self.workers[place + 1 :]))

    def lives(self, holder: tuple[str, int] | None) -> bool:
        """Whether nobody has declared this epoch dead."""
        return holder is not None and any(
            lease is not None and (worker.name + "'" * life, lease.epoch) == holder and not lease.dead
            for worker in self.workers
            for life, lease in enumerate(worker.leases)
        )


# --- the real rules, asked about the model's records -----------------------------------------------------------------

OPTIONS = Options(retry=Retry(2, fixed(0)), crashes=2, losses=2)
REQUEST = CancelRequest(0.0)


@lru_cache(None)
def job_of(record: Record) -> Job:
    """A record as the rules know it."""
    worker, epoch = record.holder or (None, None)
    return Job(
        *("job", "task", b"{}", OPTIONS, State(record.state), 0.0, 0.0),
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        losses=record.losses,
        worker=worker,
        epoch=epoch,
        cancel=REQUEST if record.cancel else None,
        checkpoint=b"%d" % record.checkpoint if record.checkpoint else None,
    )


def record_of(job: Job) -> Record:
    """The inverse of `job_of`."""
    holder = None if job.worker is None or job.epoch is None else (job.worker, job.epoch)
    budgets = (job.failures, job.crashes, job.losses)
    return Record(job.state.value, job.attempt, *budgets, holder, job.cancel is not None, int(job.checkpoint or b"0"))


@lru_cache(None)
def change_of(what: str, known: Record) -> Change | None:
    """What the rules decide; None when that is nothing."""
    job = job_of(known)
    if what == CANCEL:
        try:
            return lifecycle.cancel(job, REQUEST)
        except JobFinished:
            return None
    if what == CHECKPOINT:
        return reported(job, Checkpoint(b"%d" % known.attempt), 0.0)[1]
    return lifecycle.settle(job, OUTCOMES[what], 0.0)


@lru_cache(None)
def written(what: str, known: Record, current: Record) -> Record:
    """The store's record after a change that it accepts."""
    if what == COUNT:
        return current._replace(attempt=known.attempt)
    change = change_of(what, known)
    assert change is not None
    return record_of(change.apply(job_of(current)))


@lru_cache(None)
def claimed(record: Record, holder: tuple[str, int]) -> Record:
    """The record of a job that begins an attempt."""
    job = job_of(record)
    return record_of(lifecycle.claim(job, *holder, 0.0).apply(job))


@lru_cache(None)
def submitted() -> Record:
    """The record of a new job."""
    return record_of(lifecycle.submit("job", "task", b"{}", OPTIONS, 0.0)[0])


# --- states that are the same but for names --------------------------------------------------------------------------

NUMBERS: dict[object, int] = {}
OTHER = {"w1": "w2", "w2": "w1"}


def renamed(holder: tuple[str, int] | None) -> tuple[str, int] | None:
    """A worker's name, with the two places changed over."""
    return None if holder is None else (OTHER.get(holder[0][:2], holder[0][:2]) + holder[0][2:], holder[1])


@lru_cache(None)
def mirrored(job: JobPart) -> JobPart:
    """A job with the two workers changed over."""
    return job._replace(
        record=mirrored_record(job.record),
        memory=tuple(
            None if held is None else held._replace(known=mirrored_record(held.known)) for held in reversed(job.memory)
        ),
        writes=frozenset(mirrored_write(write) for write in job.writes),
        late=None if job.late is None else mirrored_write(job.late),
    )


def mirrored_write(write: Write) -> Write:
    """A write with the two workers changed over."""
    return write._replace(sender=renamed(write.sender), known=mirrored_record(write.known))


def mirrored_record(record: Record | None) -> Record | None:
    """A record with the two workers changed over."""
    return record if record is None or record.holder is None else record._replace(holder=renamed(record.holder))


@lru_cache(None)
def numbers(job: JobPart) -> tuple[int, int]:
    """The numbers of a job and of its mirror image."""
    return number(job), number(mirrored(job))


def key(world: World) -> tuple[object, ...]:
    """The same for states that differ in nothing but what jobs and workers are called."""
    jobs = [numbers(job) for job in world.jobs]
    one, two = world.workers
    image = (sorted(job[0] for job in jobs), number(one), number(two))
    mirror = (sorted(job[1] for job in jobs), number(two._replace(name="w1")), number(one._replace(name="w2")))
    first, *workers = min(image, mirror)
    return (*first, *workers, world.spent)


def number(thing: object) -> int:
    """A number of its own for each thing: cheaper to compare and to keep than the thing."""
    return NUMBERS.setdefault(thing, len(NUMBERS))
