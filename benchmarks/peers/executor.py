"""No-op calls a second through a ProcessPoolExecutor of two processes, by `map` and by many futures.

`python -m benchmarks.peers.executor CALLS ROUNDS` prints them as JSON: for each round {map, futures}.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from benchmarks.floors.work import noop

PROCESSES = 2


def measure(calls: int, rounds: int) -> list[dict[str, float]]:
    """The rates of each round; the processes are forked and warm before."""
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("fork")) as executor:

        def by_map() -> int:
            return sum(executor.map(noop, range(calls)))

        def by_futures() -> int:
            return sum(future.result() for future in [executor.submit(noop, number) for number in range(calls)])

        by_futures()
        return [{"map": rate(by_map, calls), "futures": rate(by_futures, calls)} for _ in range(rounds)]


def rate(work: Callable[[], int], calls: int) -> float:
    """Calls a second; the sum of their results is checked."""
    began = time.perf_counter()
    total = work()
    seconds = time.perf_counter() - began
    assert total == calls * (calls - 1) // 2
    return calls / seconds


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
