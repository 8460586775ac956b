"""What `doctor` says of a store: the way there, its workers, and the jobs that nobody serves."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from heavylift.cli import output
from heavylift.core.errors import HeavyliftError
from heavylift.core.finding import Finding, Level, fail, ok, warn
from heavylift.core.job import State, new_id
from heavylift.core.options import RESERVED, serves
from heavylift.core.version import VERSION
from heavylift.store import Query, WorkerRecord
from heavylift.submission import ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from heavylift.app import Heavylift
    from heavylift.core.job import Job
    from heavylift.core.queue import Queue
    from heavylift.store import Store, WorkerStatus

ROUNDS = 5
"""Writes and reads of which the middle one is told."""
SLOW = 0.1
"""Seconds of a write from which on a store is slow."""
LEASE = 30.0
SEEN = 1000
"""Queued jobs whose tasks are looked at."""
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(slots=True)
class Inspection:
    """What was seen. `local` are the pids of workers on this machine, `newest` when the newest job was made, `drift`
    seconds between the clocks while it was looked at.
    """

    findings: list[Finding] = field(default_factory=list)
    local: list[int] = field(default_factory=list)
    newest: float | None = None
    drift: float = 0.0


async def inspect(lift: Heavylift, tasks: Collection[str]) -> Inspection:
    """Look at the store of an application, whose tasks are these (none: not known), and change nothing in it but a
    worker's record, which is there for some milliseconds.
    """
    seen = Inspection(await lift.store.diagnose())
    usable = {finding.check: finding.level for finding in seen.findings}
    if any(usable.get(check, Level.FAIL) is not Level.OK for check in ("place", "schema") if check in usable):
        return seen
    try:
        async with lift:
            await _look(seen, lift.store, tasks)
    except HeavyliftError as error:
        what, _, step = str(error).rpartition(": ")
        seen.findings.append(fail("store", what or step, step if what else "Try again; its log may say more."))
    return seen


async def _look(seen: Inspection, store: Store, tasks: Collection[str]) -> None:
    began = time.time() - time.monotonic()
    seen.findings.append(await latency(store))
    seen.drift = time.time() - time.monotonic() - began
    alive = [status for status in await store.workers() if not status.dead]
    dead = [status for status in await store.workers() if status.dead]
    queues = await store.queues()
    newest = (await store.find(Query(limit=1))).jobs
    seen.newest = newest[0].created_at if newest else None
    seen.local = [status.worker.pid for status in alive if _is_here(status.worker)]
    waiting = (await store.find(Query((State.QUEUED,), limit=SEEN))).jobs
    seen.findings += workers(alive, dead, any(queue.oldest_wait is not None for queue in queues))
    seen.findings += unserved(queues, alive)
    seen.findings += unknown(waiting, tasks)


async def latency(store: Store) -> Finding:
    """Seconds of a durable write and of a read, there and back."""
    me = _myself()
    writes, reads = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await store.beat(me, LEASE)
        written = time.perf_counter()
        await store.queues()
        reads.append(time.perf_counter() - written)
        writes.append(written - began)
    await store.retire(me.id, me.epoch)
    write, read = statistics.median(writes), statistics.median(reads)
    what = f"a write takes {write * 1000:.1f} ms, a read {read * 1000:.1f} ms"
    if write > SLOW:
        step = "Each submit waits for one: look for another program that writes there, or for a slow disk or network."
        return warn("latency", what, step)
    return ok("latency", what)


def workers(alive: Sequence[WorkerStatus], dead: Sequence[WorkerStatus], waiting: bool) -> list[Finding]:  # noqa: FBT001
    """Who works, in which version; `waiting`: some job is due."""
    found = []
    if alive:
        running = sum(status.worker.running for status in alive)
        places = sum(status.worker.concurrency for status in alive)
        found.append(ok("workers", f"{_workers(len(alive))} alive, {running} of {places} places taken"))
    elif waiting:
        found.append(fail("workers", "none is alive, and jobs wait", "Start one: heavylift worker APP"))
    else:
        found.append(warn("workers", "none is alive", "Start one: heavylift worker APP, or heavylift serve APP"))
    for status in dead:
        worker = status.worker
        what = f"{worker.id} on {worker.hostname} ({worker.pid}) is dead, last heard of {status.beat_age:.0f} s ago"
        step = "Any living worker gives its jobs back to their queue; see why it died in its log."
        found.append(warn("workers", what, step))
    for status in alive:
        worker = status.worker
        if worker.version != VERSION:
            what = f"{worker.id} on {worker.hostname} ({worker.pid}) runs {worker.version or 'an unknown version'}"
            found.append(warn("workers", f"{what}, this is {VERSION}", "Restart it with the version of its callers."))
    return found


def unserved(queues: Sequence[Queue], alive: Sequence[WorkerStatus]) -> list[Finding]:
    """Queues in which jobs wait that nobody will start."""
    found = []
    for queue in queues:
        count = queue.counts.get(State.QUEUED, 0)
        if not count:
            continue
        if queue.paused:
            step = f"When they may start: heavylift queues resume {queue.name}"
            since = output.pause_text(queue.pause) if queue.pause else ""
            found.append(warn("queues", f"{queue.name} is paused ({since}), and {_jobs(count)} in it", step))
        if alive and not any(serves(status.worker.queues, queue.name) for status in alive):
            step = f"heavylift worker APP --queues {queue.name}"
            found.append(fail("queues", f"{_jobs(count)} in {queue.name}, which no worker serves", step))
    return found or [ok("queues", "no queue with jobs is paused or without a worker" if alive else "none is paused")]


def unknown(waiting: Sequence[Job], tasks: Collection[str]) -> list[Finding]:
    """Queued jobs whose task the application does not have: they would fail as soon as they are started."""
    if not tasks:
        return []
    missing = Counter(job.task for job in waiting if job.task not in tasks and not job.task.startswith(RESERVED))
    step = "Add the module that defines it to Heavylift(imports=[…]), deploy it, or cancel these jobs."
    found = [
        fail("tasks", f"{_jobs(count)} for the task {name!r}, which the application does not have", step)
        for name, count in sorted(missing.items())
    ]
    return found or [ok("tasks", "the application has the tasks of all jobs that wait" if waiting else "no job waits")]


def _jobs(count: int) -> str:
    return "1 job waits" if count == 1 else f"{count:,} jobs wait"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _myself() -> WorkerRecord:
    """This process as a worker that takes no jobs; were it to die now, others would see so and remove the record."""
    started = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    name, now = new_id(time.time(), os.urandom(ID_BYTES)), time.time()
    host = os.uname().nodename
    return WorkerRecord(name, 1, host, os.getpid(), started, *_here(), 0, (f"{RESERVED}doctor",), now, version=VERSION)


def _is_here(worker: WorkerRecord) -> bool:
    return (worker.boot_id, worker.pid_namespace) == _here()


def _here() -> tuple[str, str]:
    """The boot and the namespace in which a pid of this process counts."""
    with suppress(OSError):
        return BOOT.read_text(encoding="ascii").strip(), str(Path("/proc/self/ns/pid").readlink())
    return "", ""
