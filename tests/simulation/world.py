"""One schedule: workers, clients, a store, and what goes wrong; then calm, in which everything must come to rest."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.auditor import Auditor, Seen
from tests.simulation.clients import Clients
from tests.simulation.database import Database
from tests.simulation.executor import SimulatedExecutor
from tests.simulation.faults import Faults
from tests.simulation.link import Link, Weather
from tests.simulation.loop import Process
from tests.simulation.machine import SETTINGS, Machine, ProcessClock

from heavylift.store import WorkerRecord
from heavylift.worker import LAST_WRITES, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 3
REST = 600.0
"""Seconds of calm after which everything has come to rest in any case."""
MARGIN = 10.0
"""Seconds for what was under way: late calls, slow answers, a poll."""


@dataclass(slots=True, eq=False)
class Member:
    """One worker process of the schedule."""

    process: Process
    clock: ProcessClock
    link: Link
    worker: Worker
    running: asyncio.Task[None]
    pid: int
    slot: int
    stood_still: float = 0.0
    """Seconds for which it was stopped, in all."""


class World:
    """Everything of one seed."""

    def __init__(self, seed: int) -> None:
        self.machine = Machine(seed)
        self.loop = self.machine.loop
        self.random = self.machine.random
        self.database = Database(self.machine)
        self.auditor = Auditor(self.machine, self.database, SETTINGS.lease)
        self.weather = Weather()
        self.members: list[Member | None] = [None] * WORKERS
        self.processes: list[Process] = []
        self.skewed = self.random.random() < 0.3
        # Workers in containers of their own cannot see each other's processes, so that only the lease tells of a death.
        self.apart = self.random.random() < 0.5
        self.watching = ProcessClock(self.machine)
        self.latest = 0.0
        """The most by which any wall clock was ever ahead."""
        self._pids = 100

    def start(self, slot: int) -> Member:
        """Start a worker process in one of the three places."""
        self._pids += 1
        pid = self._pids
        name = f"worker-{slot}-{pid}"
        process = Process(self.loop, name)
        self.processes.append(process)
        self.machine.started(process, pid, f"space {slot}" if self.apart else "space")
        clock = ProcessClock(self.machine, self.random.uniform(-600, 600) if self.skewed else 0.0)
        self.latest = max(self.latest, self.machine.jumped + clock.skew)
        link = Link(self.machine, self.weather, self.auditor, self.database.store(clock), process)
        executor = SimulatedExecutor(self.machine, self.auditor, process, 2, self.random.choice((0, 0, 3)))
        self.auditor.workers[name] = Seen(process, link, executor)
        namespace = f"space {slot}" if self.apart else "space"
        record = WorkerRecord(name, 1, "host", pid, pid, "boot", namespace, 2, started_at=clock.wall())
        worker = process.context.run(Worker, link, executor, SETTINGS, record, clock)
        self.machine.note("starts", name)
        member = Member(process, clock, link, worker, process.start(worker.run()), pid, slot)
        member.running.add_done_callback(lambda task: self._ended(member, task))
        self.members[slot] = member
        return member

    def _ended(self, member: Member, task: asyncio.Task[None]) -> None:
        self.machine.note(member.process.name, "has ended")
        self.gone(member)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.auditor.violation(member.process.name, "ended by itself:", repr(error))

    def gone(self, member: Member) -> None:
        """A process is no more."""
        member.link.gone = True
        self.machine.ended(member.pid)
        if self.members[member.slot] is member:
            self.members[member.slot] = None

    # --- the schedule -------------------------------------------------------------------------------------------

    async def play(self, only: str | None) -> None:
        """Storm, calm, rest, end."""
        clients = Clients(self)
        faults = Faults(self, clients, only)
        for slot in range(WORKERS):
            self.start(slot)
        await faults.storm()
        calm = self.loop.time()
        self.machine.note("--- the faults are over ---")
        await clients.all_accepted()
        await self._leases_of_the_dead_end(calm)
        await self._everything_rests(calm)
        await self._drained()
        await clients.audit()

    def _held_by_the_dead(self) -> list[str]:
        living = {(name, seen.epoch) for name, seen in self.auditor.workers.items() if not seen.link.gone}
        found = self.database.connection.execute("SELECT id, worker, epoch FROM job WHERE state = 3").fetchall()
        return [f"{job} of {worker}, {epoch}" for job, worker, epoch in found if (worker, epoch) not in living]

    async def _leases_of_the_dead_end(self, calm: float) -> None:
        """Whoever was dead when the faults ended has no job any more after lease + sweep."""
        # Contact is counted anew after the last fault, and the lease of a worker that was killed last ends meanwhile.
        end = calm + SETTINGS.lease + 2 * SETTINGS.sweep + MARGIN
        while (held := self._held_by_the_dead()) or not self._at_rest():
            if self.loop.time() >= end:
                if held:
                    self.auditor.violation("jobs are still held by the dead:", held)
                return
            await asyncio.sleep(0.5)

    def _unfinished(self) -> list[tuple[str, int, str, int]]:
        return self.database.connection.execute(
            "SELECT id, state, worker, epoch FROM job WHERE state NOT IN (4, 5, 6)"
        ).fetchall()

    def _at_rest(self) -> bool:
        return not self._unfinished()

    async def _everything_rests(self, calm: float) -> None:
        while not self._at_rest():
            if self.loop.time() > calm + REST:
                self.auditor.violation("jobs do not come to rest:", self._unfinished())
                return
            await asyncio.sleep(0.5)
        self.machine.note("--- all is at rest ---")

    async def _drained(self) -> None:
        members = [member for member in self.members if member is not None]
        for member in members:
            member.worker.drain()
        for member in members:
            await self.ends(member, SETTINGS.drain)

    async def ends(self, member: Member, grace: float) -> None:
        """Wait until a worker that was told to drain has ended, which it does in time even if the store is away."""
        began, stood_still = self.loop.time(), member.stood_still
        while self.members[member.slot] is member:
            await asyncio.sleep(0.5)
            ran = self.loop.time() - began - (member.stood_still - stood_still)
            if ran > grace + LAST_WRITES + MARGIN and not member.process.stopped:
                self.auditor.violation(member.process.name, f"does not end, {ran:.1f} s after it was told to drain")
                return

    def bury(self) -> None:
        """End what was cut off by kills."""
        for process in [*self.processes, self.loop.root]:
            for each in (process, *process.children):
                each.bury()
        tasks = [task for process in self.processes for task in process.tasks if not task.done()]
        tasks += [task for task in self.loop.root.tasks if not task.done()]

        async def buried() -> None:
            if tasks:
                await asyncio.wait(tasks, timeout=60)

        self.loop.run_until_complete(buried())


class Lines(logging.Handler):
    """Has what the product logs stand in the trace."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    def emit(self, record: logging.LogRecord) -> None:
        self._machine.note("logs:", record.getMessage())


