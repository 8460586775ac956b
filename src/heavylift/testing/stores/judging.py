"""What a claim may give: the contract's sentences about lanes, gates and turns, each held against one answer.

The contract leaves open which of several jobs a claim takes first, so an answer is not foretold, but judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from heavylift.core import lifecycle
from heavylift.core.job import Job, State
from heavylift.core.limits import gates, opens_at, pace, room, taken
from heavylift.core.options import PLACES, RunIn, Slots, serves

if TYPE_CHECKING:
    from heavylift.testing.stores.reference import Settings

ANY = 10**9
"""Room where there is no limit."""
ROUNDING = 1e-5
"""Seconds by which sums of Unix times may differ."""
Key = tuple[str, str]
"""A gate's kind and key."""


class Lane(NamedTuple):
    """What jobs share that stand in one line. `task`: where workers know some tasks alone, jobs of others stand apart;
    else ''.
    """

    queue: str
    place: RunIn
    gates: frozenset[Key]
    share: str | None
    task: str


@dataclass(slots=True)
class Passage:
    """A gate. `limits` has more than one where it may have been forgotten, and a job that is queued anew may have
    brought its own again. `due`: of a rate, when (monotonic) the next start would be due if all came evenly. `idle`: at
    the last prune nobody waited or ran behind it.
    """

    limits: set[int | str]
    due: float = 0.0
    idle: bool = False


class Claim(NamedTuple):
    """Who asks for what, and when, by both clocks. `tasks` empty: any."""

    slots: Slots
    queues: Collection[str]
    tasks: Collection[str]
    now: float
    monotonic: float


@dataclass(slots=True)
class View:
    """All that a claim decides by, at one moment: `now` in Unix seconds, `monotonic` by the clock of rates. `apart`:
    some worker names its tasks.
    """

    jobs: Mapping[str, Job]
    passages: Mapping[Key, Passage]
    settings: Mapping[str, Settings]
    apart: bool
    now: float
    monotonic: float
    held: Counter[Key] = field(default_factory=Counter)
    uniques: set[str] = field(default_factory=set)
    running: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for job in self.jobs.values():
            if job.state is State.RUNNING:
                self.held.update(keys_of(job))
                self.running[job.queue] += 1
                if job.options.unique is not None:
                    self.uniques.add(job.options.unique)

    def lane(self, job: Job) -> Lane:
        """Where a job stands."""
        return lane_of(job, apart=self.apart)

    def rooms(self, key: Key) -> tuple[int, int]:
        """How many more may start behind a gate: at least, and at most."""
        kind, name = key
        if kind == "unique":
            free = 0 if name in self.uniques else 1
            return free, free
        passage = self.passages[key]
        if kind == "rate":
            found = [room(passage.due, self.monotonic, pace(limit)) for limit in passage.limits]
        else:
            found = [max(0, int(limit) - self.held[key]) for limit in passage.limits]
        return min(found), max(found)

    def room(self, queue: str) -> int:
        """How many more of a queue may start."""
        settings = self.settings.get(queue)
        if settings is None:
            return ANY
        if settings.pause:
            return 0
        free = ANY if settings.concurrency is None else max(0, settings.concurrency - self.running[queue])
        return free if settings.rate is None else min(free, room(settings.due, self.monotonic, pace(settings.rate)))

    def waiting(self, claim: Claim) -> Iterator[Job]:
        """The queued jobs that this worker may be given, in order; neither their times nor their gates are asked."""
        arrival = {name: number for number, name in enumerate(self.jobs)}
        queued = (job for job in self.jobs.values() if job.state is State.QUEUED)
        for job in sorted(queued, key=lambda job: (job.run_at - 60.0 * job.options.priority, arrival[job.id])):
            known = not claim.tasks or job.task in claim.tasks
            expired = lifecycle.is_late(job.options, job.created_at, job.attempt, self.now)
            if known and not expired and serves(claim.queues, job.queue):
                yield job

    def startable(self, claim: Claim) -> dict[Lane, list[Job]]:
        """The jobs that could begin now if each were the only one, by lane and in order."""
        found: dict[Lane, list[Job]] = {}
        for job in self.waiting(claim):
            if job.run_at <= self.now and self.room(job.queue) and all(self.rooms(key)[0] for key in keys_of(job)):
                found.setdefault(self.lane(job), []).append(job)
        return found

    def opens(self, job: Job) -> float | None:
        """When a job can begin by time alone (Unix seconds), if nothing else happens; None when time alone does not do
        it.
        """
        settings = self.settings.get(job.queue)
        moments: list[float] = []
        if settings is not None:
            full = settings.concurrency is not None and self.running[job.queue] >= settings.concurrency
            if settings.pause or full:
                return None
            if settings.rate is not None:
                moments.append(opens_at(settings.due, pace(settings.rate)))
        for key in keys_of(job):
            if key[0] != "rate":
                if not self.rooms(key)[0]:
                    return None
            else:
                moments += [opens_at(self.passages[key].due, pace(limit)) for limit in self.passages[key].limits]
        return max([job.run_at, *(self.now + (moment - self.monotonic) for moment in moments)])


def keys_of(job: Job) -> frozenset[Key]:
    """The gates that a job has to pass, or has passed. One that comes back may meet another with its unique key."""
    begun = job.attempt > (job.state is State.RUNNING)
    return frozenset((gate.kind, gate.key) for gate in gates(job.options, begun=begun))


def lane_of(job: Job, *, apart: bool) -> Lane:
    """Where a job stands."""
    task = job.task if apart else ""
    return Lane(job.queue, job.options.run_in, keys_of(job), job.options.fair_share, task)


