"""The job: a frozen record of one request to run a task, and everything known about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, make_dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from heavylift.core.errors import ConfigError, shown
from heavylift.core.options import NAME, Options

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    """Where a job stands. Scheduled and retrying are views of `queued` with a future `run_at`."""

    BLOCKED = "blocked"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether a job in this state is over."""
        return self in FINAL


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Error:
    """Why an attempt, or the job, did not succeed.

    `code` is one of failed, gave-up, expired, unserialisable-result, result-too-large, timed-out, crashed, lost,
    cancelled, unknown-task, invalid-arguments, memory-limit, cpu-limit, process-limit, open-files-limit. `exception` is
    the qualified class name. `traceback` is text, shown to permitted readers only; where a process was killed, or died
    by a signal, it is the stack of that moment, the most recent call first. `exit_code` and `signal` (its name, such as
    SIGSEGV) say how the host died; `stderr` is the tail of what it wrote there.
    """

    code: str
    message: str
    exception: str | None = None
    traceback: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    stderr: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `percent` 0-100 or None; `at` Unix seconds; `rate`: how fast it comes forward, in percent a
    second (see `core.estimate`), None when that cannot be told.
    """

    done: float | None = None
    total: float | None = None
    percent: float | None = None
    message: str | None = None
    phase: str | None = None
    unit: str | None = None
    at: float = 0.0
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Somebody asked a running job to stop. `at` Unix seconds; `grace` seconds or None for the job's own;
    `force` kills at once.
    """

    at: float
    grace: float | None = None
    force: bool = False
    reason: str | None = None


class Stopped(StrEnum):
    """How a cancelled job came to its end."""

    BEFORE_START = "before-start"
    SOFT = "soft"
    """Its clean-up code ran, and it ended by itself within the grace."""
    KILLED = "killed"
    """Its processes were killed."""
    BETWEEN_ATTEMPTS = "between-attempts"
    """An attempt ended for a reason of its own, or was handed back before it began; the job was not started again."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request to run a task. Times are Unix seconds; `args`, `result` and `checkpoint` are JSON bytes.

    `attempt` grows at every claim and is the fence of every write; `failures`, `crashes` and `losses` are the three
    budgets. `suspected`: a host that it shared with others died, and nobody knows by whom; it is alone in its host
    from then on. (`worker`, `epoch`) holds
    the job while it runs. `seq` is the number of its last event. `cancel` stands from the request on; `stopped` says
    how a cancelled job ended. `log_bytes` counts what its log has taken.
    """

    id: str
    task: str
    args: bytes
    options: Options
    state: State
    created_at: float
    run_at: float
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    losses: int = 0
    suspected: bool = False
    worker: str | None = None
    epoch: int | None = None
    started_at: float | None = None
    finished_at: float | None = None
    cancel: CancelRequest | None = None
    stopped: Stopped | None = None
    progress: Progress | None = None
    checkpoint: bytes | None = None
    result: bytes | None = None
    error: Error | None = None
    log_bytes: int = 0
    seq: int = 0

    @property
    def queue(self) -> str:
        """The queue that it stands in."""
        return self.options.queue

    @property
    def expires_at(self) -> float | None:
        """When it has failed unless it was started before, in Unix seconds."""
        return None if self.options.expires is None else self.created_at + self.options.expires


Draft: Any = make_dataclass(
    "Draft", [(item.name, Any, field(default=item.default)) for item in fields(Job)], slots=True, eq=False
)
"""A job whose fields are being filled."""


def filled(draft: Any) -> Job:
    """The job that a draft has become. `Job(…)` takes ten times as long: a frozen dataclass sets its slots one by one
    through `object.__setattr__`, while a draft has the same slots and is not frozen.
    """
    draft.__class__ = Job
    job: Job = draft
    return job


class NewEvent(NamedTuple):
    """A fact to be written with a change; the store gives it its number. `kind` as in `core.event`."""

    kind: str
    data: Mapping[str, Any]


class Change(NamedTuple):
    """What is to become of one job: written only while the fence (`state`, `attempt`) matches, else refused whole.

    `fields` holds the new values of the changed fields alone, so that a cancel request and a progress report never
    overwrite each other. A change to `queued`, or of the cancel request, is also refused when the job's request is
    another than the one that it was decided by (`knows_cancel`): a job whose cancel was requested never goes back, and
    of two requests that meet none is lost. With `seq` it is refused when the job has another last event. `then`: jobs
    that are added in the same write, as `Store.add` would.
    """

    id: str
    state: State
    attempt: int
    fields: Mapping[str, Any]
    events: tuple[NewEvent, ...] = ()
    at: float = 0.0
    knows_cancel: CancelRequest | None = None
    queue: str = "default"
    then: tuple[tuple[Job, NewEvent], ...] = ()
    seq: int | None = None

    def apply(self, job: Job) -> Job:
        """The job after this change; `seq` counts the events on."""
        return replace(job, seq=job.seq + len(self.events), **self.fields)


def check_id(value: object) -> str:
    """An id that a caller chose; raises ConfigError for what cannot be one."""
    if isinstance(value, str) and NAME.fullmatch(value):
        return value
    message = (
        f"id: {shown(value)} is no id of a job; give 1-128 letters, digits, '.', '_', ':' or '-', the first a letter or"
        " a digit."
    )
    raise ConfigError(message)


def derived_id(now: float, *parts: str) -> str:
    """The id that always comes of these parts and this time, so that what is repeated makes no second job."""
    return new_id(now, hashlib.sha256("\0".join(parts).encode()).digest())


def new_id(now: float, random: bytes) -> str:
    """A UUIDv7 (RFC 9562): `now` (Unix seconds) in 48 bits of milliseconds, then bits of `random` (9 bytes or more).

    Ten bits in between name the shard of the job, which is 0 while there is one store.
    """
    bits = int.from_bytes(random, "big")
    rand_a = bits & 0x3  # the twelve bits of rand_a: ten for the shard, and two random ones
    rand_b = (bits >> 2) & ((1 << 62) - 1)
    number = (int(now * 1000) << 80) | (0x7 << 76) | (rand_a << 64) | (0b10 << 62) | rand_b
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
