"""Unique keys in plain Python, for the reference: who holds one, and what becomes of them when a new job wants it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heavylift.core.job import Job, State
from heavylift.core.options import Options


@dataclass(slots=True)
class Hold:
    """That a job has a key. `alive`: until it is over, or begins; `until`: in any case; `since`: of its debounce."""

    job: str
    since: float
    until: float | None
    alive: bool = True
    begun: bool = False


@dataclass(slots=True)
class Keys:
    """All keys, and who has them, in the order in which they got them."""

    held: dict[str, list[Hold]] = field(default_factory=dict)

    def take(self, job: Job, since: float) -> None:
        """A job has its key, when it is added and when it is queued anew."""
        options = job.options
        if options.unique is not None:
            others = [hold for hold in self.held.get(options.unique, []) if hold.job != job.id]
            until = None if options.unique_for is None else job.created_at + options.unique_for
            self.held[options.unique] = [*others, Hold(job.id, since, until)]

    def moved(self, before: Job, after: Job, now: float) -> None:
        """A job has come into another state."""
        if before.state.final and after.state is State.QUEUED:
            self.take(after, now)
        for hold in self.held.get(after.options.unique or "", []):
            if hold.job == after.id and after.state is State.RUNNING:
                hold.begun = True
                hold.alive = hold.alive and after.options.unique_until == "end"
            elif hold.job == after.id and after.state.final:
                hold.alive = False

    def have(self, key: str | None, now: float) -> list[Hold]:
        """Who has a key now."""
        holds = self.held.get(key or "", [])
        return [hold for hold in holds if hold.alive or (hold.until is not None and hold.until > now)]

    def lose(self, key: str, lost: list[Hold]) -> None:
        """These have the key no longer."""
        self.held[key] = [hold for hold in self.held.get(key, []) if hold not in lost]


def state_of(hold: Hold, key: str, jobs: Mapping[str, Job]) -> State | None:
    """Where the job of a hold stands; None: it was pruned (another one may have its id)."""
    job = jobs.get(hold.job)
    return None if job is None or job.options.unique != key else job.state


def answering(holds: Mapping[str, State | None], options: Options) -> str | None:
    """Which of the jobs that have a key is the answer to a new one with these options; None: the new one is kept."""
    if options.on_conflict == "replace" or options.debounce is not None:
        return None
    for wanted in (State.QUEUED, State.RUNNING):
        if chosen := [name for name, state in holds.items() if state is wanted]:
            return chosen[-1]
        if options.on_conflict == "queue-one":
            return None
    return list(holds)[-1] if holds else None