def take(
    passages: Mapping[Key, Passage], settings: Mapping[str, Settings], got: Sequence[Job], monotonic: float
) -> None:
    """Count starts for the rates that they fall under."""
    starts = Counter(key for job in got for key in keys_of(job) if key[0] == "rate")
    for key, count in starts.items():
        (limit,) = passages[key].limits
        passages[key].due = taken(passages[key].due, monotonic, pace(limit), count)
    for queue, count in Counter(job.queue for job in got).items():
        known = settings.get(queue)
        if known is not None and known.rate is not None:
            known.due = taken(known.due, monotonic, pace(known.rate), count)


# --- judgements ------------------------------------------------------------------------------------------------------


def check_heads(before: View, claim: Claim, got: Sequence[Job]) -> None:
    """A lane gives its head, in order; a worker is given what it knows and serves; no more than it has slots."""
    lines: dict[Lane, list[str]] = {}
    for job in before.waiting(claim):
        if job.run_at <= before.now:
            lines.setdefault(before.lane(job), []).append(job.id)
    for lane, jobs in by_lane(before, got).items():
        names = [job.id for job in jobs]
        line = lines.get(lane, [])
        if before.apart:  # some of them may have been passed over, and stand in another lane than the others
            assert set(names) <= set(line), f"{lane} gives what is due: {names} of {line}"
            continue
        assert names == line[: len(names)], f"{lane} gives its head, in order of rank and arrival: {names} of {line}"
    counts = Counter(job.options.run_in for job in got)
    assert all(counts[place] <= most for place, most in zip(PLACES, claim.slots, strict=True)), "no more than slots"


def check_gates(before: View, got: Sequence[Job]) -> None:
    """No gate is passed by more than it has room for, and no queue's limit either."""
    for key, count in Counter(key for job in got for key in keys_of(job)).items():
        least, most = before.rooms(key)
        assert count <= most, f"{key} had room for {least} to {most}, and {count} started"
    for queue, count in Counter(job.queue for job in got).items():
        assert count <= before.room(queue), f"queue {queue} had room for {before.room(queue)}, and {count} started"


def check_rest(after: View, claim: Claim, got: Sequence[Job]) -> None:
    """Where a slot is free, nothing that could run is left."""
    counts = Counter(job.options.run_in for job in got)
    left = {
        lane: [job.id for job in jobs]
        for lane, jobs in after.startable(claim).items()
        if counts[lane.place] < claim.slots[PLACES.index(lane.place)]
    }
    assert not left, f"a slot is free, and jobs could run: {left}"


def check_next(after: View, claim: Claim, got: Sequence[Job], told: float | None) -> None:
    """After a claim that looked, the next moment is none that is past, and no later than that of the first job that
    the worker has room for and that waits for time alone.
    """
    if not any(claim.slots):
        return
    assert told is None or told > after.now, f"{told} is past, at {after.now}, and a claim brings nothing"
    counts = Counter(job.options.run_in for job in got)
    for job in after.waiting(claim):
        if counts[job.options.run_in] >= claim.slots[PLACES.index(job.options.run_in)]:
            continue
        moment = after.opens(job)
        if moment is not None:
            assert told is not None, f"{job.id} can begin at {moment}, of which nothing is told"
            assert told <= moment + ROUNDING, f"{job.id} can begin at {moment}, and {told} is told"


@dataclass(slots=True)
class Turns:
    """When queues and lanes had their last turns, in claims."""

    claims: int = 0
    queues: dict[tuple[str, RunIn], int] = field(default_factory=dict)
    lanes: dict[Lane, int] = field(default_factory=dict)

    def check(self, before: View, after: View, claim: Claim, got: Sequence[Job]) -> None:
        """Who got nothing, and could have, was not served less recently than one that got something in its place."""
        self.claims += 1
        given = by_lane(before, got).keys()
        could, can = before.startable(claim).keys(), after.startable(claim).keys()
        if not before.apart:  # the jobs of one lane may stand in several
            self._check_lanes(could - given, can, given)
        self._check_queues({lane[:2] for lane in can}, {lane[:2] for lane in given}, claim.queues)
        self.queues |= dict.fromkeys((lane[:2] for lane in given), self.claims)
        self.lanes |= dict.fromkeys(given, self.claims)

    def _check_lanes(self, passed: Iterable[Lane], can: Collection[Lane], given: Collection[Lane]) -> None:
        for lane in passed:
            for other in given:
                # Who has the same gates, and more, cannot have passed where this one could not.
                comparable = lane[:2] == other[:2] and (lane in can or lane.gates <= other.gates)
                if comparable and lane in self.lanes and other in self.lanes:
                    late = self.lanes[other] > self.lanes[lane]
                    assert not late, f"{other} was served, and {lane} has waited longer for its turn"

    def _check_queues(self, can: set[tuple[str, RunIn]], given: set[tuple[str, RunIn]], named: Collection[str]) -> None:
        order = {name: number for number, name in enumerate(named)}
        for passed in can - given:
            for other in given:
                if passed[1] != other[1]:
                    continue
                if named:
                    assert order[other[0]] < order[passed[0]], f"{other} was served, and {passed} comes before it"
                elif passed in self.queues and other in self.queues:
                    late = self.queues[other] > self.queues[passed]
                    assert not late, f"{other} was served, and {passed} has waited longer for its turn"

    def forget(self, waiting: Collection[Lane]) -> None:
        """Lanes that nobody waits in may be forgotten, and have their turns anew."""
        self.lanes = {lane: turn for lane, turn in self.lanes.items() if lane in waiting}


def by_lane(view: View, jobs: Iterable[Job]) -> dict[Lane, list[Job]]:
    """The jobs of each lane."""
    found: dict[Lane, list[Job]] = {}
    for job in jobs:
        found.setdefault(view.lane(job), []).append(job)
    return found
