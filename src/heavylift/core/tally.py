"""What happened in a worker, counted: attempts, times, faults. Plain numbers under plain keys, for who exports them.

A key is the name of what is counted, then the values of its labels: ("attempts", "build_report", "succeeded"). Of a
time there are three kinds of numbers: ("processing", task, "5") counts those that were longer than the next lower limit
of BUCKETS and at most 5 seconds, ("processing", task, "+Inf") those beyond the last one, ("processing_sum", task) is
the sum of all in seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from enum import StrEnum
from typing import TYPE_CHECKING

from heavylift.core.outcome import NEIGHBOUR_STOPPED, NOT_STARTED, Failed, Interrupted, Outcome, TimedOut

if TYPE_CHECKING:
    from collections.abc import Mapping

Key = tuple[str, ...]

BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
"""Limits of times, in seconds."""
BUCKET_NAMES = (*(f"{limit:g}" for limit in BUCKETS), "+Inf")
MOST_NAMES = 200
"""Values of a label that are told apart; further ones count as OTHER. Callers may name queues as they like."""
OTHER = "other"

_COUNT, _WALL, _WAITED, _WALLS, _WAITS = 0, 1, 2, 3, 3 + len(BUCKET_NAMES)


class Fault(StrEnum):
    """What can go wrong around jobs, each with a counter of its own."""

    HOST_CRASH = "host_crash"
    """A host died by itself, or was killed by somebody else."""
    HOST_KILL = "host_kill"
    """A host was killed here: what it ran did not end within its grace, or was to end at once."""
    HOST_START = "host_start"
    """A host could not start."""
    NANNY_DEATH = "nanny_death"
    """The nanny died, or hung, and was replaced."""
    LEASE_LOST = "lease_lost"
    """A worker was declared dead although it lived, stopped what it ran, and began a new epoch."""
    STALE_WRITE = "stale_write"
    """An outcome or a report of an attempt that is not the job's any more was refused."""
    LOSS = "loss"
    """A job whose worker had vanished was settled."""
    STORE_UNAVAILABLE = "store_unavailable"
    """A call of the store failed because it was away."""
    OUTCOME_UNWRITTEN = "outcome_unwritten"
    """A worker ended before the store took an outcome; the job runs again."""
    NOT_STARTED = "not_started"
    """A claimed job was handed back, as no host was free in time."""
    TIMEOUT = "timeout"
    """An attempt ran out of time."""
    MEMORY_LIMIT = "memory_limit"
    """An attempt took more memory than its limit."""
    CPU_LIMIT = "cpu_limit"
    """An attempt took more CPU time than its limit."""
    PROCESS_LIMIT = "process_limit"
    """An attempt had more processes than its limit."""
    BLOCKED_LOOP = "blocked_loop"
    """The event loop of a shared host did not come round for five seconds."""
    SUSPECTED = "suspected"
    """A job was in a shared host when that died, and runs alone from now on."""
    NEIGHBOUR_STOPPED = "neighbour_stopped"
    """A job was interrupted because another one in its shared host had to be killed."""
    LOG_DROPPED = "log_dropped"
    """A line of a job's log was dropped, as its log was full."""
    EXPIRED = "expired"
    """A job was not begun in the time that it was given, and has failed."""
    STALLED = "stalled"
    """A running job reported nothing for as long as the setting `stalled` says."""