@contextmanager
def _logging_to(machine: Machine) -> Iterator[None]:
    logger = logging.getLogger("heavylift")
    before = (logger.handlers, logger.level, logger.propagate)
    logger.handlers, logger.propagate = [Lines(machine)], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, _, logger.propagate = before
        logger.setLevel(before[1])


@dataclass(frozen=True, slots=True)
class Result:
    """What a schedule came to."""

    seed: int
    violations: tuple[str, ...]
    trace: tuple[tuple[float, str, tuple[Any, ...]], ...]
    counts: dict[str, int]
    turns: int
    seconds: float

    def text(self) -> str:
        """The trace, for people."""
        return "\n".join(f"{at:9.3f}  {who:<22} {' '.join(map(str, what))}" for at, who, what in self.trace)


def simulate(seed: int, only: str | None = None) -> Result:
    """Play the schedule of a seed; `only`: with faults of one kind."""
    before = random.getstate()
    world = World(seed)
    # The worker, the store and housekeeping take their chances from here.
    random.seed(seed)
    try:
        with world.machine.as_kernel(), _logging_to(world.machine):
            world.loop.run_until_complete(world.play(only))
            for failure in world.loop.failures:
                world.auditor.violation("nobody caught:", failure)
            trace, turns, seconds = tuple(world.machine.trace), world.loop.turns, world.loop.time()
            violations, counts = tuple(world.auditor.violations), dict(world.auditor.counts)
            world.bury()
    finally:
        random.setstate(before)
        world.database.close()
    return Result(seed, violations, trace, counts, turns, seconds)
