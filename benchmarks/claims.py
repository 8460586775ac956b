"""What a claim costs when a million jobs wait that it must not return: scheduled ones, or behind a closed gate."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from benchmarks.machine import Foreign
from benchmarks.report import Line, at_most, median, say
from heavylift.core import lifecycle
from heavylift.core.job import Job, NewEvent, new_id
from heavylift.core.options import Options, Slots
from heavylift.store import Store, WorkerRecord
from heavylift.stores import open_store
from heavylift.submission import ID_BYTES

LIMIT = 1.2
CROWD = "crowd"
BATCH = 1000
COPIES = 100
SIZES = (100, 1, 0)
"""Jobs that a claim returns; 0: it is asked for 100, and nothing is due."""
LEASE = 3600.0
ME = WorkerRecord("claims", 1, "localhost", os.getpid(), 0, "boot", "namespace", concurrency=100)
OTHER = WorkerRecord("other", 1, "localhost", os.getpid(), 0, "boot", "namespace", concurrency=1)
CASES = {
    "few": "only a few jobs",
    "scheduled": "{:,} jobs scheduled",
    "paused": "{:,} jobs in a paused queue",
    "full": "{:,} jobs in a queue at its concurrency",
}


def run(*, quick: bool) -> list[Line]:
    """Claims in turn from four stores, so that each round sees the same machine."""
    crowd, rounds = (20_000, 20) if quick else (1_000_000, 60)
    with tempfile.TemporaryDirectory() as folder, Foreign() as foreign:
        times = asyncio.run(measure(Path(folder), crowd, rounds))
    say(f"claims: {rounds} rounds; {foreign}")
    lines = []
    for size in SIZES:
        reference = median(times["few", size]) * 1e6
        for case, name in list(CASES.items())[1:]:
            what = f"claim of {size or 'nothing'}, {name.format(crowd)}"
            value = median(times[case, size]) * 1e6
            lines.append(Line("claims", what, value, "us", reference, CASES["few"], at_most(LIMIT)))
    return lines


async def measure(folder: Path, crowd: int, rounds: int) -> dict[tuple[str, int], list[float]]:
    """Seconds of each claim, by case and size."""
    await prepare(folder, crowd)
    times: dict[tuple[str, int], list[float]] = {(case, size): [] for case in CASES for size in SIZES}
    async with contextlib.AsyncExitStack() as stack:
        stores = {case: await stack.enter_async_context(opened(folder, case)) for case in CASES}
        for number in range(rounds + 1):
            for size in SIZES:
                for case in in_turn(number):
                    seconds = await claim(stores[case], size)
                    if number:  # the first round warms up
                        times[case, size].append(seconds)
    return times


def in_turn(number: int, names: Iterable[str] = CASES) -> list[str]:
    """The cases, another one first in each round."""
    cases = list(names)
    first = number % len(cases)
    return cases[first:] + cases[:first]


async def claim(store: Store, size: int) -> float:
    """Seconds of a claim that returns so many jobs: they are added before, and nothing else is due."""
    await store.add([submitted(Options()) for _ in range(size)])
    began = time.perf_counter()
    jobs = await store.claim(ME.id, ME.epoch, Slots(size or 100))
    seconds = time.perf_counter() - began
    if len(jobs) != size:
        message = f"The claim returned {len(jobs)} jobs instead of {size}."
        raise RuntimeError(message)
    return seconds


async def prepare(folder: Path, crowd: int) -> None:
    """The four stores; the one of the full queue begins as a copy of the paused one."""
    say(f"claims: filling two stores with {crowd:,} jobs each")
    async with opened(folder, "few"):
        pass
    async with opened(folder, "scheduled") as store:
        await fill(store, Options(delay=86400.0), crowd // COPIES)
    multiply(path(folder, "scheduled"), COPIES)
    async with opened(folder, "paused") as store:
        await store.set_queue(CROWD, paused=True)
        await fill(store, Options(queue=CROWD), crowd // COPIES)
    multiply(path(folder, "paused"), COPIES)
    shutil.copy(path(folder, "paused"), path(folder, "full"))
    async with opened(folder, "full") as store:
        await store.set_queue(CROWD, paused=False, concurrency=1)
        if len(await store.claim(OTHER.id, OTHER.epoch, Slots(10), (CROWD,))) != 1:
            message = "The queue is not at its concurrency."
            raise RuntimeError(message)


async def fill(store: Store, options: Options, count: int) -> None:
    """Add so many jobs."""
    for first in range(0, count, BATCH):
        await store.add([submitted(options) for _ in range(min(BATCH, count - first))])


def multiply(file: Path, copies: int) -> None:
    """Have each waiting job of a closed store stand there so many times: adding a million takes minutes."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(job)")]
        others = ", ".join(name for name in columns if name not in ("number", "id"))
        last = connection.execute("SELECT max(number) FROM job").fetchone()[0]
        connection.execute("BEGIN")
        for copy in range(1, copies):
            connection.execute(
                f"INSERT INTO job(id, {others}) SELECT printf('%08x', ?1) || substr(id, 9), {others}"
                " FROM job WHERE number <= ?2 AND state IN (1, 2)",
                (copy, last),
            )
        connection.execute("UPDATE queue SET queued = queued * ?", (copies,))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextlib.asynccontextmanager
async def opened(folder: Path, case: str) -> AsyncIterator[Store]:
    """The store of a case, with both workers registered."""
    store = open_store(f"sqlite:///{path(folder, case)}", inline=True)
    await store.open()
    try:
        for worker in (ME, OTHER):
            await store.beat(worker, LEASE)
        yield store
    finally:
        await store.close()


def path(folder: Path, case: str) -> Path:
    """The file of a case."""
    return folder / f"{case}.db"


def submitted(options: Options) -> tuple[Job, NewEvent]:
    """A new job, as a client hands it to the store."""
    now = time.time()
    return lifecycle.submit(new_id(now, os.urandom(ID_BYTES)), "noop", b"{}", options, now)
