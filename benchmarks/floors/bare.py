"""Two bare processes, each with its share of the work, and nothing else: the ideal of CPU-bound jobs.

`python -m benchmarks.floors.bare PROCESSES JOBS MILLISECONDS` prints the seconds from go to the end of the last one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from benchmarks.floors.work import burn

HOST_NICE = 10
"""What hosts add to their niceness, by default."""


def measure(processes: int, jobs: int, milliseconds: float) -> float:
    """Seconds that `processes` forked children take for `jobs` in all; forking them is not counted."""
    wait, go = os.pipe()
    children = []
    for index in range(processes):
        child = os.fork()
        if child == 0:
            os.close(go)
            as_nice_as_hosts()
            os.read(wait, 1)
            for _ in range(index, jobs, processes):
                burn(milliseconds)
            os._exit(0)
        children.append(child)
    os.close(wait)
    time.sleep(0.05)
    began = time.perf_counter()
    os.close(go)
    for child in children:
        os.waitpid(child, 0)
    return time.perf_counter() - began


def as_nice_as_hosts() -> None:
    """A session and a niceness like a host's, so that other load on the machine weighs the same on both."""
    os.setsid()
    niceness = os.nice(HOST_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))


if __name__ == "__main__":
    print(measure(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
