"""`python -m benchmarks [NAME …] [--quick] [--json]`: measure, compare with the targets, and say so."""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import sys
import traceback
from typing import TYPE_CHECKING

from benchmarks import machine
from benchmarks.report import Line, say, table

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = (
    *("pool", "drain", "async_drain", "fair", "claims", "gates", "submit_busy", "submit_http", "latency", "sse", "cpu"),
    *("memory", "stop", "poison", "healthz", "help"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for. A missed target is no failure; a benchmark that could not be run is (exit code 1)."""
    options = parse(arguments)
    head = machine.head()
    for name, value in head.items():
        say(f"{name:9} {value}")
    lines: list[Line] = []
    broken = []
    for name in options.names or NAMES:
        try:
            lines += importlib.import_module(f"benchmarks.{name}").run(quick=options.quick)
        except Exception:  # noqa: BLE001  the others are run all the same
            traceback.print_exc()
            broken.append(name)
        gc.collect()
    if options.json:
        result = {"head": head, "quick": options.quick, "lines": [line.data() for line in lines], "broken": broken}
        print(json.dumps(result, indent=2))
    else:
        print(summary(lines, broken, quick=options.quick))
    return 1 if broken else 0


def summary(lines: Sequence[Line], broken: Sequence[str], *, quick: bool) -> str:
    """The table, the notes, and how many targets are met."""
    judged = [line for line in lines if line.met is not None]
    parts = [table(lines)]
    parts += [f"{line.benchmark}, {line.what}: {line.note}" for line in lines if line.note]
    parts.append(f"{sum(line.met is True for line in judged)} of {len(judged)} targets met.")
    if quick:
        parts.append("Quick sizes: good enough to see that it runs, not to judge.")
    if broken:
        parts.append(f"Could not be run: {', '.join(broken)}.")
    return "\n".join(["", *parts])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Heavylift on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it runs")
    parser.add_argument("--json", action="store_true", help="the results as JSON")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in NAMES:
            parser.error(f"there is no benchmark {name!r}; choose from {', '.join(NAMES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
