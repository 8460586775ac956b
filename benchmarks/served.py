"""The application, served on a port that is free; its address goes to standard output when it answers.

BENCHMARK_ROLE is "monolith" (the default: with a worker) or "api".
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping

from benchmarks.workers import ROOT, environment


def announce(address: str) -> None:
    """Tell whoever started us."""
    print(address, flush=True)


@contextlib.contextmanager
def started(module: str, variables: Mapping[str, str]) -> Iterator[int]:
    """A server in a process of its own, which tells its address on standard output; the port that answers."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env=environment() | variables,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            if not address:
                errors.seek(0)
                message = f"The server does not answer.\n{errors.read().decode(errors='replace')}"
                raise RuntimeError(message)
            yield int(address.rpartition(":")[2])
        finally:
            process.terminate()
            process.communicate()


def main() -> int:
    """Serve."""
    from benchmarks.application import lift  # noqa: PLC0415  whoever starts us needs neither
    from heavylift.http.server import serve  # noqa: PLC0415

    role = os.environ.get("BENCHMARK_ROLE", "monolith")
    return serve(lift, "127.0.0.1", 0, "api" if role == "api" else "monolith", announce)


if __name__ == "__main__":
    sys.exit(main())
