"""ExecutorContract: dependencies, clean-ups, temporary folders, steps and shields."""

# ruff: noqa: D102  a test is named by its sentence

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from heavylift.core import checkpoint
from heavylift.core.outcome import Cancelled, Failed, Succeeded
from heavylift.executor import Ability, Checkpoint, Executor, StopReason
from heavylift.testing.executors.cases import Attempt, ExecutorSuite, alive, until

OPENED = ["open connection", "open session"]
GRACE = 25.0


class ProvidingCases(ExecutorSuite):
    """What is opened for a task is closed, whatever comes."""

    def give_marking(self, executor: Executor, task: str, folder: Path, **args: Any) -> Attempt:
        """Run a task whose marks `marks` finds."""
        return self.give(executor, task, job={"labels": {"path": str(folder / "marks")}, **args.pop("job", {})}, **args)

    async def stopped(self, executor: Executor, attempt: Attempt) -> Any:
        """Its outcome after a soft stop."""
        await attempt.begun()
        executor.stop(attempt.job.id, 1, StopReason.CANCEL, GRACE)
        return await attempt.outcome()

    async def test_dependencies_are_opened_once_in_order_and_closed_in_reverse(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            outcome = await self.give_marking(executor, "provided", tmp_path, number=7).outcome()
            assert isinstance(outcome, Succeeded), outcome
            assert json.loads(outcome.result) == [7, "session on connection", "plain on connection"]
            assert marks(tmp_path) == [*OPENED, "close session", "commit", "close connection"]

    async def test_providers_see_what_the_code_raised_and_cannot_hide_it(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            outcome = await self.give_marking(executor, "provided", tmp_path, number=7, how="raise").outcome()
            assert isinstance(outcome, Failed)
            assert (outcome.error.exception, outcome.error.message) == ("ValueError", "it was to be raised")
            assert "provided" in str(outcome.error.traceback)
            assert "heavylift/executors" not in str(outcome.error.traceback)
            ends = ["swallow", "close session", "rollback ValueError", "close connection"]
            assert marks(tmp_path) == [*OPENED, *ends]

    async def test_nothing_is_committed_for_a_result_that_is_refused(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            outcome = await self.give_marking(executor, "provided", tmp_path, number=7, how="refuse").outcome()
            assert isinstance(outcome, Failed)
            assert outcome.error.code == "unserialisable-result"
            assert "commit" not in marks(tmp_path)
            assert marks(tmp_path)[-1] == "close connection"

    @pytest.mark.parametrize("how", ["return", "raise"])
    async def test_a_clean_up_that_raises_fails_the_job_and_the_others_run(self, tmp_path: Path, how: str) -> None:
        async with self.running() as executor:
            outcome = await self.give_marking(executor, "break_clean_up", tmp_path, how=how).outcome()
            assert isinstance(outcome, Failed)
            assert (outcome.error.exception, outcome.error.message) == ("LookupError", "the clean-up broke")
            assert ("ValueError: the code broke" in str(outcome.error.traceback)) == (how == "raise")
            assert marks(tmp_path)[-3:] == ["fail", "rollback LookupError", "close connection"]

    @pytest.mark.parametrize(("task", "words"), [("open_never", "yielded nothing"), ("open_twice", "a second value")])
    async def test_a_provider_that_does_not_yield_once_is_named(self, tmp_path: Path, task: str, words: str) -> None:
        async with self.running() as executor:
            outcome = await self.give_marking(executor, task, tmp_path).outcome()
            assert isinstance(outcome, Failed)
            assert words in outcome.error.message
            assert task.removeprefix("open_") in outcome.error.message
            assert marks(tmp_path)[-1] == "close connection"

    async def test_a_soft_stop_closes_everything_and_interrupts_no_clean_up(self, tmp_path: Path) -> None:
        self.needs_function()
        async with self.running(Ability.KILL) as executor:
            outcome = await self.stopped(executor, self.give_marking(executor, "spin_between", tmp_path))
            assert isinstance(outcome, Cancelled), outcome
            assert (outcome.started, outcome.killed) == (True, False)
            ends = ["exit", "closed slowly", "rollback Cancelled", "close connection"]
            assert marks(tmp_path) == ["open connection", *ends]

    async def test_a_stop_while_a_provider_opens_closes_those_before_it(self, tmp_path: Path) -> None:
        self.needs_function()
        async with self.running(Ability.KILL) as executor:
            outcome = await self.stopped(executor, self.give_marking(executor, "wait_to_open", tmp_path))
            assert isinstance(outcome, Cancelled), outcome
            ends = ["stopped while opening", "rollback Cancelled", "close connection"]
            assert marks(tmp_path) == ["open connection", *ends]

    @pytest.mark.parametrize("seconds", [0.0, 0.002])
    async def test_what_a_host_keeps_is_opened_once_and_costs_no_host(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
    ) -> None:
        monkeypatch.setenv("ENGINE_MARKS", str(tmp_path / "marks"))
        async with self.running(concurrency=1) as executor:
            found = []
            for _ in range(3):
                outcome = await self.give(executor, "use_engine", seconds=seconds).outcome()
                assert isinstance(outcome, Succeeded), outcome
                found.append(json.loads(outcome.result))
            assert found[0] == found[1] == found[2]
            host, maker, child = found[0]
            assert maker == host
            assert alive(child)
        assert marks(tmp_path) == [f"closed {host}"]

    async def test_a_host_that_is_killed_closes_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENGINE_MARKS", str(tmp_path / "marks"))
        async with self.running(Ability.KILL, concurrency=1) as executor:
            first = self.give(executor, "use_engine")
            outcome = await first.outcome()
            assert isinstance(outcome, Succeeded)
            blocker = self.give(executor, "wait_for", path=str(tmp_path / "never"))
            await blocker.begun()
            executor.stop(blocker.job.id, 1, StopReason.CANCEL, 0.0, force=True)
            assert isinstance(await blocker.outcome(), Cancelled)
            child = json.loads(outcome.result)[2]
            await until(lambda: not alive(child))
        assert marks(tmp_path) == []

    @pytest.mark.parametrize("how", ["return", "raise", "break"])
    async def test_exits_run_last_first_before_the_providers_close(self, tmp_path: Path, how: str) -> None:
        async with self.running() as executor:
            outcome = await self.give_marking(executor, "exits", tmp_path, how=how).outcome()
            seen = {"return": "commit", "raise": "rollback ValueError", "break": "rollback ZeroDivisionError"}[how]
            ends = ["second True", "first", seen, "close connection"]
            assert marks(tmp_path) == ["open connection", "run", *ends]
            error = {"return": None, "raise": "ValueError", "break": "ZeroDivisionError"}[how]
            assert (outcome.error.exception if isinstance(outcome, Failed) else None) == error

    async def test_a_temporary_folder_goes_with_its_attempt(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            for number in range(2):
                outcome = await self.give_marking(executor, "keep_files", tmp_path, then_wait=False).outcome()
                assert isinstance(outcome, Succeeded), outcome
                assert outcome.result == b'"0o700"'
                assert not exists(marks(tmp_path)[number])
            assert len(set(marks(tmp_path))) == 2

    @pytest.mark.parametrize("force", [False, True])
    async def test_a_temporary_folder_goes_with_a_stop_and_with_a_kill(self, tmp_path: Path, force: bool) -> None:  # noqa: FBT001  a parameter
        async with self.running(Ability.KILL) as executor:
            attempt = self.give_marking(executor, "keep_files", tmp_path, then_wait=True)
            await attempt.begun()
            [folder] = marks(tmp_path)
            assert exists(folder)
            # Where it holds up its loop the stop reaches it only when its grace is over.
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 1.0, force=force)
            assert isinstance(await attempt.outcome(), Cancelled)
            await until(lambda: not exists(folder))

    async def test_a_stop_waits_for_the_end_of_a_shield(self, tmp_path: Path) -> None:
        self.needs_function()
        async with self.running() as executor:
            attempt = self.give_marking(executor, "shielded", tmp_path)
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, GRACE)
            await asyncio.sleep(0.3)  # what heeds no shield is stopped by then: the stop is said again and again
            (tmp_path / "marks.go").touch()
            assert isinstance(await attempt.outcome(), Cancelled)
            assert marks(tmp_path) == ["whole", "Cancelled"]
            assert any("publish" in line for line in attempt.lines)

    async def test_a_shield_does_not_outlive_the_grace(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give_marking(executor, "shielded", tmp_path)
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 0.2)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Cancelled)
            assert outcome.killed
            assert marks(tmp_path) == []

    async def test_a_step_that_ended_is_not_done_again(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            first = self.give_marking(executor, "steps", tmp_path, fail=True)
            assert isinstance(await first.outcome(), Failed)
            kept = [report.value for report in first.of(Checkpoint)][-1]
            assert checkpoint.read(kept) == checkpoint.Saved(b'{"rows":3}', {"first": b'["one","two"]'})
            again = self.give_marking(executor, "steps", tmp_path, job={"checkpoint": kept, "attempt": 2})
            outcome = await again.outcome()
            assert isinstance(outcome, Succeeded), outcome
            one, two, before, key = json.loads(outcome.result)
            assert (one, two, before) == (["one", "two"], ["three"], {"rows": 3})
            assert len(key) == 36
            assert marks(tmp_path) == ["one two", "three"]


def exists(path: str) -> bool:
    """Whether a temporary folder is there."""
    return Path(path).is_dir()


def marks(folder: Path) -> list[str]:
    """The marks that tasks left."""
    path = folder / "marks"
    return path.read_text().splitlines() if path.exists() else []
