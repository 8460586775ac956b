"""What random histories are made of: options, outcomes, spans of time, and what a machine has at a moment."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st

from heavylift.core.job import CancelRequest, Change, Error, State
from heavylift.core.limits import Concurrency, Limit, Rate
from heavylift.core.options import FollowUp, Options
from heavylift.core.outcome import Cancelled, Crashed, Failed, Interrupted, Outcome, Snoozed, Succeeded, TimedOut, Usage
from heavylift.core.queue import UNLIMITED, QueueValues
from heavylift.core.retention import Retention
from heavylift.core.retry import Backoff, Retry, exponential, fixed

T = TypeVar("T")
Attempt = tuple[str, int]

WORKERS = {"w0": 0, "w1": 1, "w2": 0}
"""In which of the two processes each worker is."""
QUEUES = ("default", "q", "heavylift.own")
SERVED: tuple[Collection[str], ...] = ((), (), ("q", "heavylift.own"), {"q": 2, "default": 1})
TASKS: Mapping[str, tuple[str, ...]] = {"w0": (), "w1": ("task",), "w2": ("task", "other")}
"""Which tasks the workers know in a history in which they do not know all."""
RATES = (Rate("1/9s", "r0"), Rate("30/s", "r1"))
LIMITS: tuple[tuple[Limit, ...], ...] = (
    *((), (), (), ()),
    (Concurrency(1, "c0"),),
    (Concurrency(2, "c0"),),
    (Concurrency(3, "c1"),),
    (Concurrency(2, "c0"), Concurrency(1, "c1")),
    (RATES[0],),
    (Concurrency(1, "c1"), RATES[1]),
)
MANY = 120
"""Progress reports that come at once, now and then; a few times as many are thinned."""
ERROR = Error("failed", "it broke")
OUTCOMES: tuple[Outcome, ...] = (
    Succeeded(b"1"),
    Succeeded(b"1", Usage(0.5, 0.25, 4096)),
    Succeeded(b'"' + b"x" * 3_000 + b'"'),
    Failed(ERROR),
    Failed(ERROR, retryable=False),
    Failed(replace(ERROR, message="x" * 900), delay=0.0),
    Failed(replace(ERROR, traceback="line\n" * 300), delay=3.3),
    TimedOut(Error("timed-out", "too long")),
    Crashed(Error("crashed", "its host died", signal="SIGKILL")),
    Cancelled(),
    Cancelled(started=False),
    Interrupted("drained"),
    Interrupted("its host died", suspect=True),
    Snoozed(7.7),
)

KEPT = (None, None, Retention(5_000.3), Retention(200.9, 2, 0))

outcomes = st.sampled_from(OUTCOMES)
chances = st.floats(0, 1, exclude_max=True)
sides = st.integers(0, 1)
priorities = st.sampled_from([None, 0, 4, 9])
delays = st.sampled_from([None, 0.0, -9.3, 6.1, 71.9])
workers = st.sampled_from(sorted(WORKERS))
beating = st.sampled_from([set(WORKERS), set(WORKERS), {"w0"}, set[str]()])
# No sum of these is a length that the contract names: what happens at the very moment is for the cases to say.
spans = st.sampled_from([0.013, 0.51, 6.37, 15.11, 20.13, 61.7])
BACKOFFS: tuple[Backoff, ...] = (fixed(0), fixed(4.1), exponential(2))
KEEPS = (Retention(80.3, 1), Retention(succeeded=0, failed=2))
# A moment later: a claim that settles an expired job may not have seen the one that follows.
FOLLOW_UP = FollowUp("task", Options(queue="q", delay=0.3, expires=9.1))
dice = random.Random(1)  # noqa: S311  the same jobs in each run
CHOICES = tuple(
    Options(
        queue=dice.choice(QUEUES),
        priority=dice.choice([0, 0, 3, 9]),
        delay=dice.choice([0.0, 0.0, 0.0, 0.0, 5.3, 70.1]),
        retry=Retry(dice.randint(1, 4), dice.choice(BACKOFFS)),
        crashes=dice.randint(1, 3),
        losses=dice.randint(1, 4),
        unique=dice.choice([None, None, None, "k0", "k1", "k2"]),
        on_conflict=dice.choice(["return", "reject", "replace", "queue-one"]),
        unique_until=dice.choice(["end", "end", "start"]),
        unique_for=dice.choice([None, None, 17.3, 123.7]),
        debounce=dice.choice([None] * 6 + [1.7, 9.1]),
        run_in=dice.choice(["process", "process", "loop", "thread"]),
        limits=dice.choice(LIMITS),
        fair_share=dice.choice([None, None, "s0", "s1"]),
        expires=dice.choice([None, None, None, 8.9, 70.9]),
        keep=dice.choice([None, None, None, *KEEPS]),
        on_exhausted=dice.choice([None, None, FOLLOW_UP]),
    )
    for _ in range(100)
)
"""One choice instead of nine: a history has room for so many."""


def choice(number: int) -> Options:
    """The options of that number: so they are named where a history is printed."""
    return CHOICES[number]


options = st.builds(choice, st.integers(0, len(CHOICES) - 1))
many_options = st.lists(options, min_size=9, max_size=12)
requests = st.sampled_from(
    [
        CancelRequest(0.0, grace, force, reason)
        for grace, force, reason in (
            (None, False, None),
            (2.5, False, "enough"),
            (0.0, False, None),
            (None, True, None),
            (9.0, True, "enough"),
        )
    ]
)


@st.composite
def settings(draw: st.DrawFn) -> QueueValues:
    """What somebody sets of a queue, which may be too little for what waits."""
    given: QueueValues = {
        "paused": draw(st.sampled_from([None, None, False, True])),
        "concurrency": draw(st.sampled_from([None, 1, 2])),
        "max_size": draw(st.sampled_from([None, 1, 6])),
        "rate": draw(st.sampled_from([None, None, "1/11s"])),
        "keep": draw(st.sampled_from(KEPT)),
    }
    if given["paused"]:
        given |= {"by": draw(st.sampled_from([None, "anna", "ben"])), "reason": draw(st.sampled_from([None, "why"]))}
    lifted = draw(st.sets(st.sampled_from(UNLIMITED)))
    given["unlimited"] = sorted(name for name in lifted if given.get(name) is None)
    return given


def one_of(names: Callable[[Any], Sequence[T]]) -> st.SearchStrategy[T]:
    """One of what the machine has at that moment."""
    return st.runner().flatmap(lambda machine: st.sampled_from(names(machine)))


def has(names: Callable[[Any], Sequence[Any]]) -> Callable[[Any], bool]:
    """Whether the machine has any at that moment."""
    return lambda machine: bool(names(machine))


def all_jobs(machine: Any) -> list[str]:
    """The ids of all jobs."""
    return list(machine.reference.jobs)


def all_ids(machine: Any) -> list[str]:
    """The ids of all jobs, and of those that were pruned."""
    return sorted({*machine.reference.jobs, *machine.reference.pruned})


def all_attempts(machine: Any) -> list[Attempt]:
    """Every attempt that ever began."""
    return list(machine.known)


def running_attempts(machine: Any) -> list[Attempt]:
    """The attempts that run."""
    return [(job.id, job.attempt) for job in machine.reference.running()]


def mostly_running(machine: Any) -> list[Attempt]:
    """Every attempt, and each that runs some times more."""
    return running_attempts(machine) * 3 + all_attempts(machine)


def keyed(machine: Any) -> list[str]:
    """The jobs that were given a unique key; those that do not wait some times more."""
    jobs = [job for job in machine.reference.jobs.values() if job.options.unique is not None]
    return [job.id for job in jobs for _ in range(1 if job.state is State.QUEUED else 4)]


def decided(machine: Any) -> list[Change]:
    """Changes that sweepers have decided, and not yet written."""
    found: list[Change] = machine.orphaned
    return found
