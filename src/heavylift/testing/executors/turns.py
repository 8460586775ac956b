"""ExecutorContract: code that waits for its turn in a rate goes on when the worker says so, and can be stopped."""

# ruff: noqa: D102  a test is named by its sentence, and asserts

from __future__ import annotations

import asyncio
from pathlib import Path

from heavylift.core.limits import Rate
from heavylift.core.outcome import Cancelled, Interrupted, Succeeded, TimedOut
from heavylift.executor import Ability, Executor, Reserve, StopReason
from heavylift.testing.executors.cases import Attempt, ExecutorSuite, until

ENDS = {StopReason.TIMEOUT: TimedOut, StopReason.DRAIN: Interrupted, StopReason.CANCEL: Cancelled}
SIDE_BY_SIDE = {
    "process": ("limited_threads", "limited_loops"),
    "thread": ("limited_threads", "limited_loops"),
    "loop": ("limited_coroutines",),
}


class TurnCases(ExecutorSuite):
    """`Context.limit`."""

    async def asked(self, attempt: Attempt, count: int) -> list[Reserve]:
        """What the code has asked for, when it has asked so often."""
        await until(lambda: len(attempt.of(Reserve)) >= count or attempt.future.done())
        found = attempt.of(Reserve)
        assert len(found) == count, attempt.future
        return found

    def limited(self, executor: Executor, count: int) -> Attempt:
        return self.give(executor, "limited_async" if self.place == "loop" else "limited", count=count)

    async def test_code_goes_on_when_its_turn_has_come(self) -> None:
        async with self.running() as executor:
            attempt = self.limited(executor, 2)
            [first] = await self.asked(attempt, 1)
            assert first.rate == Rate("10/s", key="crm")
            assert attempt.lines == []
            first.answer(0.0)
            _, second = await self.asked(attempt, 2)
            assert not attempt.future.done()
            answered = asyncio.get_running_loop().time()
            second.answer(0.2)
            assert isinstance(await attempt.outcome(), Succeeded)
            assert asyncio.get_running_loop().time() - answered >= 0.2
            assert attempt.lines == ["turn 0", "turn 1"]

    async def test_each_of_many_that_wait_side_by_side_has_its_own_turn(self) -> None:
        async with self.running() as executor:
            for task in SIDE_BY_SIDE[self.place]:
                await self._have_turns(self.give(executor, task, count=20), [*range(10, 20), *range(10)])

    async def _have_turns(self, attempt: Attempt, order: list[int]) -> None:
        wishes = {wish.rate.key: wish for wish in await self.asked(attempt, len(order))}
        for said, number in enumerate(order):
            wishes[f"key {number}"].answer(0.0)
            await until(lambda: len(attempt.lines) > said)  # noqa: B023  it is awaited here
        assert isinstance(await attempt.outcome(), Succeeded)
        assert attempt.lines == [f"turn {number}" for number in order]

    async def test_a_stop_is_raised_while_it_waits(self) -> None:
        async with self.running() as executor:
            for reason, kind in ENDS.items():
                attempt = self.limited(executor, 1)
                [wish] = await self.asked(attempt, 1)
                executor.stop(attempt.job.id, 1, reason, 25.0)
                outcome = await attempt.outcome()
                assert isinstance(outcome, kind), outcome
                assert not getattr(outcome, "killed", False)
                assert attempt.lines == [f"raised {'CancelledError' if self.place == 'loop' else 'Cancelled'}"]
                wish.answer(0.0)  # too late, and nobody minds
            again = self.limited(executor, 1)
            [wish] = await self.asked(again, 1)
            wish.answer(0.0)
            assert isinstance(await again.outcome(), Succeeded)

    async def test_a_stop_is_heard_by_all_threads_and_loops_that_wait(self) -> None:
        async with self.running() as executor:
            for task in SIDE_BY_SIDE[self.place]:
                attempt = self.give(executor, task, count=3)
                await self.asked(attempt, 3)
                executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
                outcome = await attempt.outcome()
                assert isinstance(outcome, Cancelled), outcome
                assert not outcome.killed
                if task == "limited_threads":
                    assert sorted(attempt.lines) == [f"{number} raised Cancelled" for number in range(3)]
                else:
                    assert len(attempt.lines) == 1

    async def test_under_a_shield_it_has_its_turn_first(self, tmp_path: Path) -> None:
        self.needs_function()
        async with self.running() as executor:
            attempt = self.give(executor, "limited_under_shield", path=str(tmp_path / "file"))
            [wish] = await self.asked(attempt, 1)
            executor.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
            await asyncio.sleep(0.1)  # it would be over by now
            assert not attempt.future.done()
            wish.answer(0.0)
            outcome = await attempt.outcome()
            assert isinstance(outcome, Cancelled), outcome
            assert not outcome.killed
            assert (tmp_path / "file").read_text() == "whole"

    async def test_what_is_no_rate_and_a_child_of_its_process_have_no_turns(self) -> None:
        self.needs_function()
        async with self.running() as executor:
            attempt = self.give(executor, "limited", count=1, rate="0/s")
            await attempt.outcome()
            assert attempt.of(Reserve) == []
            assert attempt.lines == ["raised ConfigError"]
            if Ability.KILL not in executor.lacks:
                outcome = await self.ended(executor, "limited_in_a_fork")
                assert isinstance(outcome, Succeeded), outcome
                assert outcome.result == b"7"
