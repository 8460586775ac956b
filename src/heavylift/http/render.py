"""Records as JSON resources: what the HTTP API answers, and what the command line prints with --json."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from heavylift.core import checkpoint as checkpoints
from heavylift.core import codec, event
from heavylift.core import estimate as estimates
from heavylift.core.job import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heavylift.core.estimate import Estimate
    from heavylift.core.event import Event
    from heavylift.core.job import CancelRequest, Error, Job, Progress
    from heavylift.core.options import Options
    from heavylift.core.queue import Queue
    from heavylift.core.result import Receipt
    from heavylift.core.stack import Stack
    from heavylift.core.task import Task
    from heavylift.core.waiting import Waiting
    from heavylift.outlook import Outlook
    from heavylift.store import WorkerStatus

BASE = "/v1"
"""Where the paths of the API begin, unless it was included elsewhere."""
POLL = (1, 30)
"""Seconds to the next look, at least and at most, when it is a guess how long it takes."""
SOMEBODY = 10
"""Seconds to the next look at a job that waits until somebody does something."""
BY_HAND = frozenset({"queue-paused", "no-worker", "queue-not-served", "task-not-known"})
MAX_RETRY_AFTER = 300
"""Seconds to the next look at a job whose time is known, at most."""
LAST_MOMENT = "9999-12-31T23:59:59.999Z"


PARTS = ("result", "events", "logs", "checkpoint", "stack", "cancel", "retry")


def moment(at: float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC with milliseconds."""
    if at is None:
        return None
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return LAST_MOMENT  # later than calendars go


def job(record: Job, base: str = BASE, outlook: Outlook | None = None) -> dict[str, Any]:
    """The job resource; `base` is where the paths of the API begin, `outlook` what is to be expected."""
    options = record.options
    return {
        "id": record.id,
        "task": record.task,
        "state": record.state.value,
        "queue": options.queue,
        "priority": options.priority,
        "labels": dict(options.labels),
        "progress": progress(record.progress),
        "estimate": None if outlook is None else estimate(outlook.estimate),
        "attempt": record.attempt,
        "max_attempts": options.retry.attempts,
        "error": error(record.error),
        "created_at": moment(record.created_at),
        "run_at": moment(record.run_at),
        "expires_at": moment(record.expires_at),
        "started_at": moment(record.started_at),
        "finished_at": moment(record.finished_at),
        "cancel_requested": _cancel(record.cancel),
        "stopped": record.stopped,
        "waiting_reason": None if outlook is None else outlook.reason,
        "waiting": None if outlook is None else waiting(outlook.waiting),
        "links": links(record.id, base),
        "seq": record.seq,
    }


def links(job_id: str, base: str = BASE) -> dict[str, str]:
    """Where the job and its parts are."""
    own = f"{base}/jobs/{quote(job_id, safe='')}"
    return {"self": own} | {part: f"{own}/{part}" for part in PARTS}


def progress(value: Progress | None) -> dict[str, Any] | None:
    """How far a job is."""
    if value is None:
        return None
    return {
        "percent": value.percent,
        "done": value.done,
        "total": value.total,
        "unit": value.unit,
        "phase": value.phase,
        "message": value.message,
        "updated_at": moment(value.at),
    }


def estimate(value: Estimate | None) -> dict[str, Any] | None:
    """When a job starts, or is over."""
    if value is None:
        return None
    return {
        "starts_at": moment(value.starts_at),
        "finishes_at": moment(value.finishes_at),
        "remaining_s": round(value.remaining, 1),
        "basis": value.basis,
    }


def waiting(value: Waiting | None) -> dict[str, Any] | None:
    """Why a job waits, for programs."""
    if value is None:
        return None
    return {"code": value.code, "until": moment(value.until), "ahead": value.ahead, "holders": list(value.holders)}


def error(value: Error | None) -> dict[str, Any] | None:
    """Why it did not succeed; its traceback and what it wrote to stderr stay inside."""
    if value is None:
        return None
    names = ("code", "message", "exception", "exit_code", "signal")
    return {name: getattr(value, name) for name in names}


def checkpoint(data: bytes) -> dict[str, Any]:
    """What a job saved to resume from: the value of its code, and apart from it the results of its steps."""
    saved = checkpoints.read(data)
    value = None if saved.value is None else codec.decode(saved.value)
    return {
        "value": value,
        "steps": {name: codec.decode(result) for name, result in saved.steps.items()},
        "size": len(data),
    }


def stack(value: Stack) -> dict[str, Any]:
    """Where the code of a running job is."""
    return asdict(value) | {"at": moment(value.at)}


