"""ExecutorContract: code that harms its process, and the pool's own housekeeping."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heavylift.core.outcome import Crashed, Failed, Outcome, Succeeded
from heavylift.executor import Ability, Executor
from heavylift.testing.executors.cases import ExecutorSuite, own_processes, until

AT_ONCE = [
    "alarm",
    "closed",
    "directory",
    "handler",
    "hook",
    "logging",
    "mask",
    "stop signal",
    "thread",
    "trace",
]
"""What may not be left changed by any job …"""
LATER = ["limit", "output", "umask"]
"""… and by one of more than a millisecond."""


class HarmCases(ExecutorSuite):
    """Crashes, hygiene, size."""

    @pytest.mark.parametrize(
        ("how", "code", "signal"),
        [("exit", 3, None), ("kill", None, "SIGKILL"), ("segfault", None, "SIGSEGV"), ("abort", None, "SIGABRT")],
        ids=["exit", "kill", "segfault", "abort"],
    )
    async def test_a_death_is_told_with_its_cause(self, how: str, code: int | None, signal: str | None) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            outcome = await self.ended(executor, "die", how=how)
            assert isinstance(outcome, Crashed)
            error = outcome.error
            assert (error.code, error.exit_code, error.signal) == ("crashed", code, signal)
            assert "last words" in (error.stderr or "")
            assert "Fatal Python error" not in (error.stderr or "")
            assert ("executor_tasks.py" in (error.traceback or "")) == (how in ("segfault", "abort"))
            assert "heavylift/executors" not in (error.traceback or "")
            assert isinstance(await self.ended(executor, "give"), Succeeded)

    async def test_what_waits_behind_a_death_runs_at_no_cost(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            for _ in range(50):  # let it be known as very short, so that several go to one host
                await self.ended(executor, "give")
            deadly = self.give(executor, "die", how="kill")
            neighbours = [self.give(executor, "give", value=number) for number in range(6)]
            assert isinstance(await deadly.outcome(), Crashed)
            for number, neighbour in enumerate(neighbours):
                outcome = await neighbour.outcome()
                assert outcome == Succeeded(str(number).encode(), outcome.usage)

    @pytest.mark.parametrize(("first", "last"), [(3, 64), (0, 3), (0, 64)])
    async def test_closing_what_it_did_not_open_harms_nobody(self, first: int, last: int) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            outcome = await self.ended(executor, "close_descriptors", first=first, last=last)
            assert isinstance(outcome, Succeeded)
            assert isinstance(await self.ended(executor, "give"), Succeeded)

    async def test_closing_everything_is_a_crash_with_a_clear_message(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            outcome = await self.ended(executor, "close_descriptors", first=0, last=4096)
            assert isinstance(outcome, Crashed)
            assert "closed descriptors" in outcome.error.message
            assert isinstance(await self.ended(executor, "give"), Succeeded)

    @pytest.mark.parametrize(
        ("what", "seconds"), [*((what, 0.0) for what in AT_ONCE), *((what, 0.002) for what in LATER)]
    )
    async def test_a_host_that_a_job_left_changed_is_replaced(self, what: str, seconds: float) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            first = result(await self.ended(executor, "change", what="nothing", seconds=seconds))
            assert result(await self.ended(executor, "change", what=what, seconds=seconds)) == first
            assert result(await self.ended(executor, "change", what="nothing", seconds=seconds)) != first

    async def test_a_fork_that_comes_back_is_no_host(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            first = result(await self.ended(executor, "where"))
            assert result(await self.ended(executor, "fork_and_return")) == first[0]
            assert isinstance(await self.ended(executor, "give"), Succeeded)

    async def test_a_host_is_kept_for_the_next_job(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            pids = {result(await self.ended(executor, "where"))[0] for _ in range(20)}
            assert len(pids) == 1

    async def test_a_host_is_replaced_after_so_many_jobs(self) -> None:
        async with self.running(Ability.KILL, concurrency=1, recycle_jobs=5) as executor:
            pids = [result(await self.ended(executor, "where"))[0] for _ in range(20)]
            assert len(set(pids)) == 4

    async def test_a_host_that_has_grown_is_replaced(self) -> None:
        async with self.running(Ability.KILL, concurrency=1, recycle_memory=1 << 20) as executor:
            pids = [result(await self.ended(executor, "change", what="nothing", seconds=0.002)) for _ in range(3)]
            assert len(set(pids)) == 3

    async def test_hosts_come_with_demand_and_go_when_idle(self, tmp_path: Path) -> None:
        others = own_processes()
        async with self.running(Ability.KILL, concurrency=3, idle=0.2) as executor:
            at_rest = len(own_processes(others))
            attempts = [self.give(executor, "wait_for", path=str(tmp_path / "go")) for _ in range(3)]
            for attempt in attempts:
                await attempt.begun()
            assert executor.free.process == 0
            assert len(own_processes(others)) == at_rest + 2
            (tmp_path / "go").touch()
            for attempt in attempts:
                await attempt.outcome()
            await until(lambda: len(own_processes(others)) <= at_rest)
            assert executor.free.process >= 3
            assert isinstance(await self.ended(executor, "give"), Succeeded)

    async def test_an_attempt_of_each_kind_at_once(self) -> None:
        async with self.running(Ability.KILL, concurrency=2) as executor:
            dying = self.give(executor, "die", how="kill")
            failing = self.give(executor, "fail", message="no")
            going = self.give(executor, "give", value=1)
            assert isinstance(await dying.outcome(), Crashed)
            assert isinstance(await failing.outcome(), Failed)
            assert isinstance(await going.outcome(), Succeeded)

    async def test_close_twice_is_close(self) -> None:
        executor: Executor = await self.make()
        await executor.start()
        await executor.close(0.0)
        await executor.close(0.0)


def result(outcome: Outcome) -> Any:
    """The value of an attempt that succeeded."""
    assert isinstance(outcome, Succeeded), outcome
    return json.loads(outcome.result)
