"""ExecutorContract: where the code of an attempt is, found while it runs, and without a trace."""

# ruff: noqa: D102  a test is named by its sentence, and asserts

from __future__ import annotations

import asyncio
from pathlib import Path

from heavylift.core.outcome import Cancelled, Succeeded
from heavylift.core.stack import Source, Stack
from heavylift.executor import Ability, Executor, StopReason
from heavylift.testing.executors.cases import PATIENCE, Attempt, ExecutorSuite


async def look(executor: Executor, attempt: Attempt) -> Stack:
    """Where a running attempt is."""
    found = await executor.look(attempt.job.id, attempt.job.attempt)
    assert found is not None
    return found


async def look_at_native(executor: Executor, attempt: Attempt) -> Stack:
    """Where an attempt is that is about to be in native code."""
    async with asyncio.timeout(PATIENCE):
        while (found := await look(executor, attempt)).source is not Source.SIGNAL:
            pass
    return found


async def look_until_over(executor: Executor, attempt: Attempt) -> list[Stack]:
    """Look again and again; what was seen."""
    seen = []
    while (found := await executor.look(attempt.job.id, attempt.job.attempt)) is not None:
        seen.append(found)
        await asyncio.sleep(0)
    return seen


class LookCases(ExecutorSuite):
    """Looked at, and not disturbed."""

    def waiting(self, executor: Executor, path: Path) -> Attempt:
        return self.give(executor, "linger" if self.place == "loop" else "wait_for", path=str(path))

    async def test_it_is_found_where_its_code_is(self, tmp_path: Path) -> None:
        async with self.running() as executor:
            attempt = self.waiting(executor, tmp_path / "go")
            await attempt.begun()
            for _ in range(3):
                found = await look(executor, attempt)
                assert (found.source, found.attempt) == (Source.INTERPRETER, 1)
                assert found.text.startswith("  File "), "the task's own code comes first"
                assert f"in {attempt.job.task}\n" in found.text
                assert "\n    " in found.text, "with the text of the line"
                assert "heavylift/executors" not in found.text.splitlines()[0], "not what has called it"
            (tmp_path / "go").touch()
            assert isinstance(await attempt.outcome(), Succeeded)

    async def test_native_code_is_told_of_and_marked(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give(executor, "loop", how="native", path=str(tmp_path / "file"))
            await attempt.begun()
            found = await look_at_native(executor, attempt)
            lines = [line.rpartition(" in ")[2] for line in found.text.splitlines()]
            assert lines[-2:] == ["loop", "_native"]
            assert found.process is not None
            assert found.process.memory > 2**20
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0, force=True)
            assert isinstance(await attempt.outcome(), Cancelled)

    async def test_what_is_over_or_unknown_is_nowhere(self) -> None:
        async with self.running() as executor:
            attempt = self.give(executor, "give")
            await attempt.outcome()
            for job, number in ((attempt.job.id, 1), (attempt.job.id, 2), ("nobody", 1)):
                assert await executor.look(job, number) is None

    async def test_what_ends_while_it_is_looked_for_is_over(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL) as executor:
            attempt = self.give(executor, "loop", how="native", path=str(tmp_path / "file"))
            await attempt.begun()
            await look_at_native(executor, attempt)
            looking = asyncio.ensure_future(executor.look(attempt.job.id, 1))
            await asyncio.sleep(0)  # it has begun to wait for an answer, which takes native code a while
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0, force=True)
            await attempt.outcome()
            assert await looking is None

    async def test_a_look_tears_no_report(self) -> None:
        async with self.running() as executor:
            attempt = self.give(executor, "mix", rounds=300)
            await look_until_over(executor, attempt)
            assert isinstance(await attempt.outcome(), Succeeded)
            assert attempt.checkpoints == list(range(300))
            assert attempt.lines == [f"line {number}" for number in range(300)]
            assert attempt.progress[-1] == 299

    async def test_a_look_neither_holds_up_a_stop_nor_swallows_it(self, tmp_path: Path) -> None:
        async with self.running(Ability.KILL) as executor:
            self.needs_function()
            for number in range(5):
                file = tmp_path / f"file-{number}"
                attempt = self.give(executor, "loop", how="spin", path=str(file))
                await attempt.begun()
                looking = asyncio.ensure_future(look_until_over(executor, attempt))
                await asyncio.sleep(0.01 * number)  # in one of them the handler runs when the stop comes
                executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
                outcome = await attempt.outcome()
                assert isinstance(outcome, Cancelled), outcome
                assert not outcome.killed
                assert file.read_text() == "cleaned up"
                await looking
