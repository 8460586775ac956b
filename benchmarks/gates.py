"""What a job costs that waits for nothing, while a million others wait at closed gates: at limits of keys that are
reached, in a paused queue, and at a rate that is used up. The store alone: each job is claimed and settled.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.claims import BATCH, ME, OTHER, in_turn, multiply, opened, path, submitted
from benchmarks.machine import Foreign
from benchmarks.report import Line, at_most, median, say
from heavylift.core import lifecycle
from heavylift.core.limits import Concurrency, Rate
from heavylift.core.options import Options, Slots
from heavylift.core.outcome import Succeeded
from heavylift.store import Store

LIMIT = 1.2
COPIES = 8
"""Jobs that wait at each key."""
PAUSED = "paused"
SPENT = Rate("1/day", key="spent")
SIZES = (100, 1)
FEW, CROWD = "gates-few", "gates-crowd"
CASES = (FEW, CROWD)


def run(*, quick: bool) -> list[Line]:
    """Both stores in turn, so that each round sees the same machine."""
    keys, rounds = (1_000, 20) if quick else (100_000, 60)
    with tempfile.TemporaryDirectory() as folder, Foreign() as foreign:
        times, waiting = asyncio.run(measure(Path(folder), keys, rounds))
    say(f"gates: {rounds} rounds; {foreign}")
    lines = []
    for size in SIZES:
        value, reference = (median(times[case, size]) * 1e6 for case in reversed(CASES))
        what = f"CPU to claim and settle {size}, {waiting:,} jobs at closed gates ({keys:,} keys)"
        lines.append(Line("gates", what, value, "us", reference, "no other job", at_most(LIMIT)))
    return lines


async def measure(folder: Path, keys: int, rounds: int) -> tuple[dict[tuple[str, int], list[float]], int]:
    """CPU seconds of each claim with its settling, by case and size; how many jobs wait meanwhile."""
    waiting = await prepare(folder, keys)
    times: dict[tuple[str, int], list[float]] = {(case, size): [] for case in CASES for size in SIZES}
    async with contextlib.AsyncExitStack() as stack:
        stores = {case: await stack.enter_async_context(opened(folder, case)) for case in CASES}
        for number in range(rounds + 1):
            for size in SIZES:
                for case in in_turn(number, CASES):
                    seconds = await claim_and_settle(stores[case], size)
                    if number:  # the first round warms up
                        times[case, size].append(seconds)
    return times, waiting


async def claim_and_settle(store: Store, size: int) -> float:
    """CPU seconds of this thread, on which the store does its work; so many jobs are added before."""
    await store.add([submitted(Options()) for _ in range(size)])
    began = time.thread_time()
    jobs = await store.claim(ME.id, ME.epoch, Slots(100))
    now = time.time()
    saved = await store.save([lifecycle.settle(job, Succeeded(b"null"), now) for job in jobs])
    seconds = time.thread_time() - began
    if len(jobs) != size or None in saved:
        message = f"{len(jobs)} jobs were claimed instead of {size}, and {saved.count(None)} not settled."
        raise RuntimeError(message)
    return seconds


async def prepare(folder: Path, keys: int) -> int:
    """Both stores; how many jobs wait in the second one: by far the most at keys of which one job runs, some in a
    paused queue, as many at a rate that lets the next one start tomorrow. All but the paused ones stand in the queue of
    the jobs that are measured.
    """
    say(f"gates: filling a store with {keys:,} keys")
    async with opened(folder, FEW):
        pass
    async with opened(folder, CROWD) as store:
        few = max(1, keys // 2 // COPIES)
        await add_all(store, keys, keyed)
        await claim_all(store, keys)
        await add_all(store, keys, keyed)
        await store.set_queue(PAUSED, paused=True)
        paused, spent = Options(queue=PAUSED), Options(limits=(SPENT,))
        await add_all(store, few, lambda _: paused)
        await add_all(store, few + 1, lambda _: spent)
        await claim_all(store, 1)
    multiply(path(folder, CROWD), COPIES)
    return (keys + few + few) * COPIES


def keyed(number: int) -> Options:
    """Of a job at the limit of a key."""
    return Options(limits=(Concurrency(1, key=f"account {number}"),))


async def add_all(store: Store, count: int, options: Callable[[int], Options]) -> None:
    """Add so many jobs."""
    for first in range(0, count, BATCH):
        await store.add([submitted(options(number)) for number in range(first, min(count, first + BATCH))])


async def claim_all(store: Store, count: int) -> None:
    """Have the other worker run so many jobs, and look that no other one can be claimed."""
    claimed = 0
    while jobs := await store.claim(OTHER.id, OTHER.epoch, Slots(BATCH)):
        claimed += len(jobs)
    if claimed != count:
        message = f"{claimed:,} jobs run instead of {count:,}."
        raise RuntimeError(message)
