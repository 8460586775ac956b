"""Cancels that meet short jobs at any moment of their lives: the receipt is true, and no neighbour pays."""

import asyncio
import mmap
import os
import random
import time
from collections import Counter

import pytest
from tests.system.service import serving

from heavylift import JobFinished, State
from heavylift.core.job import Job, Stopped

CANCELS = int(os.environ.get("CANCELS", "300"))
AHEAD = 60
"""Jobs that wait or run at a time."""
JOBS_PER_CANCEL = 20  # room for so many


@pytest.mark.timeout(1200)
async def test_a_receipt_is_true_and_neighbours_never_pay(tmp_path, capsys):
    rows = CANCELS * JOBS_PER_CANCEL
    table = tmp_path / "table"
    table.write_bytes(bytes(rows * 3 * 8))
    async with serving(tmp_path, recycle_age=3600) as service:
        with table.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            cells = memoryview(memory).cast("Q")
            said, receipts_at, ids = await _cancel_some(service, str(table), cells, rows)
            jobs = {job.id: job for name in ids if (job := await service.client.finished(name, 60))}
            counts = _audit(jobs, ids, said, receipts_at, cells)
            cells.release()
    with capsys.disabled():
        print(f"\n{CANCELS} cancels, how the jobs ended: {dict(counts)}")


async def _cancel_some(service, table, cells, rows):
    """Keep short jobs coming; cancel one that is about to start or end, again and again."""
    task = service.task("brief").using(grace=5)
    ids: list[str] = []
    said: dict[str, object] = {}
    receipts_at: dict[str, int] = {}
    next_row, cancelled, lead = 0, 0, 2.0
    while cancelled < CANCELS:
        recent = range(max(0, next_row - 2 * AHEAD), next_row)
        begun = sum(1 for row in recent if cells[3 * row]) + recent.start
        # One that was cancelled before its start will never begin, and must not be waited for.
        waiting = sum(1 for row in recent if not cells[3 * row] and ids[row] not in said)
        if waiting < AHEAD // 2 and next_row < rows:
            calls = [
                {"table": table, "row": row, "seconds": random.uniform(0.0005, 0.003)}
                for row in range(next_row, min(rows, next_row + AHEAD))
            ]
            ids += [handle.id for handle in await task.submit_many(kwargs=calls)]
            next_row += len(calls)
        # The job that will just start, run or end when the cancel arrives: learned from what came of the last ones.
        target = min(next_row - 1, begun + round(lead + random.uniform(-1, 1)))
        if target < 0 or ids[target] in said:
            assert begun < rows - AHEAD, "there are no jobs left to cancel"
            await asyncio.sleep(0)
            continue
        try:
            receipt = await service.client.cancel(ids[target])
            said[ids[target]] = receipt
            lead = max(0.0, lead - 0.3 if receipt.stopped is Stopped.BEFORE_START else lead)
        except JobFinished:
            said[ids[target]] = None
            lead += 0.3
        receipts_at[ids[target]] = time.monotonic_ns()
        cancelled += 1
    return said, receipts_at, ids


def _audit(jobs: dict[str, Job], ids: list[str], said, receipts_at, cells) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row, job_id in enumerate(ids):
        job, (started, ended, _) = jobs[job_id], cells[3 * row : 3 * row + 3]
        assert (job.failures, job.crashes, job.losses) == (0, 0, 0), f"{job} was charged"
        receipt = said.get(job_id)
        if receipt is None:
            # Nobody stopped it, or it was over when the cancel came.
            assert job.state is State.SUCCEEDED, f"{job} was stopped for another's sake"
            assert ended
            counts["over before the cancel" if job_id in said else "neighbours"] += 1
            continue
        assert receipt.final
        assert (receipt.state, receipt.stopped) == (job.state, job.stopped), "the receipt is not what is on record"
        if job.state is State.SUCCEEDED:
            assert ended
            counts["ended first"] += 1
        elif job.stopped is Stopped.BEFORE_START:
            assert not started, f"{job} ran"
            counts["before start"] += 1
        else:
            assert job.state is State.CANCELLED
            assert ended < receipts_at[job_id], f"{job} went on after its receipt"
            counts["stopped between its last line and its return" if ended else "stopped"] += 1
    return counts
