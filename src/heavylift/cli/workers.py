"""`workers`: who works on the jobs of a store."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from heavylift.cli import find, output
from heavylift.cli.exits import Exit
from heavylift.cli.opened import run
from heavylift.core.units import spoken
from heavylift.http import render

if TYPE_CHECKING:
    from heavylift.store import WorkerStatus

HEADS = ("ID", "HOST", "PID", "STATE", "RUNNING", "QUEUES", "LAST BEAT")
STYLES = {"alive": "green", "draining": "yellow", "dead": "red"}


def listed(store: str | None, app: str | None, *, as_json: bool) -> Exit:
    """Print all workers."""
    lift = find.opened_by(store, app)
    found = run(lift, lift.client.workers)
    if as_json:
        for status in found:
            output.data(render.worker(status))
        return Exit.OK
    output.table(HEADS, map(_cells, found), gives_way=("ID", "HOST", "QUEUES"), styles={"STATE": STYLES})
    if not any(not status.dead for status in found):
        sys.stderr.write("No worker is alive; `heavylift worker APP` starts one, and `heavylift serve APP` too.\n")
    return Exit.OK


def _cells(status: WorkerStatus) -> list[str]:
    worker = status.worker
    return [
        worker.id,
        worker.hostname,
        str(worker.pid),
        render.worker_state(status),
        f"{worker.running}/{worker.concurrency}",
        ",".join(worker.queues) or "all",
        f"{spoken(status.beat_age)} ago",
    ]
