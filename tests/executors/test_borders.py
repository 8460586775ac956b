"""Stops that are aimed at the borders of jobs hit the job that they name, or nothing."""

import asyncio
import bisect
import json
import os
import random
import time
from pathlib import Path

import pytest
from border_application import OPENS, RECORD, shared

from heavylift.core.job import Job, State
from heavylift.core.options import Options
from heavylift.core.outcome import Cancelled, Succeeded
from heavylift.executor import Application, StopReason
from heavylift.executors.link import Nanny
from heavylift.executors.pool import Pool
from heavylift.settings import Settings

STOPS = int(os.environ.get("HEAVYLIFT_TEST_BORDER_STOPS", "1000"))
OUTSTANDING = 12
JOBS_PER_STOP = 60  # room for so many
NEAR = 200e-6
EDGES = [-1e-2, -1e-3, -5e-4, -2e-4, -1e-4, -5e-5, 0.0, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2]
OPTIONS = Options()


class Stream:
    """Short jobs, one after another, and the stops that are sent among them."""

    task = "short"

    def __init__(self, pool, path):
        self.pool, self.path, self.memory = pool, str(path), shared(str(path))
        self.random = random.Random(7)
        self.jobs, self.over, self.stops = [], {}, {}
        self.outstanding, self.distances, self.near = {}, [], 0
        self.done = asyncio.get_running_loop().create_future()

    def give(self):
        slot = len(self.jobs)
        seconds = self.random.choice((0.0002, 0.0005, 0.0008, 0.0015))
        args = json.dumps({"path": self.path, "slot": slot, "seconds": seconds}).encode()
        job = Job(f"job-{slot}", self.task, args, self.options(slot), State.RUNNING, 0.0, 0.0, attempt=1)
        self.jobs.append((job, seconds))
        self.outstanding[slot] = seconds
        self.pool.run(job, lambda *_: None, lambda _, outcome: self.ended(slot, outcome))

    def options(self, _slot):
        return OPTIONS

    def ended(self, slot, outcome):
        self.over[slot] = (time.monotonic(), outcome)
        del self.outstanding[slot]
        distance = self.distance(slot)
        if distance is not None:
            self.distances.append(distance)
            self.near += abs(distance) <= NEAR
        if not self.enough:
            self.give()
        elif not self.outstanding:
            self.done.set_result(None)

    @property
    def enough(self):
        """On a busy machine the aim is bad, and more stops are needed for as many good ones."""
        return len(self.distances) >= STOPS and self.near >= 0.3 * STOPS

    def record(self, slot):
        return RECORD.unpack_from(self.memory, slot * RECORD.size)

    def aim(self):
        """Stop a job near its start or its end: one that runs, or that is about to."""
        given = [slot for slot in sorted(self.outstanding) if slot not in self.stops and self.is_in_host(slot)]
        running = [slot for slot in given if self.record(slot)[0]]
        if self.random.random() < 0.05:
            slot, moment = self.random.choice(list(self.outstanding)), time.monotonic()
        elif running and (len(running) == len(given) or self.random.random() < 0.6):
            slot = running[0]
            moment = self.record(slot)[0] + self.outstanding[slot]
        elif given:
            slot = next(slot for slot in given if slot not in running)
            latest = time.monotonic() + 3e-3
            while time.monotonic() < latest and not self.record(slot)[0]:
                pass
            moment = time.monotonic()
        else:
            return
        moment += self.random.uniform(-2e-4, 2e-4)
        while time.monotonic() < moment:
            pass
        self.stops.setdefault(slot, time.monotonic())
        self.pool.stop(f"job-{slot}", 1, StopReason.CANCEL, 60.0)

    def is_in_host(self, slot):
        run = self.pool._runs.get((f"job-{slot}", 1))
        return run is not None and run.host is not None

    def distance(self, slot):
        """From its stop to the nearest border of a job, in seconds; None if it was not stopped or never began."""
        borders = [border for border in self.record(slot)[:3] if border]
        if slot not in self.stops or not borders:
            return None
        return min((self.stops[slot] - border for border in borders), key=abs)


