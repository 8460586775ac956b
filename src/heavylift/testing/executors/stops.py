"""ExecutorContract: timeouts, cancels, limits and drains, soft and hard."""

# ruff: noqa: D102, FBT001  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from heavylift.core.outcome import Cancelled, Failed, Interrupted, Succeeded, TimedOut
from heavylift.executor import Ability, StopReason
from heavylift.testing.executors.cases import Attempt, ExecutorSuite, alive, until

SOFT = ["spin", "spin in a line", "sleep", "report", "swallow", "callback", "thread", "import"]
HARD = ["stubborn", "native"]


def needs(how: str) -> tuple[Ability, ...]:
    """Code that reports hears of a stop wherever it runs."""
    return () if how == "report" else (Ability.KILL,)


class StopCases(ExecutorSuite):
    """Asked, waited for, killed."""

    @pytest.mark.parametrize("how", SOFT)
    async def test_a_soft_stop_lets_the_clean_up_run(self, tmp_path: Path, how: str) -> None:
        async with self.running(*needs(how)) as executor:
            attempt = self.give(executor, "loop", how=how, path=str(tmp_path / "file"))
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Cancelled), outcome
            assert (outcome.started, outcome.killed) == (True, False)
            assert (tmp_path / "file").read_text() == "cleaned up"

    @pytest.mark.parametrize("how", HARD)
    async def test_what_does_not_stop_is_killed(self, tmp_path: Path, how: str) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give(executor, "loop", how=how, path=str(tmp_path / "file"))
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 0.2)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Cancelled)
            assert (outcome.started, outcome.killed) == (True, True)
            assert outcome.usage.wall > 0
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)

    async def test_a_forced_stop_kills_at_once(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give(executor, "loop", how="sleep", path=str(tmp_path / "file"))
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 1000.0, force=True)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Cancelled)
            assert outcome.killed
            assert not (tmp_path / "file").exists()

    async def test_a_later_stop_may_sharpen_an_earlier_one(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give(executor, "loop", how="stubborn", path=str(tmp_path / "file"))
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 1000.0)
            await until((tmp_path / "file").exists)
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 0.0)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Cancelled)
            assert outcome.killed

    async def test_code_that_polls_ends_in_its_own_way(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            attempt = self.give(executor, "loop", how="poll", path=str(tmp_path / "file"))
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            outcome = await attempt.outcome()
            # The signal may have come before the poll; either way the state tells what happened.
            if isinstance(outcome, Succeeded):
                assert (tmp_path / "file").read_text() == "cleaned up"
            else:
                assert isinstance(outcome, Cancelled)

    async def test_cancelled_is_raised_once_and_an_answer_that_comes_wins(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give(executor, "loop", how="catch once", path=str(tmp_path / "file"))
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Succeeded)
            assert outcome.result == b'"caught"'

    async def test_an_exception_made_of_a_cancelled_counts_as_one(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give(executor, "loop", how="translate", path=str(tmp_path / "file"))
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            assert isinstance(await attempt.outcome(), Cancelled)

    @pytest.mark.parametrize(("how", "killed"), [("sleep", False), ("native", True), ("report", False)])
    async def test_a_timeout_is_a_stop(self, tmp_path: Path, how: str, killed: bool) -> None:
        async with self.running(*needs(how)) as executor:
            grace = 0.2 if killed else 25.0
            attempt = self.give(
                executor, "loop", how=how, path=str(tmp_path / "file"), job={"timeout": 0.3, "grace": grace}
            )
            outcome = await attempt.outcome()
            assert isinstance(outcome, TimedOut)
            assert (outcome.killed, outcome.error.code) == (killed, "timed-out")
            assert "0.3 s" in outcome.error.message
            assert outcome.usage.wall >= 0.3
            if Ability.KILL not in executor.lacks:
                assert f"in _{how}" in (outcome.error.traceback or "")
                assert "stopping.py" not in (outcome.error.traceback or "")

    async def test_a_timeout_counts_from_the_start(self) -> None:
        async with self.running(concurrency=1) as executor:
            blocker = self.give(executor, "nap", seconds=0.3)
            attempt = self.give(executor, "nap", seconds=0.0, job={"timeout": 0.2})
            assert isinstance(await blocker.outcome(), Succeeded)
            assert isinstance(await attempt.outcome(), Succeeded)

    async def test_too_much_memory_fails_the_attempt(self) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give(executor, "allocate", size=400 << 20, job={"memory": 200 << 20, "grace": 0.5})
            outcome = await attempt.outcome()
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.retryable) == ("memory-limit", True)

    async def test_what_it_has_started_counts_too(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            options = {"memory": 256 << 20, "grace": 0.5}
            given = {"size": 64 << 20, "count": 6}
            # Forked six times over, these bytes are still there but once.
            shared = self.give(executor, "allocate_in_children", **given, shared=True, job=options)
            outcome = await shared.outcome()
            assert isinstance(outcome, Succeeded), outcome
            own = self.give(executor, "allocate_in_children", **given, shared=False, job=options)
            outcome = await own.outcome()
            assert isinstance(outcome, Failed)
            assert outcome.error.code == "memory-limit"
            assert (outcome.usage.peak_rss or 0) > 256 << 20

    async def test_what_others_left_in_memory_does_not_count(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            await self.ended(executor, "give")
            await self.ended(executor, "keep_memory", size=200 << 20)
            options = {"memory": 128 << 20, "grace": 0.5}
            assert isinstance(await self.ended(executor, "nap", seconds=0.3, job=options), Succeeded)
            outcome = await self.ended(executor, "allocate", size=150 << 20, job=options)
            assert isinstance(outcome, Failed), outcome
            assert outcome.error.code == "memory-limit"

    async def test_too_much_cpu_time_of_a_process_that_still_runs_fails_the_attempt(self) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            attempt = self.give(executor, "burn_in_child", job={"cpu_time": 0.3, "grace": 0.2})
            outcome = await attempt.outcome()
            assert isinstance(outcome, Failed)
            assert outcome.error.code == "cpu-limit"
            assert outcome.usage.cpu >= 0.3
            fits = self.give(executor, "burn", seconds=0.1, job={"cpu_time": 60})
            assert isinstance(await fits.outcome(), Succeeded)

    async def test_too_much_cpu_time_fails_the_attempt(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give(
                executor, "loop", how="spin", path=str(tmp_path / "file"), job={"cpu_time": 0.2, "grace": 25.0}
            )
            outcome = await attempt.outcome()
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.retryable) == ("cpu-limit", True)
            assert (tmp_path / "file").exists()

    async def test_one_that_never_started_ends_at_once(self, tmp_path: Path) -> None:
        async with self.running(concurrency=1) as executor:
            blocker = self.give(executor, "wait_for", path=str(tmp_path / "go"))
            await blocker.begun()
            waiting = self.give(executor, "give")
            executor.stop(waiting.job.id, 1, StopReason.CANCEL, 25.0)
            outcome = await waiting.outcome()
            assert isinstance(outcome, Cancelled)
            assert not outcome.started
            assert not blocker.future.done()
            (tmp_path / "go").touch()
            assert isinstance(await blocker.outcome(), Succeeded)

    async def test_one_that_waits_for_long_is_handed_back(self, tmp_path: Path) -> None:
        async with self.running(concurrency=1) as executor:
            blocker = self.give(executor, "wait_for", path=str(tmp_path / "go"))
            waiting = self.give(executor, "give")
            outcome = await waiting.outcome()
            assert isinstance(outcome, Interrupted)
            assert outcome.reason == "not started"
            (tmp_path / "go").touch()
            assert isinstance(await blocker.outcome(), Succeeded)

    async def test_one_that_is_over_or_unknown_is_left_alone(self, tmp_path: Path) -> None:
        async with self.running(concurrency=1) as executor:
            over = self.give(executor, "where")
            first = await over.outcome()
            blocker = self.give(executor, "wait_for", path=str(tmp_path / "go"))
            await blocker.begun()
            for job, attempt in ((over.job.id, 1), (blocker.job.id, 2), ("nobody", 1)):
                executor.stop(job, attempt, StopReason.CANCEL, 0.0, force=True)
            (tmp_path / "go").touch()
            assert isinstance(await blocker.outcome(), Succeeded)
            again = await self.give(executor, "where").outcome()
            assert isinstance(first, Succeeded)
            assert isinstance(again, Succeeded)
            assert first.result == again.result  # the same process

    async def test_neighbours_of_a_killed_one_are_not_touched(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL, concurrency=3) as executor:
            neighbours = [self.give(executor, "wait_for", path=str(tmp_path / "go")) for _ in range(2)]
            for neighbour in neighbours:
                await neighbour.begun()
            for force in (True, False):
                victim = self.give(executor, "loop", how="spin", path=str(tmp_path / "file"))
                await victim.begun()
                executor.stop(victim.job.id, 1, StopReason.CANCEL, 25.0, force=force)
                assert isinstance(await victim.outcome(), Cancelled)
            (tmp_path / "go").touch()
            for neighbour in neighbours:
                assert isinstance(await neighbour.outcome(), Succeeded)

    @pytest.mark.parametrize("force", [True, False])
    async def test_a_host_that_was_stopped_is_not_used_again(self, tmp_path: Path, force: bool) -> None:
        async with self.running(Ability.KILL, concurrency=1) as executor:
            before = await self.give(executor, "where").outcome()
            attempt = self.give(executor, "loop", how="spin", path=str(tmp_path / "file"))
            await attempt.begun()
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0, force=force)
            await attempt.outcome()
            after = await self.give(executor, "where").outcome()
            assert isinstance(before, Succeeded)
            assert isinstance(after, Succeeded)
            assert before.result != after.result

    @pytest.mark.parametrize("end", ["stop", "force", "return"])
    async def test_no_process_of_a_job_outlives_it(self, tmp_path: Path, end: str) -> None:
        async with self.running(Ability.KILL) as executor:
            path = tmp_path / "pids"
            attempt = self.give(executor, "start_children", path=str(path), then_wait=end != "return")
            if end != "return":
                await attempt.begun()
                executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0, force=end == "force")
            await attempt.outcome()
            pids = [int(line) for line in path.read_text().split()]
            assert len(pids) >= 3
            assert not any(alive(pid) for pid in pids)

    async def test_close_lets_running_ones_end(self, tmp_path: Path) -> None:
        async with self.running(concurrency=1) as executor:
            running = self.give(executor, "wait_for", path=str(tmp_path / "go"))
            await running.begun()
            waiting = self.give(executor, "give")
            closing = asyncio.ensure_future(executor.close(100.0))
            outcome = await waiting.outcome()
            assert isinstance(outcome, Interrupted)
            assert executor.free.process == 0
            late = await self.give(executor, "give").outcome()
            assert isinstance(late, Interrupted)
            (tmp_path / "go").touch()
            assert isinstance(await running.outcome(), Succeeded)
            await closing

    async def test_close_stops_and_kills_what_does_not_end(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL, concurrency=3) as executor:
            attempts: list[Attempt] = []
            for how in ("spin", "native", "stubborn"):
                attempt = self.give(executor, "loop", how=how, path=str(tmp_path / how), job={"grace": 0.5})
                await attempt.begun()
                attempts.append(attempt)
            await executor.close(2.0)
            for attempt in attempts:
                assert attempt.future.done()
                outcome = await attempt.outcome()
                assert isinstance(outcome, Interrupted), outcome
                assert not outcome.lost
            assert (tmp_path / "spin").read_text() == "cleaned up"
