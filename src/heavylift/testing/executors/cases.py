"""What the cases of ExecutorContract stand on: an executor to start and close, jobs, and conditions to wait for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heavylift.core.job import Job, Progress, State
from heavylift.core.options import Options, RunIn
from heavylift.core.outcome import Interrupted, Outcome
from heavylift.executor import Ability, Checkpoint, Executor, LogLines, Report

PATIENCE = 30.0
"""Seconds until a condition that does not come about is a failure: much, for a machine may be busy."""
FIELDS = frozenset({"attempt", "checkpoint", "failures", "log_bytes", "losses", "suspected"})
"""What a case may set of a job, beside its options."""


class Attempt:
    """A job given to an executor, and what is heard of it."""

    def __init__(self, executor: Executor, job: Job) -> None:
        self.job = job
        self.reports: list[Report] = []
        self.late_reports: list[Report] = []
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        executor.run(job, self._heard, self._finished)
        assert not self.future.done(), "the outcome came from within the call"

    def _heard(self, job: Job, report: Report) -> None:
        assert job is self.job
        (self.late_reports if self.future.done() else self.reports).append(report)

    def _finished(self, job: Job, outcome: Outcome) -> None:
        assert job is self.job
        self.future.set_result(outcome)  # raises when there was one before

    async def outcome(self) -> Outcome:
        """Its outcome; nothing may be heard after it."""
        found = await asyncio.wait_for(asyncio.shield(self.future), PATIENCE)
        assert not self.late_reports
        return found

    async def begun(self) -> None:
        """Wait until its code has reported something."""
        await until(lambda: bool(self.reports) or self.future.done())
        assert not self.future.done(), self.future.result()

    def of(self, kind: type[Any]) -> list[Any]:
        """Its reports of one kind."""
        return [report for report in self.reports if isinstance(report, kind)]

    @property
    def progress(self) -> list[float]:
        """How far it said it was."""
        return [report.done or 0.0 for report in self.of(Progress)]

    @property
    def checkpoints(self) -> list[Any]:
        """What it saved."""
        return [json.loads(report.value) for report in self.of(Checkpoint)]

    @property
    def lines(self) -> list[str]:
        """What it wrote to its log."""
        return [line["message"] for report in self.of(LogLines) for line in report.lines]


class ExecutorSuite:
    """Base of the cases."""

    place: RunIn = "process"
    """Where the attempts of the cases run."""
    _numbers = itertools.count(1)

    async def make(self, **settings: Any) -> Executor:
        """An executor that is not started; `settings` as in `Settings`."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def running(self, *needs: Ability, **settings: Any) -> AsyncIterator[Executor]:
        """An executor that is started, and closed at the end; no process may be left then. A case that `needs` what
        this executor lacks is skipped.
        """
        others = own_processes()
        executor = await self.make(**settings)
        try:
            if missing := executor.lacks.intersection(needs):
                pytest.skip(f"this executor declares that it lacks: {', '.join(sorted(missing))}")
            await executor.start()
            yield executor
        finally:
            await executor.close(0.0)
        assert not own_processes(others)

    def give(self, executor: Executor, task: str, *, job: dict[str, Any] | None = None, **args: Any) -> Attempt:
        """Run a task; `job` has the job's options, and fields such as `checkpoint`."""
        given = job or {}
        wishes = {name: value for name, value in given.items() if name not in FIELDS}
        options = Options().using(**({"run_in": self.place} | wishes))
        fields = {name: value for name, value in given.items() if name in FIELDS}
        body = json.dumps(args).encode()
        record = Job(f"job-{next(self._numbers)}", task, body, options, State.RUNNING, 0.0, 0.0, attempt=1)
        return Attempt(executor, replace(record, **fields))

    async def ended(self, executor: Executor, task: str, *, job: dict[str, Any] | None = None, **args: Any) -> Outcome:
        """The outcome of a task. On a busy machine it may be handed back before its start: then it is given again."""
        while True:
            outcome = await self.give(executor, task, job=job, **args).outcome()
            if outcome != Interrupted("not started"):
                return outcome

    def needs_function(self) -> None:
        """Skip a case whose code does not await: on a loop it blocks everything, and hears of no stop."""
        if self.place == "loop":
            pytest.skip("its code would block the loop")

    def free(self, executor: Executor) -> int:
        """How many more attempts it would take now where those of the cases run."""
        free: int = getattr(executor.free, self.place)
        return free


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  it looks at files and processes, which tell nobody
            await asyncio.sleep(0.002)


def own_processes(others: Collection[int] = ()) -> set[int]:
    """Every living process below this one, however it got there; but for `others`, such as those of a server that
    other tests use too, and what these start.
    """
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(entry.name)] = int(parent)
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found.union(others):
        found |= more
    return found - {os.getpid()}


def alive(pid: int) -> bool:
    """Whether a process lives (a dead one that nobody reaped yet does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
