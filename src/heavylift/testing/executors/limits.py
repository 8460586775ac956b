"""ExecutorContract: the limits of single attempts, and that the next one has none of them."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heavylift.core.outcome import Crashed, Failed, Outcome, Succeeded
from heavylift.executor import Ability
from heavylift.testing.executors.cases import ExecutorSuite, own_processes, until

ROUNDS = 9
"""Of a fork bomb: 512 processes, if nobody stopped it."""


class LimitCases(ExecutorSuite):
    """Address space, open files, niceness, processes."""

    @pytest.mark.parametrize(("task", "said"), [("take_address_space", ""), ("fail_to_allocate", "the table is")])
    async def test_too_much_address_space_is_told_as_that(self, task: str, said: str) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            options = {"address_space": 2 << 30}
            outcome = await self.ended(executor, task, size=4 << 30, job=options)
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.retryable) == ("memory-limit", True)
            assert said in outcome.error.message
            assert "its address_space of 2,147,483,648 bytes" in outcome.error.message
            assert task in (outcome.error.traceback or "")
            assert isinstance(await self.ended(executor, "take_address_space", size=4 << 30), Succeeded)

    async def test_an_address_space_that_the_host_itself_exceeds_is_refused(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            outcome = await self.ended(executor, "give", job={"address_space": 1 << 20})
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.retryable) == ("memory-limit", False)
            assert "before the job begins" in outcome.error.message

    async def test_too_many_open_files_are_told_as_that(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            outcome = await self.ended(executor, "exhaust", what="descriptors", job={"open_files": 50})
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.error.exception) == ("open-files-limit", "OSError")
            assert "its limit of 50 open_files" in outcome.error.message
            assert isinstance(await self.ended(executor, "give"), Succeeded)

    async def test_what_others_left_open_does_not_count(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            first = value(await self.ended(executor, "open_files", count=80))
            for _ in range(3):
                assert value(await self.ended(executor, "open_files", count=80, job={"open_files": 90})) == first

    async def test_more_open_files_than_the_machine_allows_are_refused(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            outcome = await self.ended(executor, "give", job={"open_files": 1 << 20})
            if isinstance(outcome, Succeeded):
                pytest.skip("this machine allows a process that many")
            assert isinstance(outcome, Failed)
            assert "this machine allows" in outcome.error.message

    async def test_limits_are_there_for_one_attempt(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            before = value(await self.ended(executor, "limits"))
            options = {"address_space": "8GiB", "open_files": 100}
            space, files = value(await self.ended(executor, "limits", job=options))
            assert space == 8 << 30
            assert 100 < files < 200  # it may open so many; some are open in any case
            assert value(await self.ended(executor, "limits")) == before

    async def test_a_nicer_attempt_makes_no_other_one_nicer(self) -> None:
        async with self.running(Ability.KILL, concurrency=1, nice=3) as executor:
            _, usual = value(await self.ended(executor, "niceness"))
            _, nicer = value(await self.ended(executor, "niceness", job={"nice": 5}))
            assert nicer == usual + 5
            assert value(await self.ended(executor, "niceness"))[1] == usual

    async def test_what_runs_out_of_descriptors_leaves_them_to_others(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            outcome = await self.ended(executor, "exhaust", what="descriptors")
            assert isinstance(outcome, Failed)
            assert "Too many open files" in outcome.error.message
            first = value(await self.ended(executor, "open_files", count=20))
            assert value(await self.ended(executor, "open_files", count=20)) == first

    async def test_a_stack_that_is_used_up_is_a_crash_with_its_stack(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            outcome = await self.ended(executor, "exhaust", what="stack")
            assert isinstance(outcome, Crashed)
            assert outcome.error.signal == "SIGSEGV"
            assert "the stack was used up" in outcome.error.message
            assert "in deeper" in (outcome.error.traceback or "")

    async def test_the_fault_of_a_fork_is_not_told_as_that_of_its_host(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            outcome = await self.ended(executor, "lose_child")
            assert isinstance(outcome, Crashed)
            assert outcome.error.exit_code == 3
            assert "Segmentation fault" in (outcome.error.stderr or "")
            assert "Segmentation fault" not in (outcome.error.traceback or "")

    async def test_the_limit_that_stopped_an_attempt_is_told_though_it_breaks_another_one_then(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            options = {"cpu_time": 0.2, "memory": 100 << 20, "grace": 3.0}
            outcome = await self.ended(executor, "clean_up_largely", size=110 << 20, job=options)
            assert isinstance(outcome, Failed)
            assert outcome.error.code == "cpu-limit"
            assert "CPU seconds; its limit is 0.2 (cpu_time)" in outcome.error.message

    @pytest.mark.parametrize("how", ["group", "sessions"])
    async def test_a_fork_bomb_ends_with_its_job(self, tmp_path: Path, how: str) -> None:
        others = own_processes()
        async with self.running(Ability.KILL, concurrency=1) as executor:
            path = tmp_path / "survived"
            await self.ended(executor, "give")
            at_rest = len(own_processes(others))
            given = {"path": str(path), "how": how, "rounds": ROUNDS}
            outcome = await self.ended(executor, "bomb", **given, job={"processes": 20, "grace": 0.2})
            assert isinstance(outcome, Failed), outcome
            assert outcome.error.code == "process-limit"
            assert "the limit is 20" in outcome.error.message
            await until(lambda: len(own_processes(others)) <= at_rest)
            assert not path.exists()
            assert isinstance(await self.ended(executor, "give"), Succeeded)

    async def test_a_fork_bomb_that_outlives_its_host_ends_too(self, tmp_path: Path) -> None:
        others = own_processes()
        async with self.running(Ability.KILL, concurrency=1) as executor:
            path = tmp_path / "survived"
            await self.ended(executor, "give")
            at_rest = len(own_processes(others))
            outcome = await self.ended(executor, "bomb", path=str(path), how="orphans", rounds=ROUNDS)
            assert isinstance(outcome, Crashed)
            assert outcome.error.exit_code == 4
            await until(lambda: len(own_processes(others)) <= at_rest)
            assert not path.exists()

    async def test_a_fork_bomb_without_a_limit_of_its_own_meets_the_worker_s(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL, concurrency=1, processes=30) as executor:
            path = tmp_path / "survived"
            given = {"path": str(path), "how": "group", "rounds": ROUNDS}
            outcome = await self.ended(executor, "bomb", **given, job={"grace": 0.2})
            assert isinstance(outcome, Failed)
            assert outcome.error.code == "process-limit"
            assert isinstance(await self.ended(executor, "give"), Succeeded)
            assert not path.exists()


def value(outcome: Outcome) -> Any:
    """The value of an attempt that succeeded."""
    assert isinstance(outcome, Succeeded), outcome
    return json.loads(outcome.result)
