"""`logs`: what a job has written to its log, and with --follow what it is writing."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

from heavylift.cli import find, ids, output
from heavylift.cli.exits import Exit
from heavylift.cli.follow import until_now
from heavylift.cli.jobs import left
from heavylift.cli.opened import run
from heavylift.core import event
from heavylift.http import render

if TYPE_CHECKING:
    from rich.console import Console

    from heavylift.core.event import Event


def printed(store: str | None, app: str | None, job_id: str, *, follow: bool, as_json: bool) -> Exit:
    """Print the log of a job, until now or until the job is over."""
    lift, followed = find.opened_by(store, app), ""
    out = None if as_json else output.console()

    async def work() -> bool:
        nonlocal followed
        job, found = await ids.find(lift.client, job_id), False
        followed = job.id
        async with aclosing(lift.client.events(job.id) if follow else until_now(lift.client, job)) as events:
            async for item in events:
                if item.kind == event.LOG:
                    _print(out, item)
                    found = True
        return found

    try:
        found = run(lift, work)
    except KeyboardInterrupt:
        return left(followed)
    if not found:
        sys.stderr.write(f"Job {followed} has written nothing to its log.\n")
    return Exit.OK


def _print(out: Console | None, item: Event) -> None:
    """The lines of one event; as JSON without a console."""
    dropped = item.data.get("dropped")
    if out is not None:
        for line in item.data["lines"]:
            out.print(output.log_line(line["at"], line["level"], line["message"]))
        if dropped:
            out.print(f"({dropped} lines dropped: the log was full)")
        return
    for line in render.fact(item)["lines"]:
        output.data(line)
    if dropped:
        output.data({"at": render.moment(item.at), "dropped": dropped})
    sys.stdout.flush()  # whoever follows reads it now
