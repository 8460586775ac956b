"""`migrate` and `prune`: what a store needs now and then."""

from __future__ import annotations

import sys

from heavylift import housekeeping
from heavylift.cli import find, output
from heavylift.cli.exits import Exit
from heavylift.cli.opened import run
from heavylift.core.retention import Retention
from heavylift.core.units import seconds
from heavylift.store import Schema, SystemClock

HOW_OLD = (
    "How old? Only an application says how long its jobs are kept: give --older-than TIME, or --app module:attribute,"
    " or set HEAVYLIFT_APP."
)


def migrate(store: str | None, app: str | None, *, as_json: bool) -> Exit:
    """Bring the store's schema up to date, which opening it does, and print what it was and is."""
    lift = find.opened_by(store, app)

    async def work() -> Schema:
        return lift.store.schema

    schema = run(lift, work)
    if as_json:
        output.data({"store": lift.store_url, "before": schema.before, "after": schema.after})
    elif schema.before == schema.after:
        sys.stdout.write(f"schema {schema.after}, up to date  {lift.store_url}\n")
    else:
        sys.stdout.write(f"schema {schema.before} -> {schema.after}  {lift.store_url}\n")
    return Exit.OK


def prune(store: str | None, app: str | None, older_than: str | None, *, as_json: bool) -> Exit:
    """Remove finished jobs, and print how many: those that are older, else those that the application lets go."""
    if older_than is not None:
        retention = Retention(seconds(older_than, "--older-than"))
        lift = find.opened_by(store, app)
    else:
        # The defaults must not decide what is removed from the store of an application that keeps its jobs longer.
        lift = find.present(find.configured(app, store, HOW_OLD))
        retention = housekeeping.retention(lift.settings)
    removed = run(lift, lambda: housekeeping.prune(lift.store, retention, SystemClock()))
    if as_json:
        output.data({"store": lift.store_url, "removed": removed})
    else:
        sys.stdout.write(f"{removed} finished {'job' if removed == 1 else 'jobs'} removed  {lift.store_url}\n")
    return Exit.OK
