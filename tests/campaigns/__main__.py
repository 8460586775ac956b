"""The fault campaigns at full size: `python -m tests.campaigns [NAME …] [--minutes M]`.

Exit code 1: a promise is broken.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.campaigns import drains, kills, limits, runaways, soak
from tests.campaigns.report import Report

CAMPAIGNS: dict[str, Callable[[Path, float], Awaitable[Report]]] = {
    "workers": lambda folder, _: kills.kill_workers(folder, 2000, 50),
    "hosts": lambda folder, _: kills.kill_hosts(folder, 1000, 200),
    "anything": lambda folder, _: kills.kill_anything(folder, 500),
    "limits": lambda folder, _: limits.limits(folder),
    "drain": lambda folder, _: drains.drain(folder, 3),
    "runaways": lambda folder, _: runaways.stop_runaways(folder, 1.0, 1.0),
    "soak": lambda folder, minutes: soak.soak(folder, 60 * minutes),
}


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CAMPAIGNS)}; default: all")
    parser.add_argument("--minutes", type=float, default=15.0, help="of the soak")
    given = parser.parse_args()
    if unknown := set(given.names) - set(CAMPAIGNS):
        parser.error(f"there is no campaign {', '.join(sorted(unknown))}")
    broken = False
    for name in given.names or CAMPAIGNS:
        with tempfile.TemporaryDirectory(prefix=f"heavylift-{name}-") as folder:
            report = await CAMPAIGNS[name](Path(folder), given.minutes)
            print(report, flush=True)
            if report.wrong:
                kept = Path(tempfile.gettempdir()) / f"heavylift-{name}-serve.log"
                kept.write_bytes((Path(folder) / "serve.log").read_bytes())
                print(f"  the server's log: {kept}")
            broken |= bool(report.wrong) or not all(figure.met for figure in report.figures)
    return int(broken)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
