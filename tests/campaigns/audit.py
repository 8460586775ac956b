"""The auditor: what the jobs themselves wrote, held against what the store says of them."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heavylift import State
from heavylift.client import Client
from heavylift.core.job import Job

SLACK = 0.005
"""Seconds by which two clocks may differ: jobs write monotonic time, records have the wall's."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of the jobs' own file. `at` seconds of the monotonic clock."""

    kind: str
    job: str
    attempt: int
    pid: int
    at: float


def marks(path: Path) -> list[Mark]:
    """All lines so far; one that is just being written counts at the next look."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        kind, job, attempt, pid, at = line.split()
        found.append(Mark(kind, job, int(attempt), int(pid), int(at) / 1e9))
    return found


@dataclass(frozen=True, slots=True)
class Expected:
    """How a job has to end: its state, its result as JSON bytes, the code of its error."""

    state: State = State.SUCCEEDED
    result: bytes | None = None
    code: str | None = None


async def all_over(client: Client) -> bool:
    """Whether no job is left that could run; asks for counts alone."""
    return not any(
        count for queue in await client.queues() for state, count in queue.counts.items() if not State(state).final
    )


async def rest(client: Client, seconds: float) -> None:
    """Time for whoever would wrongly start a job again."""
    began = time.monotonic()
    while time.monotonic() - began < seconds or not await all_over(client):
        await asyncio.sleep(0.1)


async def violations(client: Client, expected: Mapping[str, Expected], path: Path) -> list[str]:
    """What is wrong, a sentence each: a job lost or stuck, with two ends, run twice or after its end, an attempt that
    nobody counted, an end that it cannot have had.
    """
    ahead = time.time() - time.monotonic()
    starts: dict[str, list[Mark]] = {}
    ends: dict[str, set[int]] = {}
    for mark in marks(path):
        if mark.kind == "start":
            starts.setdefault(mark.job, []).append(mark)
        elif mark.kind == "end":
            ends.setdefault(mark.job, set()).add(mark.attempt)
    wrong = []
    ids = list(expected)
    for at in range(0, len(ids), 200):
        batch = ids[at : at + 200]
        for job_id, job in zip(batch, await client.store.get(batch), strict=True):
            if job is None:
                wrong.append(f"{job_id} is lost")
                continue
            mine = starts.get(job_id, [])
            wrong += await _of_one(client, job, expected[job_id], mine, ends.get(job_id, set()), ahead)
    return wrong


async def _of_one(
    client: Client, job: Job, expected: Expected, starts: list[Mark], ends: set[int], ahead: float
) -> list[str]:
    wrong = _of_attempts(job, starts, ahead) + _of_end(job, expected, ends)
    events = await client.store.events({job.id: 0}, limit=10_000)
    finals = [event for event in events if event.kind == "state" and State(event.data["state"]).final]
    if len(finals) != 1:
        wrong.append(f"{job.id} has {len(finals)} ends")
    # Progress is thinned out; nothing else may be missing.
    numbers = [event.seq for event in events]
    if numbers != sorted(set(numbers)) or numbers[-1] != job.seq:
        wrong.append(f"{job.id}: numbers of events repeat, go back or end too early")
    return wrong


def _of_attempts(job: Job, starts: list[Mark], ahead: float) -> list[str]:
    wrong = []
    twice = [attempt for attempt, count in Counter(mark.attempt for mark in starts).items() if count > 1]
    if twice:
        wrong.append(f"{job.id}: attempts {twice} began twice")
    if any(mark.attempt > job.attempt for mark in starts):
        wrong.append(f"{job.id} began an attempt that nobody counted")
    if job.finished_at is not None and any(mark.at + ahead > job.finished_at + SLACK for mark in starts):
        wrong.append(f"{job.id} ran after its end")
    return wrong


def _of_end(job: Job, expected: Expected, ends: set[int]) -> list[str]:
    if job.state is not expected.state:
        return [f"{job.id} is {job.state}, not {expected.state}: {job.error}"]
    wrong = []
    if job.state is State.SUCCEEDED:
        if job.attempt not in ends:
            wrong.append(f"{job.id} is said to have succeeded in attempt {job.attempt}, which did not end")
        if expected.result is not None and job.result != expected.result:
            wrong.append(f"{job.id} has the result {job.result!r}")
    elif expected.code is not None and (job.error is None or job.error.code != expected.code):
        wrong.append(f"{job.id} failed with {job.error}, not for {expected.code}")
    return wrong
