"""An executor on virtual time: runs that last, report, end, crash and listen as chance decides, in hosts that are
processes of their own. It keeps the contract, and tells the auditor of every start and end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import Process

from heavylift.core.job import Error, Progress
from heavylift.core.options import Slots
from heavylift.core.outcome import Cancelled, Crashed, Failed, Interrupted, Snoozed, Succeeded, TimedOut
from heavylift.core.tally import Tally
from heavylift.executor import Checkpoint, LogLines, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.auditor import Auditor
    from tests.simulation.machine import Machine

    from heavylift.core.job import Job
    from heavylift.core.outcome import Outcome
    from heavylift.executor import Report

STEPS = 4
"""Checkpoints that a whole job makes."""


@dataclass(frozen=True, slots=True)
class Script:
    """What one attempt of a job does when nobody stops it: after `seconds` it ends with `outcome`. `cleans_up`: how
    long it goes on when it is asked to stop.
    """

    seconds: float
    outcome: Outcome
    cleans_up: float

    @classmethod
    def of(cls, seed: int, job: Job) -> Script:
        """By its task's name: steady, flaky, failing, poison, endless; the same for an attempt whenever it is asked."""
        random = Random(f"{seed} {job.id} {job.attempt}")
        # Few are long: such that several beats, sweeps and faults fall into them.
        seconds = random.choice((0.0, 0.01, 0.3, 2.0, 2.0, 8.0, 25.0)) * (0.5 + random.random())
        cleans_up = random.choice((0.0, 0.2, 1.0, 1000.0)) * (0.5 + random.random())
        chance = random.random()
        outcome: Outcome = Succeeded(b"true")
        failed = Failed(Error("failed", "it fails"))
        crashed = Crashed(Error("crashed", "its host died"))
        match job.task:
            case "flaky":
                choice: tuple[Outcome, ...] = (outcome, outcome, failed, crashed, Snoozed(1.0))
                outcome = choice[int(chance * len(choice))]
            case "failing":
                outcome = failed
            case "poison":
                outcome = crashed
            case "endless":
                seconds = 1e6
        return cls(seconds, outcome, cleans_up)


@dataclass(slots=True, eq=False)
class Run:
    """An attempt that this executor took. `over`: what it ended with, which may not have been told yet."""

    job: Job
    report: Callable[[Job, Report], None]
    finished: Callable[[Job, Outcome], None]
    script: Script
    started: bool = False
    stopping: StopReason | None = None
    over: Outcome | None = None
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, int]:
        return self.job.id, self.job.attempt


class SimulatedExecutor:
    """`capacity` runs at once, and `depth` more that wait here. Its own code runs in `process`, task code beside it."""

    lacks: frozenset[Any] = frozenset()

    def __init__(self, machine: Machine, auditor: Auditor, process: Process, capacity: int, depth: int) -> None:
        self.process = process
        self.below = Process(machine.loop, f"{process.name}'s hosts", process)
        self.tasks: dict[str, Any] = {}
        self.tally = Tally()
        self.hosts: dict[str, int] = {}
        self.runs: dict[tuple[str, int], Run] = {}
        self._machine = machine
        self._auditor = auditor
        self._capacity = capacity
        self._depth = depth
        self._waiting: deque[Run] = deque()
        self._closing = False
        self._changed = asyncio.Event()

    @property
    def free(self) -> Slots:
        return Slots() if self._closing else Slots(process=max(0, self._capacity + self._depth - len(self.runs)))

    async def start(self) -> None:
        """It is ready."""

    def run(self, job: Job, report: Callable[[Job, Report], None], finished: Callable[[Job, Outcome], None]) -> None:
        if self._closing:
            self.process.soon(finished, job, Interrupted("drain"))
            return
        run = Run(job, report, finished, Script.of(self._machine.seed, job))
        self._auditor.taken(self, run)
        self.runs[run.key] = run
        self._waiting.append(run)
        self.process.soon(self._pump)

    def stop(self, job: str, attempt: int, reason: StopReason, grace: float, *, force: bool = False) -> None:
        run = self.runs.get((job, attempt))
        if run is None or run.over is not None:
            return
        self._machine.note("stops", job, attempt, reason.value, "by force" if force else f"grace {grace:g}")
        if not run.started:
            self._waiting.remove(run)
            self._finish(run, _stopped(reason, started=False, killed=False))
            return
        if run.stopping is None:
            run.stopping = reason
            run.timers.append(self.below.later(run.script.cleans_up, self._cleaned_up, run))
        if force or grace <= 0:
            self._kill(run)
        else:
            run.timers.append(self.process.later(grace, self._kill, run))

    async def close(self, grace: float) -> None:
        self._closing = True
        while self._waiting:
            self._finish(self._waiting.popleft(), Interrupted("drain"))
        deadline = self._machine.loop.time() + grace
        while self.runs:
            self._changed.clear()
            for run in list(self.runs.values()):
                left = deadline - self._machine.loop.time()
                if left <= min(run.job.options.grace, grace / 2):
                    self.stop(*run.key, StopReason.DRAIN, max(0.0, left))
            try:
                async with asyncio.timeout(max(0.1, grace / 4)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    # --- in the hosts and back ----------------------------------------------------------------------------------

    def _pump(self) -> None:
        while self._waiting and sum(run.started for run in self.runs.values()) < self._capacity:
            self._begin(self._waiting.popleft())

    def _begin(self, run: Run) -> None:
        run.started = True
        self._auditor.started(self, run)
        script = run.script
        done = int(run.job.checkpoint or 0)
        for step in range(done + 1, STEPS):
            moment = script.seconds * (step - done) / (STEPS - done)
            if moment > 1e4:
                break
            run.timers.append(self.below.later(moment, self._reports, run, step))
        run.timers.append(self.below.later(script.seconds, self._ends, run, script.outcome))
        if run.job.options.timeout is not None:
            limit, grace = run.job.options.timeout, run.job.options.grace
            run.timers.append(self.process.later(limit, self.stop, *run.key, StopReason.TIMEOUT, grace))

    def _reports(self, run: Run, step: int) -> None:
        for report in (Progress(done=step, total=STEPS), Checkpoint(b"%d" % step), LogLines([{"message": "on"}], 2)):
            self.process.soon(self._told, run, report)

    def _told(self, run: Run, report: Report) -> None:
        if run.key in self.runs:
            run.report(run.job, report)

    def _cleaned_up(self, run: Run) -> None:
        if run.over is None and run.stopping is not None:
            self._ends(run, _stopped(run.stopping, started=True, killed=False))

    def _kill(self, run: Run) -> None:
        if run.over is None and run.stopping is not None:
            self._ends(run, _stopped(run.stopping, started=True, killed=True))

    def _ends(self, run: Run, outcome: Outcome) -> None:
        """Its code is over; the worker hears of it when it listens."""
        if run.over is None:
            run.over = outcome
            for timer in run.timers:
                timer.cancel()
            self._auditor.ended(self, run, outcome)
            self.process.soon(self._finish, run, outcome)

    def _finish(self, run: Run, outcome: Outcome) -> None:
        del self.runs[run.key]
        self._changed.set()
        run.finished(run.job, outcome)
        self._pump()


def _stopped(reason: StopReason, *, started: bool, killed: bool) -> Outcome:
    if reason is StopReason.CANCEL:
        return Cancelled(started=started, killed=killed)
    if reason is StopReason.TIMEOUT:
        return TimedOut(Error("timed-out", "it took too long"), killed=killed)
    return Interrupted("drain")
