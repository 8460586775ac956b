"""The commands about queues: what stands in them, and whether and how fast their jobs are started."""

from __future__ import annotations

import getpass
import os
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from heavylift.cli import find, output
from heavylift.cli.exits import Exit
from heavylift.cli.opened import run
from heavylift.core import queue as core_queue
from heavylift.core.errors import ConfigError, did_you_mean
from heavylift.core.job import State
from heavylift.core.queue import MAX_BY, Limits, Queue
from heavylift.core.retention import Retention
from heavylift.core.units import seconds, spoken
from heavylift.http import render

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from heavylift.app import Heavylift

HEADS = ("NAME", "STATE", "RUNNING", "WAITING", "RATE", "DRAINS", "OLDEST WAIT", "PAUSED")
GIVES_WAY = ("OLDEST WAIT", "RATE", "DRAINS")
STYLES = {"paused": "yellow", "full": "red", "open": "green"}
NONE = "none"
"""Lifts a limit."""
PERIODS = (("s", 1.0), ("min", 60.0), ("h", 3600.0))


def listed(store: str | None, app: str | None, *, as_json: bool) -> Exit:
    """Print all queues."""
    lift = find.opened_by(store, app)
    found = run(lift, lift.queues)
    if as_json:
        for queue in found:
            output.data(render.queue(queue))
        return Exit.OK
    output.table(HEADS, map(_cells, found), gives_way=GIVES_WAY, styles={"STATE": STYLES})
    if not found:
        sys.stderr.write(f"No queue in {lift.store_url} has had a job yet.\n")
    return Exit.OK


def pause(store: str | None, app: str | None, as_json: bool, name: str, by: str | None, reason: str | None) -> Exit:  # noqa: FBT001
    """Pause a queue, also one that has no job yet, and print what it is then."""

    async def work(lift: Heavylift, _: Queue | None) -> Queue:
        return await lift.pause(name, by=_me() if by is None else by, reason=reason)

    queue, before = _changed(store, app, name, work)
    if as_json:
        output.data(render.queue(queue))
    else:
        sys.stdout.write(f"paused  {queue.name}\n")
    if before is not None and before.pause is not None:
        sys.stderr.write(f"It was paused before: {output.pause_text(before.pause)}\n")
    return Exit.OK


def resume(store: str | None, app: str | None, as_json: bool, name: str) -> Exit:  # noqa: FBT001
    """Resume a queue, and print what it is then; there is nothing to resume in one that nobody knows."""

    async def work(lift: Heavylift, before: Queue | None) -> Queue:
        if before is None:
            known = [queue.name for queue in await lift.queues()]
            message = f"There is no queue {name!r}.{did_you_mean(name, known)} (queues: {', '.join(known) or 'none'})"
            raise ConfigError(message)
        return await lift.resume(name)

    queue, before = _changed(store, app, name, work)
    if as_json:
        output.data(render.queue(queue))
    else:
        sys.stdout.write(f"resumed  {queue.name}\n")
    if before is not None and before.pause is None:
        sys.stderr.write("It was not paused.\n")
    return Exit.OK


def set_limits(
    store: str | None,
    app: str | None,
    as_json: bool,  # noqa: FBT001
    name: str,
    limits: Mapping[str, str | None],
    kept: Mapping[str, str | None],
) -> Exit:
    """Limit a queue, and print what limits it then."""
    clean = {limit: _limit(limit, text) for limit, text in limits.items() if text is not None}
    if not clean and not any(text is not None for text in kept.values()):
        message = "There is nothing to set: give --concurrency, --rate, --max-size or --keep; `none` lifts a limit."
        raise ConfigError(message)

    async def work(lift: Heavylift, before: Queue | None) -> Queue:
        keep = _kept(before.keep if before is not None else None, kept)
        return await lift.set_queue(name, **cast("Limits", clean | keep))

    queue, _ = _changed(store, app, name, work)
    if as_json:
        output.data(render.queue(queue))
    else:
        sys.stdout.write(f"{queue.name}  {', '.join(_limits(queue)) or 'no limits'}\n")
    return Exit.OK