class Tally:
    """The counts of one worker since its start. To count an attempt are some additions to a list."""

    def __init__(self) -> None:
        self._fresh: defaultdict[Key, float] = defaultdict(float)
        self._attempts: dict[Key, list[float]] = {}
        """By task, queue and outcome: numbers in the places that are named below."""
        self._unwritten: dict[Key, float] = {}
        self._written: dict[Key, float] = {}
        self._names: dict[str, set[str]] = {"task": set(), "queue": set()}

    def know(self, counts: Mapping[Key, float]) -> None:
        """Of names that are counted in the store already, all together are told apart up to the limit, so that it holds
        however often workers start.
        """
        for name, *labels in counts:
            if name in _FIRST_LABELS and labels[0] != OTHER:
                self._names[_FIRST_LABELS[name]].add(labels[0])

    def add(self, *key: str, amount: float = 1) -> None:
        """Count under a key."""
        self._fresh[key] += amount

    def fault(self, fault: Fault, times: int = 1) -> None:
        """Count a fault."""
        self._fresh["faults", fault.value] += times

    def attempt(self, task: str, queue: str, outcome: str, waited: float, wall: float) -> None:
        """Count an attempt that ended: the seconds that it was due before it was claimed, and that it ran (0: it never
        began, so there are no times).
        """
        found = self._attempts.get((task, queue, outcome))
        if found is None:
            found = self._attempts[task, queue, outcome] = [0.0] * (_WAITS + len(BUCKET_NAMES))
        found[_COUNT] += 1
        if wall:
            waited = max(0.0, waited)  # a clock may be set back
            found[_WALL] += wall
            found[_WAITED] += waited
            found[_WALLS + bisect_left(BUCKETS, wall)] += 1
            found[_WAITS + bisect_left(BUCKETS, waited)] += 1

    def finished(self, task: str, state: str) -> None:
        """Count a job that is over."""
        self._fresh["finished", task, state] += 1

    def unwritten(self) -> Mapping[Key, float]:
        """What was counted and is not in the store yet. Say `written` when it is; until then it is told again."""
        _merge(self._unwritten, self._since())
        self._fresh, self._attempts = defaultdict(float), {}
        return self._unwritten

    def written(self) -> None:
        """The last `unwritten` is in the store."""
        _merge(self._written, self._unwritten)
        self._unwritten = {}

    def total(self) -> dict[Key, float]:
        """All counts since the start."""
        total = dict(self._written)
        _merge(total, self._unwritten)
        _merge(total, self._since())
        return total

    def _since(self) -> dict[Key, float]:
        """What was counted since the last `unwritten`."""
        found: defaultdict[Key, float] = defaultdict(float)
        for key, amount in self._fresh.items():
            if key[0] == "finished":
                found["finished", self._label("task", key[1]), key[2]] += amount
            else:
                found[key] += amount
        for (task, queue, outcome), numbers in self._attempts.items():
            task, queue = self._label("task", task), self._label("queue", queue)  # noqa: PLW2901  as they are exported
            found["attempts", task, outcome] += numbers[_COUNT]
            found["processing_sum", task] += numbers[_WALL]
            found["wait_sum", queue] += numbers[_WAITED]
            for name, walls, waits in zip(BUCKET_NAMES, numbers[_WALLS:_WAITS], numbers[_WAITS:], strict=True):
                found["processing", task, name] += walls
                found["wait", queue, name] += waits
        return {key: amount for key, amount in found.items() if amount}

    def _label(self, kind: str, name: str) -> str:
        known = self._names[kind]
        if name not in known:
            if len(known) >= MOST_NAMES:
                return OTHER
            known.add(name)
        return name


def fault_of(outcome: Outcome) -> Fault | None:
    """The fault that an outcome stands for, as far as it is one of its own attempt."""
    match outcome:
        case TimedOut():
            return Fault.TIMEOUT
        case Failed(error=error):
            return _LIMITS.get(error.code)
        case Interrupted(suspect=True):
            return Fault.SUSPECTED
        case Interrupted(reason=reason):
            return _INTERRUPTIONS.get(reason)
    return None


_FIRST_LABELS = {"attempts": "task", "finished": "task", "wait": "queue"}
_LIMITS = {"memory-limit": Fault.MEMORY_LIMIT, "cpu-limit": Fault.CPU_LIMIT, "process-limit": Fault.PROCESS_LIMIT}
_INTERRUPTIONS = {NOT_STARTED: Fault.NOT_STARTED, NEIGHBOUR_STOPPED: Fault.NEIGHBOUR_STOPPED}


def _merge(into: dict[Key, float], added: Mapping[Key, float]) -> None:
    for key, amount in added.items():
        into[key] = into.get(key, 0) + amount
