"""How a job stands in the tables: rows to records, and fields of records to columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from heavylift.core import options as core_options
from heavylift.core.job import CancelRequest, Draft, Error, Job, Progress, State, Stopped, filled
from heavylift.core.limits import Gate, gates
from heavylift.core.options import Options, RunIn

BLOCKED, SCHEDULED, DUE, RUNNING, SUCCEEDED, FAILED, CANCELLED = range(7)
STATES = (
    State.BLOCKED,
    State.QUEUED,
    State.QUEUED,
    State.RUNNING,
    State.SUCCEEDED,
    State.FAILED,
    State.CANCELLED,
)
CODES = {
    State.BLOCKED: (BLOCKED,),
    State.QUEUED: (SCHEDULED, DUE),
    State.RUNNING: (RUNNING,),
    State.SUCCEEDED: (SUCCEEDED,),
    State.FAILED: (FAILED,),
    State.CANCELLED: (CANCELLED,),
}
FINISHED = (SUCCEEDED, FAILED, CANCELLED)

PLACES: Mapping[RunIn, int] = {"process": 0, "loop": 1, "thread": 2}

INLINE = 2048
"""A value of more bytes stands in the table `large`."""
PRIORITY_STEP = 60.0
"""Seconds by which each step of priority puts a job ahead: the order is static, and ages by itself."""

COLUMNS = (
    "number, id, task, options, args, state, created_at, run_at, attempt, worker, epoch, started_at, finished_at,"
    " cancel, checkpoint, result, more, seq"
)
LARGE = ("args", "checkpoint", "result")
PLAIN = frozenset({"run_at", "attempt", "worker", "epoch", "started_at", "finished_at"})
MORE_DEFAULTS: Mapping[str, Any] = {
    "failures": 0,
    "crashes": 0,
    "losses": 0,
    "suspected": False,
    "stopped": None,
    "progress": None,
    "error": None,
    "log_bytes": 0,
}


def rank(run_at: float, priority: int) -> float:
    """The place in a lane; the smallest comes first."""
    return run_at - PRIORITY_STEP * priority


Held = tuple[int, int, int, int]
"""What a process remembers of a job that it claimed: (number, queue, attempt, seq). It is enough to settle the job
without reading it first, as long as `seq` says that nobody wrote it since."""


def job_of(connection: sqlite3.Connection, row: Sequence[Any]) -> Job:
    """The record of a row of COLUMNS."""
    number, name, task, options, args, state, created_at, run_at, attempt = row[:9]
    worker, epoch, started_at, finished_at, cancel, checkpoint, result, more, seq = row[9:]
    if type(args) is int or type(checkpoint) is int or type(result) is int:
        args, checkpoint, result = whole(connection, number, args, checkpoint, result)
    rest = more_of(more)
    return filled(
        Draft(
            name,
            task,
            args,
            options_of(options),
            STATES[state],
            created_at,
            run_at,
            attempt,
            rest["failures"],
            rest["crashes"],
            rest["losses"],
            rest["suspected"],
            worker,
            epoch,
            started_at,
            finished_at,
            cancel_of(cancel),
            rest["stopped"],
            rest["progress"],
            checkpoint,
            result,
            rest["error"],
            rest["log_bytes"],
            seq,
        )
    )


def has_large(row: Sequence[Any]) -> bool:
    """Whether values of a row of COLUMNS stand in the table `large`."""
    return int in (type(row[4]), type(row[14]), type(row[15]))


def whole(connection: sqlite3.Connection, number: int, *values: Any) -> list[Any]:
    """The values of (args, checkpoint, result), fetched from where large ones stand."""
    found = dict(connection.execute("SELECT name, value FROM large WHERE job = ?", (number,)).fetchall())
    return [found[name] if type(value) is int else value for name, value in zip(LARGE, values, strict=True)]


def more_of(text: str | None) -> Mapping[str, Any]:
    """The fields of `more`, with the defaults of those that it does not have."""
    if text is None:
        return MORE_DEFAULTS
    values: dict[str, Any] = {**MORE_DEFAULTS, **from_json(text)}
    if values["stopped"] is not None:
        values["stopped"] = Stopped(values["stopped"])
    if values["progress"] is not None:
        values["progress"] = Progress(**values["progress"])
    if values["error"] is not None:
        values["error"] = Error(**values["error"])
    return values


def more_with(text: str | None, changes: Mapping[str, Any]) -> str | None:
    """`more` after some of its fields changed."""
    if not changes:
        return text
    values: dict[str, Any] = from_json(text) if text is not None else {}
    for name, value in changes.items():
        if value == MORE_DEFAULTS.get(name):
            values.pop(name, None)
        else:
            values[name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return text_of(values) if values else None


def samples_of(text: str | None) -> int:
    """How many progress events a job has, by its `more`."""
    return 0 if text is None else int(from_json(text).get("samples", 0))


def cancel_of(text: str | None) -> CancelRequest | None:
    """A cancel request from its JSON text."""
    return None if text is None else CancelRequest(**from_json(text))


def cancel_text(request: CancelRequest | None) -> str | None:
    """The inverse of `cancel_of`."""
    return None if request is None else text_of(asdict(request))


@lru_cache(maxsize=1024)
def options_of(text: str) -> Options:
    """The options of a job; those that many jobs share are parsed once."""
    return core_options.from_data(from_json(text))


KEPT_TEXTS = 512


class Told(NamedTuple):
    """What is written of a job's options. `lane`: the key of its lane, '' for a plain one; `keeps`: they say how long
    it is kept; `plain`: neither that nor when it expires.
    """

    text: str
    place: int
    lane: str
    keeps: bool
    plain: bool


class ToldOptions:
    """Options as they are written. Jobs of one task share one object: it is found by its identity, which lives as long
    as it is kept here.
    """

    def __init__(self) -> None:
        self._told: dict[int, tuple[Options, Told]] = {}

    def __call__(self, options: Options) -> Told:
        """What is written of these options."""
        found = self._told.get(id(options))
        if found is not None:
            return found[1]
        text = text_of(core_options.to_data(options))
        keeps = options.keep is not None
        plain = not keeps and options.expires is None
        told = Told(text, PLACES[options.run_in], lane_key(options, gates(options)), keeps, plain)
        if len(self._told) >= KEPT_TEXTS:
            self._told.clear()
        self._told[id(options)] = (options, told)
        return told


def lane_key(options: Options, passed: Sequence[Gate], task: str | None = None) -> str:
    """What jobs of one lane have in common beside their queue and place; '' for plain ones. `passed`: their gates;
    `task`: that of jobs which some worker did not know.
    """
    if not passed and options.fair_share is None and task is None:
        return ""
    return text_of([[[gate.kind, gate.key] for gate in passed], options.fair_share, task])


def text_of(value: Any) -> str:
    """A value of our own as JSON text."""
    return to_json(value).decode()


def numbers_text(numbers: Iterable[int]) -> str:
    """Integers as a JSON array, as json_each takes them."""
    return f"[{','.join(map(str, numbers))}]"