def _changed(
    store: str | None, app: str | None, name: str, work: Callable[[Heavylift, Queue | None], Awaitable[Queue]]
) -> tuple[Queue, Queue | None]:
    """The queue after `work`, and as it was before, None if nobody knew it; then it says so."""
    core_queue.check(name, {})
    lift = find.opened_by(store, app)

    async def done() -> tuple[Queue, dict[str, Queue]]:
        known = {queue.name: queue for queue in await lift.queues()}
        return await work(lift, known.get(name)), known

    queue, known = run(lift, done)
    if name not in known:
        sys.stderr.write(f"No job has stood in queue {name!r} yet.{did_you_mean(name, known)}\n")
    return queue, known.get(name)


def _me() -> str:
    """Who types this, and where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under an id that has no name
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"[:MAX_BY]


def _limit(name: str, text: str) -> Any:
    if text == NONE:
        return None
    return int(text) if name != "rate" and re.fullmatch(r"\d{1,9}", text) else text


def _kept(before: Retention | None, given: Mapping[str, str | None]) -> dict[str, Retention | None]:
    """`keep` as it is to be, if it is to change. `none` for its age lifts it as a whole."""
    if given["age"] == NONE:
        if given["succeeded"] is not None or given["failed"] is not None:
            message = "--keep none lifts the counts, too; give one of the two."
            raise ConfigError(message)
        return {"keep": None}
    keep = before if before is not None else Retention()
    changes: dict[str, Any] = {
        name: _count(name, text) for name, text in given.items() if name != "age" and text is not None
    }
    if given["age"] is not None:
        keep = replace(keep, age=seconds(given["age"], "--keep"))
    keep = replace(keep, **changes)
    return {"keep": keep} if changes or given["age"] is not None else {}


def _count(name: str, text: str) -> int | None:
    if text == NONE:
        return None
    if not re.fullmatch(r"\d{1,9}", text):
        message = f"--keep-{name}: {text!r} is no number of jobs; give an integer from 0, or `none` for all."
        raise ConfigError(message)
    return int(text)


def _cells(queue: Queue) -> list[str]:
    waiting, running = queue.counts.get(State.QUEUED, 0), queue.counts.get(State.RUNNING, 0)
    full = queue.max_size is not None and waiting >= queue.max_size
    return [
        queue.name,
        "paused" if queue.paused else "full" if full else "open",
        str(running) if queue.concurrency is None else f"{running}/{queue.concurrency}",
        str(waiting) if queue.max_size is None else f"{waiting}/{queue.max_size}",
        queue.rate or "",
        _per_time(queue.drain_rate),
        "" if queue.oldest_wait is None else spoken(queue.oldest_wait),
        "" if queue.pause is None else output.pause_text(queue.pause),
    ]


def _per_time(rate: float | None) -> str:
    """Jobs a second as people read them."""
    if rate is None:
        return ""
    unit, size = next(((unit, size) for unit, size in PERIODS if rate * size >= 1), PERIODS[-1])
    return f"{rate * size:.0f}/{unit}" if rate * size >= 10 else f"{rate * size:.1f}/{unit}"  # noqa: PLR2004


def _limits(queue: Queue) -> list[str]:
    found = []
    if queue.concurrency is not None:
        found.append(f"{queue.concurrency} at once")
    if queue.rate is not None:
        found.append(f"{queue.rate} started")
    if queue.max_size is not None:
        found.append(f"{queue.max_size} waiting")
    if (keep := queue.keep) is not None:
        found.append(f"kept for {spoken(keep.age)}")
        counts = {"succeeded": keep.succeeded, "failed": keep.failed}
        found += [f"{count} that {state}" for state, count in counts.items() if count is not None]
    return found
