"""The commands about queues: what stands in them, and whether their jobs are started."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from heavylift.cli import find, output
from heavylift.cli.exits import Exit
from heavylift.cli.opened import run
from heavylift.core.errors import ConfigError, did_you_mean
from heavylift.core.job import State
from heavylift.core.options import NAME
from heavylift.core.units import spoken
from heavylift.http import render

if TYPE_CHECKING:
    from heavylift.core.queue import Queue

HEADS = ("NAME", "PAUSED", "RUNNING", "QUEUED", "CONCURRENCY", "MAX SIZE", "OLDEST WAIT")


def listed(store: str | None, app: str | None, *, as_json: bool) -> Exit:
    """Print all queues."""
    lift = find.opened_by(store, app)
    found = run(lift, lift.client.queues)
    if as_json:
        for queue in found:
            output.data(render.queue(queue))
        return Exit.OK
    output.table(
        HEADS,
        map(_cells, found),
        gives_way=("MAX SIZE", "CONCURRENCY", "OLDEST WAIT"),
        styles={"PAUSED": {"yes": "yellow"}},
    )
    if not found:
        sys.stderr.write(f"No queue in {lift.store_url} has had a job yet.\n")
    return Exit.OK


def switched(store: str | None, app: str | None, name: str, *, pause: bool, as_json: bool) -> Exit:
    """Pause or resume a queue, and print what it is then.

    A queue can be paused before it has a job, but there is nothing to resume in one that nobody knows.
    """
    if not NAME.fullmatch(name):
        message = f"{name!r} cannot name a queue; give 1-128 letters, digits, '.', '_', ':' or '-'."
        raise ConfigError(message)
    lift = find.opened_by(store, app)

    async def work() -> tuple[Queue, list[str]]:
        known = [queue.name for queue in await lift.client.queues()]
        if pause:
            return await lift.client.pause(name), known
        if name not in known:
            message = f"There is no queue {name!r}.{did_you_mean(name, known)} (queues: {', '.join(known) or 'none'})"
            raise ConfigError(message)
        return await lift.client.resume(name), known

    queue, known = run(lift, work)
    if as_json:
        output.data(render.queue(queue))
    else:
        sys.stdout.write(f"{'paused' if queue.paused else 'resumed'}  {queue.name}\n")
    if name not in known:
        sys.stderr.write(f"No job has stood in queue {name!r} yet.{did_you_mean(name, known)}\n")
    return Exit.OK


def _cells(queue: Queue) -> list[str]:
    return [
        queue.name,
        "yes" if queue.paused else "no",
        str(queue.counts.get(State.RUNNING, 0)),
        str(queue.counts.get(State.QUEUED, 0)),
        "" if queue.concurrency is None else str(queue.concurrency),
        "" if queue.max_size is None else str(queue.max_size),
        "" if queue.oldest_wait is None else spoken(queue.oldest_wait),
    ]