async def run_stream(path, kind=Stream):
    with path.open("wb") as file:
        file.truncate(STOPS * JOBS_PER_STOP * RECORD.size)
    here = str(Path(__file__).parent)
    nanny = await Nanny.start(Application("border_application", "lift", (), (here,)))
    pool = Pool(nanny, Settings(concurrency=2), patience=float("inf"))
    await pool.start()
    try:
        stream = kind(pool, path)
        for _ in range(OUTSTANDING):
            stream.give()
        while not stream.enough:
            if stream.outstanding:
                stream.aim()
            await asyncio.sleep(stream.random.uniform(0.0, 0.004))
        await stream.done
        return stream
    finally:
        await pool.close(0.0)


def print_histogram(distances):
    counts = [0] * (len(EDGES) + 1)
    for distance in distances:
        counts[bisect.bisect(EDGES, distance)] += 1
    print(f"\nstops by their distance from the nearest start or end of their job, of {len(distances)}:")
    for low, high, count in zip(["", *EDGES], [*EDGES, ""], counts, strict=True):
        bounds = [f"{edge * 1e6:8.0f}" if edge != "" else " " * 8 for edge in (low, high)]
        print(f"  {bounds[0]} … {bounds[1]} us {count:6d} {'#' * (60 * count // max(1, len(distances)))}")


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_stops_at_the_borders_of_jobs_hit_nobody_else(tmp_path):
    stream = await run_stream(tmp_path / "stamps")
    print_histogram(stream.distances)
    kinds = {}
    for slot, (at, outcome) in stream.over.items():
        start, end, stopped, starts = stream.record(slot)
        assert max(start, end, stopped) <= at, f"job {slot} ran on after its outcome"
        assert starts <= 1, f"job {slot} was started twice"
        if slot not in stream.stops:
            assert isinstance(outcome, Succeeded), f"job {slot} was not to be stopped: {outcome}"
        if isinstance(outcome, Succeeded):
            assert end
            assert not stopped
            kinds["succeeded"] = kinds.get("succeeded", 0) + (slot in stream.stops)
        elif outcome.started:
            assert isinstance(outcome, Cancelled)
            assert not outcome.killed
            assert not end, f"job {slot} returned and is reported as cancelled"
            kinds["cancelled"] = kinds.get("cancelled", 0) + 1
        else:
            assert not start, f"job {slot} began and is reported as not started"
            kinds["not started"] = kinds.get("not started", 0) + 1
    print(f"{len(stream.over)} jobs; of those to be stopped: {kinds}")
    assert len(stream.over) == len(stream.jobs)
    assert stream.near >= 0.3 * STOPS


class ProvidedStream(Stream):
    """The same with dependencies: a job starts when the first one begins to open."""

    task = "short_provided"

    def options(self, slot):
        return Options(labels={"path": self.path, "slot": str(slot)})


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_stops_at_the_borders_of_dependencies_leave_none_open(tmp_path):
    opens = tmp_path / "stamps.opens"
    with opens.open("wb") as file:
        file.truncate(STOPS * JOBS_PER_STOP * OPENS.size)
    stream = await run_stream(tmp_path / "stamps", ProvidedStream)
    print_histogram(stream.distances)
    between = 0
    for slot, (_, outcome) in stream.over.items():
        first, second, called, closed_first, closed_second = OPENS.unpack_from(shared(str(opens)), slot * OPENS.size)
        assert isinstance(outcome, Succeeded | Cancelled), outcome
        assert isinstance(outcome, Succeeded) or not outcome.killed
        if slot not in stream.stops:
            assert isinstance(outcome, Succeeded), f"job {slot} was not to be stopped: {outcome}"
        assert closed_first or not first, f"job {slot} left its first dependency open: {outcome}"
        assert closed_second or not second, f"job {slot} left its second dependency open: {outcome}"
        assert first or not second
        assert not called or (first and second)
        if closed_first and closed_second:
            assert closed_second < closed_first
        between += bool(first) and not called
    print(f"{len(stream.over)} jobs, {len(stream.stops)} to be stopped; {between} while their dependencies opened")
    assert between
    assert len(stream.over) == len(stream.jobs)
