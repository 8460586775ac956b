"""The application, served on a port that is free; its address goes to standard output when it answers."""

from __future__ import annotations

import sys

from benchmarks.application import lift
from heavylift.http.server import serve


def announce(address: str) -> None:
    """Tell whoever started us."""
    print(address, flush=True)


if __name__ == "__main__":
    sys.exit(serve(lift, "127.0.0.1", 0, announce=announce))
