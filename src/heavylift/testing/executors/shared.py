"""ExecutorContract: what is different where attempts share a process."""

# ruff: noqa: D102, FBT001  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from heavylift.core.job import Progress
from heavylift.core.outcome import Cancelled, Crashed, Failed, Interrupted, Succeeded, TimedOut
from heavylift.executor import Checkpoint, Executor, StopReason
from heavylift.testing.executors.cases import Attempt, ExecutorSuite, until


def marks(tmp_path: Path) -> list[str]:
    """The lines that tasks left."""
    file = tmp_path / "marks"
    return file.read_text().splitlines() if file.exists() else []


class SharedCases(ExecutorSuite):
    """Neighbours in one process."""

    def neighbour(self, executor: Executor, path: Path, **job: Any) -> Attempt:
        """An attempt that goes on until the file is there."""
        return self.give(executor, "linger" if self.place == "loop" else "wait_for", path=str(path), job=job)

    async def test_they_run_side_by_side_in_one_process(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            waiting = [self.neighbour(executor, tmp_path / "go")]
            await waiting[0].begun()
            places = {(await self.give(executor, "where").outcome()).result for _ in range(5)}  # type: ignore[union-attr]
            assert len({json.loads(place)[0] for place in places}) == 1
            (tmp_path / "go").touch()
            assert isinstance(await waiting[0].outcome(), Succeeded)

    async def test_a_blocked_one_is_killed_at_its_deadline_and_its_neighbours_go_back_at_no_cost(
        self, tmp_path: Path
    ) -> None:
        async with self.running() as executor:
            neighbour = self.neighbour(executor, tmp_path / "go")
            await neighbour.begun()
            victim = self.give(executor, "loop", how="native", path=str(tmp_path / "file"))
            await victim.begun()
            executor.stop(victim.job.id, 1, StopReason.CANCEL, 0.2)
            outcome = await victim.outcome()
            assert isinstance(outcome, Cancelled)
            assert (outcome.started, outcome.killed) == (True, True)
            handed_back = await neighbour.outcome()
            assert isinstance(handed_back, Interrupted)
            assert (handed_back.lost, handed_back.suspect) == (False, False)
            assert "neighbour" in handed_back.reason
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)

    async def test_who_shared_a_host_that_died_is_suspected_and_only_one_that_was_alone_is_charged(
        self, tmp_path: Path
    ) -> None:
        async with self.running() as executor:
            neighbour = self.neighbour(executor, tmp_path / "go")
            await neighbour.begun()
            poison = self.give(executor, "die", how="exit")
            for attempt in (poison, neighbour):
                outcome = await attempt.outcome()
                assert isinstance(outcome, Interrupted), outcome
                assert outcome.suspect
                assert not outcome.lost
            (tmp_path / "go").touch()
            alone = [
                self.give(executor, "die", how="exit", job={"suspected": True}),
                self.neighbour(executor, tmp_path / "go", suspected=True),
            ]
            assert isinstance(await alone[0].outcome(), Crashed)
            assert isinstance(await alone[1].outcome(), Succeeded)

    async def test_a_fork_bomb_is_killed_with_its_host_and_charged_when_it_is_alone(self, tmp_path: Path) -> None:
        async with self.running(processes=20) as executor:
            neighbour = self.neighbour(executor, tmp_path / "go")
            await neighbour.begun()
            given: dict[str, Any] = {"path": str(tmp_path / "survived"), "how": "group", "rounds": 8}
            bomb = self.give(executor, "bomb", **given)
            for attempt in (bomb, neighbour):
                outcome = await attempt.outcome()
                assert isinstance(outcome, Interrupted), outcome
                assert outcome.suspect
            alone = self.give(executor, "bomb", **given, job={"suspected": True, "grace": 0.2})
            outcome = await alone.outcome()
            assert isinstance(outcome, Failed)
            assert outcome.error.code == "process-limit"
            assert not (tmp_path / "survived").exists()
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)

    async def test_one_that_was_alone_by_chance_is_charged(self) -> None:
        async with self.running() as executor:
            outcome = await self.give(executor, "die", how="segfault").outcome()
            assert isinstance(outcome, Crashed)
            assert outcome.error.signal == "SIGSEGV"
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)

    async def test_a_fresh_one_has_a_process_of_its_own(self) -> None:
        async with self.running() as executor:
            shared = json.loads((await self.give(executor, "where").outcome()).result)[0]  # type: ignore[union-attr]
            fresh = [self.give(executor, "where", job={"fresh": True}) for _ in range(5)]
            pids = {json.loads((await attempt.outcome()).result)[0] for attempt in fresh}  # type: ignore[union-attr]
            assert len(pids) == 5
            assert shared not in pids

    async def test_close_lets_running_ones_end_and_stops_the_others(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            ending = self.neighbour(executor, tmp_path / "go")
            endless = self.neighbour(executor, tmp_path / "never")
            await ending.begun()
            await endless.begun()
            closing = asyncio.ensure_future(executor.close(4.0))
            (tmp_path / "go").touch()
            assert isinstance(await ending.outcome(), Succeeded)
            assert isinstance(await self.give(executor, "give").outcome(), Interrupted)
            outcome = await endless.outcome()
            assert isinstance(outcome, Interrupted)
            assert not outcome.lost
            await closing

    async def test_as_many_as_there_are_slots(self) -> None:
        async with self.running(coroutines=3, threads=3) as executor:
            assert self.free(executor) == 3
            attempts = [self.give(executor, "nap", seconds=0.05) for _ in range(3)]
            assert self.free(executor) == 0
            for attempt in attempts:
                assert isinstance(await attempt.outcome(), Succeeded)
            assert self.free(executor) == 3


class ThreadCases(SharedCases):
    """Functions in threads."""

    @pytest.mark.parametrize("how", ["spin", "report", "swallow"])
    async def test_a_soft_stop_lets_the_clean_up_run_and_touches_no_neighbour(self, tmp_path: Path, how: str) -> None:
        async with self.running() as executor:
            neighbour = self.give(executor, "wait_for", path=str(tmp_path / "go"))
            await neighbour.begun()
            attempt = self.give(executor, "loop", how=how, path=str(tmp_path / "file"))
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Cancelled), outcome
            assert (outcome.started, outcome.killed) == (True, False)
            assert (tmp_path / "file").read_text() == "cleaned up"
            (tmp_path / "go").touch()
            assert isinstance(await neighbour.outcome(), Succeeded)

    async def test_who_uses_up_the_descriptors_of_its_host_is_charged_when_they_are_missed(self) -> None:
        async with self.running() as executor:
            greedy = self.give(executor, "keep_descriptors")
            await greedy.begun()
            # So much travels by a descriptor of its own.
            large = self.give(executor, "give", value=100_000 * "x")
            outcome = await greedy.outcome()
            assert isinstance(outcome, Crashed)
            assert "used up all descriptors" in outcome.error.message
            assert isinstance(await large.outcome(), Succeeded)

    async def test_a_thread_may_get_another_name(self) -> None:
        async with self.running(threads=1) as executor:
            for name in ("the loader", "loader_7"):
                assert isinstance(await self.give(executor, "rename_thread", name=name).outcome(), Succeeded)
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)

    async def test_cancelled_is_raised_once_and_an_answer_that_comes_wins(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            attempt = self.give(executor, "loop", how="catch once", path=str(tmp_path / "file"))
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Succeeded)

    async def test_a_timeout_is_a_stop(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            job = {"timeout": 0.3, "grace": 25.0}
            attempt = self.give(executor, "loop", how="spin", path=str(tmp_path / "file"), job=job)
            outcome = await attempt.outcome()
            assert isinstance(outcome, TimedOut)
            assert not outcome.killed

    async def test_stops_that_come_at_any_moment_hit_nobody_else(self) -> None:
        async with self.running(threads=8) as executor:
            for number in range(300):
                attempts = [self.give(executor, "count", to=number % 40) for _ in range(4)]
                await asyncio.sleep(number % 7 / 2000)
                executor.stop(attempts[0].job.id, 1, StopReason.CANCEL, 25.0)
                outcomes = [await attempt.outcome() for attempt in attempts]
                assert isinstance(outcomes[0], Succeeded | Cancelled), outcomes[0]
                assert all(isinstance(outcome, Succeeded) for outcome in outcomes[1:]), outcomes


class LoopCases(SharedCases):
    """Coroutines on a loop."""

    async def test_a_hundred_run_at_once_and_a_stop_ends_one(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            attempts = [self.give(executor, "linger", path=str(tmp_path / f"go{number}")) for number in range(100)]
            for attempt in attempts:
                await attempt.begun()
            executor.stop(attempts[50].job.id, 1, StopReason.CANCEL, 25.0)
            outcome = await attempts[50].outcome()
            assert isinstance(outcome, Cancelled)
            assert (outcome.started, outcome.killed) == (True, False)
            assert (tmp_path / "go50.cleaned").exists()
            for number in range(100):
                (tmp_path / f"go{number}").touch()
            for attempt in attempts:
                assert isinstance(await attempt.outcome(), Cancelled if attempt is attempts[50] else Succeeded)

    async def test_a_stop_reaches_one_in_a_host_that_takes_no_more(self, tmp_path: Path) -> None:
        async with self.running(recycle_jobs=1) as executor:
            attempt = self.give(executor, "linger", path=str(tmp_path / "go"))
            await attempt.begun()
            first = await self.give(executor, "where").outcome()
            second = await self.give(executor, "where").outcome()
            assert isinstance(first, Succeeded)
            assert isinstance(second, Succeeded)
            assert first.result != second.result
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Cancelled)
            assert not outcome.killed

    async def test_one_that_never_started_ends_at_once(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            waiting = self.give(executor, "linger", path=str(tmp_path / "go"))
            executor.stop(waiting.job.id, 1, StopReason.CANCEL, 25.0)
            outcome = await waiting.outcome()
            assert isinstance(outcome, Cancelled)
            assert not (outcome.started and not (tmp_path / "go.cleaned").exists())

    async def test_what_catches_the_cancel_and_returns_has_succeeded(self) -> None:
        async with self.running() as executor:
            attempt = self.give(executor, "catch_cancel")
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Succeeded)
            assert outcome.result == b'"caught"'

    async def test_a_cancel_that_nobody_asked_for_is_a_failure(self) -> None:
        async with self.running() as executor:
            outcome = await self.give(executor, "cancel_itself").outcome()
            assert isinstance(outcome, Failed)
            assert "CancelledError" in (outcome.error.exception or "")

    @pytest.mark.parametrize(("clean_up", "killed"), [(0.01, False), (1000.0, True)])
    async def test_a_timeout_is_a_stop(self, tmp_path: Path, clean_up: float, killed: bool) -> None:
        async with self.running() as executor:
            job = {"timeout": 0.3, "grace": 0.2 if killed else 25.0}
            attempt = self.give(executor, "linger", path=str(tmp_path / "go"), clean_up=clean_up, job=job)
            outcome = await attempt.outcome()
            assert isinstance(outcome, TimedOut)
            assert outcome.killed == killed

    async def test_a_blocked_loop_is_told_of_and_new_ones_go_elsewhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("heavylift.executors.shared_pool.BLOCKED", 1.0)
        caplog.set_level(logging.WARNING)
        async with self.running() as executor:
            neighbour = self.give(executor, "linger", path=str(tmp_path / "go"))
            await neighbour.begun()
            blocking = self.give(executor, "block", seconds=4.0)
            await until(lambda: "has blocked" in caplog.text)
            assert f"job {blocking.job.id} (block)" in caplog.text
            assert "in block\n" in caplog.text, "the stack names the function"
            assert "1 other jobs" in caplog.text
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)
            assert not blocking.future.done()
            (tmp_path / "go").touch()
            assert isinstance(await blocking.outcome(), Succeeded)
            assert isinstance(await neighbour.outcome(), Succeeded)

    async def test_what_a_job_left_on_the_loop_is_cancelled(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            assert isinstance(
                await self.give(executor, "leave_a_task", path=str(tmp_path / "file")).outcome(), Succeeded
            )
            await until((tmp_path / "file").exists)

    def give_noting(self, executor: Executor, task: str, tmp_path: Path, job: Any = None, **args: Any) -> Attempt:
        """An attempt of a task that leaves marks; see `marks`."""
        return self.give(executor, task, job={"labels": {"path": str(tmp_path / "marks")}, **(job or {})}, **args)

    async def test_dependencies_of_coroutines_are_opened_shared_and_closed(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            (tmp_path / "go").touch()
            attempts = [self.give_noting(executor, "hold_open", tmp_path, path=str(tmp_path / "go")) for _ in range(5)]
            for attempt in attempts:
                outcome = await attempt.outcome()
                assert isinstance(outcome, Succeeded), outcome
                assert json.loads(outcome.result) == ["file", "session", 1], "the engine was opened once"
            found = marks(tmp_path)
            assert {line: found.count(line) for line in found} == dict.fromkeys(
                ("file in False", "open", "exit", "closed", "file closed"), 5
            )

    async def test_a_cancelled_coroutine_closes_what_it_has_open(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            attempt = self.give_noting(executor, "hold_open", tmp_path, path=str(tmp_path / "go"))
            await attempt.begun()
            folder = Path(attempt.of(Progress)[0].message)
            assert (folder / "x").exists()
            for _ in range(3):  # a second stop interrupts no clean-up
                executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Cancelled)
            assert not outcome.killed
            assert marks(tmp_path) == ["file in False", "open", "exit", "CancelledError", "closed", "file closed"]
            await until(lambda: not folder.exists())

    async def test_the_folder_of_a_killed_one_goes_too(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            attempt = self.give_noting(executor, "hold_open", tmp_path, path=str(tmp_path / "go"))
            await attempt.begun()
            folder = Path(attempt.of(Progress)[0].message)
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0, force=True)
            await attempt.outcome()
            await until(lambda: not folder.exists())

    async def test_a_stop_while_a_coroutine_opens_closes_those_before_it(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            attempt = self.give_noting(executor, "open_long", tmp_path)
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            assert isinstance(await attempt.outcome(), Cancelled)
            assert marks(tmp_path) == ["open", "CancelledError", "closed"]

    async def test_a_stop_waits_for_the_end_of_a_coroutines_shield(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            attempt = self.give_noting(executor, "shielded_await", tmp_path, path=str(tmp_path / "go"))
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            await asyncio.sleep(0.3)  # what heeds no shield is stopped by then
            (tmp_path / "go").touch()
            assert isinstance(await attempt.outcome(), Cancelled)
            assert marks(tmp_path) == ["whole", "CancelledError"]
            assert any("publish" in line for line in attempt.lines)

    async def test_a_step_of_a_coroutine_is_not_done_again(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            first = self.give_noting(executor, "awaited_steps", tmp_path, fail=True)
            assert isinstance(await first.outcome(), Failed)
            kept = first.of(Checkpoint)[-1].value
            job = {"checkpoint": kept, "attempt": 2}
            outcome = await self.give_noting(executor, "awaited_steps", tmp_path, job, fail=False).outcome()
            assert isinstance(outcome, Succeeded), outcome
            assert outcome.result == b'["done"]'
            assert marks(tmp_path) == ["worked"]

    async def test_a_fork_that_comes_back_is_no_host(self) -> None:
        async with self.running() as executor:
            for _ in range(3):
                outcome = await self.give(executor, "fork_and_await").outcome()
                assert isinstance(outcome, Succeeded)
                assert int(outcome.result) > 0

    async def test_a_coroutine_may_start_many_others(self) -> None:
        async with self.running() as executor:
            outcome = await self.give(executor, "gather", count=1000).outcome()
            assert isinstance(outcome, Succeeded)
            assert outcome.result == b"499500"

    async def test_functions_and_coroutines_of_one_application_run_where_they_belong(self) -> None:
        async with self.running() as executor:
            kinds: list[Attempt] = [
                self.give(executor, "where"),
                self.give(executor, "plain", job={"run_in": "thread"}),
                self.give(executor, "alone", job={"run_in": "process"}),
            ]
            pids = [json.loads((await attempt.outcome()).result)[0] for attempt in kinds]  # type: ignore[union-attr]
            assert pids[0] == pids[1] != pids[2]
