"""The state events of a job as they stand in its row: in its history, as JSON arrays, each after a comma.

The three that nearly every job has are kept without what follows from their kind, because each write of a row carries
them along: `[seq, at]` was queued to be run at once, `[seq, at, attempt, worker]` began, and
`[seq, at, attempt, wall, cpu, peak_rss]` succeeded. Any other is `[seq, at, data]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic_core import to_json

from heavylift.core.event import STATE, Event
from heavylift.core.job import NewEvent, State

HISTORY = 4096
"""A history of more characters moves into the table `event`."""
LARGEST = 1024
"""A state event with more characters of data stands there at once."""

BEGUN = "printf('%s,[%d,%s,%d,%s]', history, seq + 1, {at}, attempt + 1, {worker})"
"""SQL: the history of a job that begins an attempt; `at` and `worker` as JSON."""

_QUEUED = {"state": State.QUEUED, "attempt": 0}
_SUCCESS = {"state", "attempt", "outcome", "usage"}
_USAGE = {"wall", "cpu", "peak_rss"}


def fact(seq: int, at: float, event: NewEvent) -> str | None:
    """A state event as it stands in a history; None for one that has to be a row of its own."""
    if event.kind != STATE:
        return None
    data = event.data
    if len(data) == len(_QUEUED) and data == _QUEUED:
        return f",[{seq},{at!r}]"
    if data.keys() == _SUCCESS and data["outcome"] == "succeeded" and (usage := data["usage"]).keys() == _USAGE:
        peak = usage["peak_rss"]
        return (
            f",[{seq},{at!r},{data['attempt']},{usage['wall']!r},{usage['cpu']!r},{'null' if peak is None else peak}]"
        )
    text = to_json(data)
    return f",[{seq},{at!r},{text.decode()}]" if len(text) <= LARGEST else None


def facts_of(job: str, history: str) -> Iterator[Event]:
    """The events in a history."""
    for seq, at, *rest in json.loads(f"[{history[1:]}]"):
        yield Event(job, seq, STATE, float(at), _data(rest))


def _data(rest: list[Any]) -> dict[str, Any]:
    match rest:
        case []:
            return {"state": "queued", "attempt": 0}
        case [attempt, worker]:
            return {"state": "running", "attempt": attempt, "worker": worker}
        case [attempt, wall, cpu, peak]:
            usage = {"wall": wall, "cpu": cpu, "peak_rss": peak}
            return {"state": "succeeded", "attempt": attempt, "outcome": "succeeded", "usage": usage}
        case _:
            data: dict[str, Any] = rest[0]
            return data
