"""ExecutorContract: what an attempt has saved and said is kept however it ends, and its clean-up is left in peace."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.core.outcome import Cancelled, Crashed, Interrupted, TimedOut
from heavylift.executor import Ability, Executor, StopReason
from heavylift.testing.executors.cases import Attempt, ExecutorSuite
from heavylift.testing.executors.looks import look_at_native

ENDS = {StopReason.CANCEL: Cancelled, StopReason.TIMEOUT: TimedOut, StopReason.DRAIN: Interrupted}
SAID = [f"{what} {part}" for what in ("handling", "cleaning") for part in ("begin", "end")]


class KeepingCases(ExecutorSuite):
    """Clean-ups, and the last checkpoint."""

    def tidying(self, executor: Executor, how: str, path: Path) -> Attempt:
        if self.place == "loop":
            return self.give(executor, "tidy_awaiting", path=str(path))
        return self.give(executor, "tidy", how=how, path=str(path))

    @pytest.mark.parametrize("reason", ENDS)
    @pytest.mark.parametrize("how", ["sleep", "poll", "track", "shield"])
    async def test_a_clean_up_may_say_and_save_what_it_likes(
        self, tmp_path: Path, how: str, reason: StopReason
    ) -> None:
        if (self.place == "loop") != (how == "sleep") and self.place != "process":
            pytest.skip("a coroutine is stopped where it awaits, a thread not while it sleeps")
        async with self.running(*(() if how != "sleep" else (Ability.KILL,))) as executor:
            attempt = self.tidying(executor, how, tmp_path / "file")
            await attempt.begun()
            executor.stop(attempt.job.id, 1, reason, 25.0)
            outcome = await attempt.outcome()
            assert isinstance(outcome, ENDS[reason]), outcome
            assert not getattr(outcome, "killed", False)
            assert (tmp_path / "file").read_text() == "cleaned up"
            assert [line for line in attempt.lines if line in SAID] == SAID
            assert attempt.checkpoints == [line.split() for line in SAID]

    @pytest.mark.parametrize("how", ["exit", "kill"])
    async def test_what_was_saved_before_a_crash_is_kept(self, how: str) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give(executor, "save_and", how=how)
            assert isinstance(await attempt.outcome(), Crashed)
            assert attempt.checkpoints == ["early", "late"]

    @pytest.mark.parametrize("reason", ENDS)
    async def test_what_was_saved_before_native_code_was_killed_is_kept(self, reason: StopReason) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give(executor, "save_and", how="native")
            await attempt.begun()
            await look_at_native(executor, attempt)
            executor.stop(attempt.job.id, 1, reason, 0.1)
            outcome = await attempt.outcome()
            assert isinstance(outcome, ENDS[reason]), outcome
            assert getattr(outcome, "killed", True)
            assert attempt.checkpoints == ["early", "late"]
