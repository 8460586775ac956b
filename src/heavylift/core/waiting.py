"""Why a job waits: the first of all things that have to change before it can start."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from heavylift.core.options import LAST_MOMENT, serves
from heavylift.core.queue import MOST_AHEAD, Standing
from heavylift.core.units import spoken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from heavylift.core.job import Job
    from heavylift.core.queue import ClosedGate, Pause

LONGEST = 120
"""Characters of a key or a reason that are shown in a line."""

Code = Literal[
    "scheduled",
    "retrying",
    "snoozed",
    "queue-paused",
    "no-worker",
    "queue-not-served",
    "task-not-known",
    "queue-concurrency",
    "queue-rate",
    "key-concurrency",
    "key-rate",
    "unique-key",
    "in-line",
]
"""The kinds of reasons; they stay what they are, while their texts may change."""


class Server(NamedTuple):
    """A live worker that takes jobs: the queues and the tasks that it serves (none: any), and how many jobs it has
    places for in processes.
    """

    queues: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    free: int = 0

    def takes(self, job: Job) -> bool:
        """Whether it would run that job."""
        return serves(self.queues, job.queue) and (not self.tasks or job.task in self.tasks)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a job waits. `until`: when that is over by itself (Unix seconds), None when nobody can tell. `standing`:
    where it stands.
    """

    code: Code
    until: float | None = None
    standing: Standing = field(default_factory=Standing)

    @property
    def ahead(self) -> int:
        """How many due jobs are likely to start before it; MOST_AHEAD stands for that many and more."""
        return self.standing.ahead

    @property
    def holders(self) -> tuple[str, ...]:
        """Ids of up to 3 of the running jobs that hold it up."""
        return () if self.standing.gate is None else self.standing.gate.holders


def explain(job: Job, standing: Standing, servers: Sequence[Server], now: float) -> Waiting:
    """Why a queued job waits. Of several reasons the one that would have to change first: its time comes by itself, a
    pause is somebody's wish, without a worker nothing else matters; then what bounds its queue, then what bounds its
    key, and last its place in the line.
    """
    if job.run_at > now:
        return Waiting(_later(job), job.run_at, standing)
    if standing.pause is not None:
        return Waiting("queue-paused", None, standing)
    serving = [server for server in servers if serves(server.queues, job.queue)]
    if not serving:
        return Waiting("queue-not-served" if servers else "no-worker", None, standing)
    if not any(server.takes(job) for server in serving):
        return Waiting("task-not-known", None, standing)
    if standing.full is not None:
        return Waiting("queue-concurrency", None, standing)
    if standing.opens_at is not None and standing.opens_at > now:
        return Waiting("queue-rate", standing.opens_at, standing)
    if standing.gate is not None:
        return Waiting(_GATES[standing.gate.gate.kind], standing.gate.opens_at, standing)
    return Waiting("in-line", None, standing)


def utc(at: float) -> str:
    """Unix seconds as RFC 3339 in UTC, in whole seconds."""
    return datetime.fromtimestamp(min(at, LAST_MOMENT), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def text(job: Job, waiting: Waiting, now: float, moment: Callable[[float], str] = utc) -> str:
    """The reason as one line for people; `moment` writes times."""
    until = waiting.until
    line = _line(job, waiting, "soon" if until is None else f"at {moment(until)} ({_left(until - now)})", moment)
    if not waiting.ahead or waiting.code not in _LINES:
        return line or "next in line"
    ahead = f"{waiting.ahead:,}{' or more' if waiting.ahead >= MOST_AHEAD else ''} ahead"
    return f"{line}, {ahead}" if line else ahead


_GATES: dict[str, Code] = {"concurrency": "key-concurrency", "rate": "key-rate", "unique": "unique-key"}
_LINES = frozenset({"queue-concurrency", "queue-rate", "key-concurrency", "key-rate", "unique-key", "in-line"})
"""Reasons of jobs that stand in a line which moves."""


def _later(job: Job) -> Code:
    if job.failures or job.crashes or job.losses:
        return "retrying"
    return "snoozed" if job.attempt else "scheduled"


def _left(seconds: float) -> str:
    return f"in {spoken(seconds)}" if seconds > 0 else "now"


def _line(job: Job, waiting: Waiting, when: str, moment: Callable[[float], str]) -> str:
    """The reason, without the place in the line."""
    queue, standing = f"queue {job.queue!r}", waiting.standing
    lines: dict[Code, str] = {
        "scheduled": f"scheduled {when.replace('at', 'for', 1)}",
        "snoozed": f"goes on {when}: it asked for a pause",
        "no-worker": "no live worker takes jobs",
        "queue-not-served": f"no live worker serves {queue}",
        "task-not-known": f"no live worker that serves {queue} knows the task {job.task!r}",
        "queue-concurrency": f"{queue} runs as many jobs as it may ({standing.full})",
        "queue-rate": f"the rate of {queue} lets the next one start {when}",
        "in-line": "",
    }
    if waiting.code == "retrying":
        return f"retry {when} after {_ended(job)}"
    if waiting.code in lines:
        return lines[waiting.code]
    if standing.pause is not None:
        return f"{queue} {_paused(standing.pause, moment)}"
    return "" if standing.gate is None else _closed(standing.gate, when)


def _ended(job: Job) -> str:
    """What the last attempt ended with, and how much of that budget is used up."""
    code = None if job.error is None else job.error.code
    if job.losses and (code == "lost" or not job.failures + job.crashes):
        return f"loss {job.losses} of its worker"
    if job.crashes and (code == "crashed" or not job.failures):
        return f"crash {job.crashes} of {job.options.crashes}"
    return f"failure {job.failures} of {job.options.retry.attempts}"


def _paused(pause: Pause, moment: Callable[[float], str]) -> str:
    by = f" by {_shown(pause.by)}" if pause.by else ""
    why = f" ({_shown(pause.reason)})" if pause.reason else ""
    return f"is paused{by} since {moment(pause.at)}{why}"


def _closed(closed: ClosedGate, when: str) -> str:
    gate, holders = closed.gate, closed.holders
    if gate.kind == "rate":
        return f"rate {_shown(gate.key)!r} ({gate.limit}) lets the next one start {when}"
    if gate.kind == "unique":
        return "another job with its unique key runs" + (f": {holders[0]}" if holders else "")
    most = int(gate.limit)
    by = f"job {holders[0]}" if len(holders) == most == 1 else f"{most:,} {'job' if most == 1 else 'jobs'}"
    if most > 1 and holders:
        by += f"{', among them ' if most > len(holders) else ': '}{', '.join(holders)}"
    return f"key {_shown(gate.key)!r} is held by {by} (Concurrency {most:,})"


def _shown(text: str) -> str:
    """What somebody else wrote, in one line and not too long."""
    clean = " ".join(text.split())
    return clean if len(clean) <= LONGEST else f"{clean[:LONGEST]}…"
