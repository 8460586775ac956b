"""The least worker: claims 200 at a time from the least store, runs them in the least pool, stores the results.

`python -m benchmarks.floors.drain JOBS` prints the seconds that one drain of a backlog took.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.floors.pool import Pool, Result
from benchmarks.floors.store import Store

CLAIM = 200
DEPTH = 64
CHILDREN = 2
WINDOW = DEPTH * CHILDREN + CLAIM
"""Jobs that are claimed and not finished, at most."""
BATCH = 1000
ARGS = msgspec.msgpack.encode({"user": 123, "path": "/data/in/image-000123.png", "size": [640, 480]})


class Worker:
    """Claims, runs, stores."""

    def __init__(self, store: Store, pool: Pool, jobs: int) -> None:
        self._store, self._pool = store, pool
        self._in_flight = 0
        self._fence = 0
        self._left = jobs
        self._unsaved: list[tuple[bytes, float, int, int]] = []
        self._room = asyncio.Event()
        self._over = asyncio.Event()

    async def drain(self) -> None:
        """Run all jobs; over when the last result is stored."""
        claims = asyncio.create_task(self._claim())
        self._room.set()
        await self._over.wait()
        claims.cancel()

    async def _claim(self) -> None:
        while True:
            await self._room.wait()
            self._room.clear()
            while self._in_flight <= WINDOW // 2:
                self._fence += 1
                limit = min(CLAIM, WINDOW - self._in_flight)
                numbers = self._store.claim(limit, time.time(), self._fence)
                for number in numbers:
                    self._start(number, self._fence)
                if len(numbers) < limit:
                    break
                await asyncio.sleep(0)

    def _start(self, number: int, fence: int) -> None:
        self._in_flight += 1
        self._pool.submit(number).add_done_callback(lambda result: self._finished(number, fence, result))

    def _finished(self, number: int, fence: int, result: Result) -> None:
        self._in_flight -= 1
        if not self._unsaved:
            asyncio.get_running_loop().call_soon(self._save)
        self._unsaved.append((msgspec.msgpack.encode(result.result()), time.time(), number, fence))

    def _save(self) -> None:
        rows, self._unsaved = self._unsaved, []
        self._store.finish(rows)
        self._left -= len(rows)
        if self._left == 0:
            self._over.set()
        if self._in_flight <= WINDOW // 2:
            self._room.set()


async def measure(jobs: int) -> float:
    """Seconds for one drain."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "jobs.db"))
        pool = Pool(DEPTH)
        await pool.start(CHILDREN)
        now = time.time()
        for first in range(0, jobs, BATCH):
            store.add([(now, ARGS, now)] * min(BATCH, jobs - first))
        worker = Worker(store, pool, jobs)
        began = time.perf_counter()
        await worker.drain()
        seconds = time.perf_counter() - began
        pool.close()
        store.close()
        return seconds


if __name__ == "__main__":
    print(asyncio.run(measure(int(sys.argv[1]))))