def receipt(value: Receipt, base: str = BASE) -> dict[str, Any]:
    """What a cancel did."""
    data = asdict(value)
    if value.after_ms is not None:
        data["after_ms"] = round(value.after_ms, 1)
    return data | {"links": links(value.job_id, base)}


def task(value: Task, base: str = BASE) -> dict[str, Any]:
    """A task: what it takes, what it returns, and how its jobs run unless they say otherwise."""
    return {
        "name": value.name,
        "description": value.description,
        "arguments": value.schema(),
        "result": value.result_schema(),
        "options": task_options(value.options),
        "links": {"submit": f"{base}/tasks/{quote(value.name, safe='')}/jobs"},
    }


def task_options(options: Options) -> dict[str, Any]:
    """How the jobs of a task run unless they say otherwise."""
    return {
        "queue": options.queue,
        "priority": options.priority,
        "timeout": options.timeout,
        "grace": options.grace,
        "max_attempts": options.retry.attempts,
    }


def queue(value: Queue) -> dict[str, Any]:
    """A queue: its settings, and how many of its jobs are in which state."""
    pause, keep = value.pause, value.keep
    return {
        "name": value.name,
        "paused": value.paused,
        "pause": None if pause is None else {"since": moment(pause.at), "by": pause.by, "reason": pause.reason},
        "concurrency": value.concurrency,
        "rate": value.rate,
        "max_size": value.max_size,
        "keep": None if keep is None else asdict(keep),
        "counts": {state.value: value.counts.get(state, 0) for state in State},
        "oldest_wait": None if value.oldest_wait is None else round(value.oldest_wait, 3),
        "drain_rate": None if value.drain_rate is None else float(f"{value.drain_rate:.3g}"),
    }


def worker(value: WorkerStatus) -> dict[str, Any]:
    """A worker, and how long ago it gave a sign of life."""
    record = value.worker
    return {
        "id": record.id,
        "host": record.hostname,
        "pid": record.pid,
        "state": worker_state(value),
        "running": record.running,
        "concurrency": record.concurrency,
        "queues": list(record.queues),
        "started_at": moment(record.started_at),
        "beat_age": round(value.beat_age, 3),
    }


def worker_state(value: WorkerStatus) -> str:
    """`alive`, `draining` (it takes no more jobs) or `dead` (its lease is over)."""
    if value.dead:
        return "dead"
    return "draining" if value.worker.draining else "alive"


def log_lines(item: Event) -> list[dict[str, Any]]:
    """The lines of a log event, each with the event's number."""
    return [{"seq": item.seq, **_line(line)} for line in item.data["lines"]]


def fact(item: Event) -> dict[str, Any]:
    """An event's data: times as text, an error without what stays inside."""
    data: dict[str, Any] = dict(item.data)
    if item.kind == event.PROGRESS:
        names = ("percent", "done", "total", "unit", "phase", "message")
        left = estimates.rest(data.get("percent"), data.get("rate"))
        known = {"remaining_s": None if left is None else round(left, 1), "updated_at": moment(item.at)}
        return {name: data.get(name) for name in names} | known
    if isinstance(data.get("error"), dict):
        data["error"] = {key: text for key, text in data["error"].items() if key not in INSIDE}
    if "run_at" in data:
        data["run_at"] = moment(data["run_at"])
    if "lines" in data:
        data["lines"] = [_line(line) for line in data["lines"]]
    return data | {"at": moment(item.at)}


def line_text(line: Mapping[str, Any]) -> str:
    """The text of a line of a log, with its fields."""
    fields = "".join(f" {key}={value}" for key, value in line.get("fields", {}).items())
    return f"{line['message']}{fields}"


INSIDE = ("traceback", "stderr")


def retry_after(record: Job, outlook: Outlook, now: float) -> int:
    """Whole seconds after which a look at an unfinished job is worth it."""
    if record.state is State.QUEUED and record.run_at > now:
        return max(1, min(MAX_RETRY_AFTER, round(record.run_at - now)))
    if outlook.estimate is not None:
        return max(POLL[0], min(POLL[1], round(outlook.estimate.remaining / 10)))
    return SOMEBODY if outlook.waiting is not None and outlook.waiting.code in BY_HAND else POLL[0]


def _cancel(request: CancelRequest | None) -> dict[str, Any] | None:
    return None if request is None else asdict(request) | {"at": moment(request.at)}


def _line(line: Mapping[str, Any]) -> dict[str, Any]:
    return {**line, "at": moment(line.get("at"))}
