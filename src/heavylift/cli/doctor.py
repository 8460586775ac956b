"""`doctor`: what could keep jobs from running, each with its fix: the machine, the store, the workers, the queues."""

from __future__ import annotations

import asyncio
import platform
import sys
import time
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from heavylift.cli import find, machine, output
from heavylift.cli.exits import Exit
from heavylift.cli.inspection import Inspection, inspect
from heavylift.core.errors import ConfigError
from heavylift.core.finding import Finding, Level, fail, ok, warn
from heavylift.core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heavylift.app import Heavylift

STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
NAMES = {Level.OK: ("ok", "ok"), Level.WARN: ("warning", "warnings"), Level.FAIL: ("failure", "failures")}


def examine(app: str | None, store: str | None, *, as_json: bool) -> Exit:
    """Print a line for each check; the exit code is 1 when one failed."""
    lift, found = _application(app, store)
    seen = Inspection() if lift is None else asyncio.run(inspect(lift, lift.registry))
    here, hosts = machine.look(), _hosts(lift)
    size, measured = machine.host_size(seen.local), "the largest that runs here"
    if size is None and lift is not None and lift.registry:
        size, measured = machine.own_size(), "at most, as imported here"
    found += [
        machine.cores(here, hosts),
        machine.memory(here, hosts, size, measured),
        machine.files(here, hosts),
        machine.clock(time.time(), seen.drift, seen.newest),
        *seen.findings,
    ]
    _print(found, as_json=as_json)
    return Exit.FAILED if any(finding.level is Level.FAIL for finding in found) else Exit.OK


def _application(app: str | None, store: str | None) -> tuple[Heavylift | None, list[Finding]]:
    """What is to be examined, and where the store's URL came from; None when it cannot be told or imported."""
    program = ok("program", f"heavylift {VERSION}, Python {platform.python_version()}, {platform.system()}")
    if platform.system() != "Linux":
        program = warn("program", program.what, "Workers run on Linux; elsewhere use it as a client.")
    try:
        lift = find.examined(store, app)
    except ConfigError as error:
        what, _, step = str(error).partition("? " if str(error).startswith("Which") else "\n")
        if what == "Which store":
            what = "nothing says which"
        return None, [program, fail("store", what, step.strip() or "Give --store URL, or an APP that imports.")]
    source = lift.settings.origins.get("store", "the default")
    said = {"store": "the command line" if store is not None else "the application's code"}.get(source, source)
    return lift, [program, ok("store", f"{lift.store_url}, from {said}")]


def _hosts(lift: Heavylift | None) -> int:
    asked = 0 if lift is None else lift.settings.concurrency
    return asked or machine.usable_cpus(machine.look())


def _print(found: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        for finding in found:
            output.data(asdict(finding))
        return
    if not sys.stdout.isatty():
        for finding in found:
            sys.stdout.write("\t".join(filter(None, (finding.level, finding.check, finding.what, finding.fix))) + "\n")
        return
    out = output.console()
    for finding in found:
        mark = f"[{STYLES[finding.level]}]{finding.level:<5}[/]"
        output.hanging(out, mark, 5, f"{finding.check:<12}{finding.what}", 12)
        if finding.fix:
            output.hanging(out, "", 17, f"→ {finding.fix}", 2)
    counts = Counter(finding.level for finding in found)
    out.print(
        "\n"
        + " · ".join(f"{counts[level]} {names[counts[level] != 1]}" for level, names in NAMES.items() if counts[level])
    )
