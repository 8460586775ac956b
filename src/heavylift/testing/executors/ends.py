"""ExecutorContract: how attempts end by themselves, and what they report on the way."""

# ruff: noqa: D102, FBT001  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from heavylift.core.job import Progress
from heavylift.core.outcome import Failed, Snoozed, Succeeded
from heavylift.executor import Ability, LogLines
from heavylift.testing.executors.cases import ExecutorSuite, until

FLOOD = int(os.environ.get("HEAVYLIFT_TEST_PROGRESS_CALLS", "20000"))
"""A million takes ten seconds on an idle machine."""


class EndsCases(ExecutorSuite):
    """Returned, raised, reported."""

    @pytest.mark.parametrize("value", [None, 0, "text", [1, {"a": None}], {"ä": "☃"}, "x" * 300_000])
    async def test_what_a_task_returns_is_the_result(self, value: Any) -> None:
        async with self.running() as executor:
            outcome = await self.give(executor, "give", value=value).outcome()
            assert isinstance(outcome, Succeeded)
            assert json.loads(outcome.result) == value

    async def test_arguments_and_checkpoints_may_be_large(self) -> None:
        async with self.running() as executor:
            large = "x" * (1 << 20)
            checkpoint = json.dumps(large[:-2]).encode()
            attempts = [
                self.give(executor, "remember", values=[large[:-2]], job={"checkpoint": checkpoint}) for _ in range(3)
            ]
            for attempt in attempts:
                outcome = await attempt.outcome()
                assert isinstance(outcome, Succeeded), outcome
                assert outcome.result == checkpoint
                assert attempt.checkpoints == [large[:-2]]

    async def test_a_thousand_attempts_all_end(self) -> None:
        async with self.running() as executor:
            waiting = {self.give(executor, "add", a=0).future}
            given = 1
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                assert all(future.result() == Succeeded(b"2", future.result().usage) for future in done)
                while given < 1000 and self.free(executor):
                    given += 1
                    waiting.add(self.give(executor, "add", a=0).future)
            assert given == 1000

    async def test_usage_is_recorded(self) -> None:
        async with self.running() as executor:
            outcome = await self.give(executor, "burn", seconds=0.02).outcome()
            assert outcome.usage.wall >= 0.02
            assert outcome.usage.cpu >= 0.02
            if self.place == "process":  # of a process that is shared nobody knows whose the memory was
                assert outcome.usage.peak_rss
                assert outcome.usage.peak_rss > 1 << 20

    async def test_an_exception_is_told_with_its_class_message_and_traceback(self) -> None:
        async with self.running() as executor:
            outcome = await self.give(executor, "fail", message="no luck").outcome()
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.error.message) == ("failed", "no luck")
            assert outcome.error.exception == "ValueError"
            assert outcome.retryable
            assert outcome.delay is None
            assert "_raise(message)" in (outcome.error.traceback or "")
            assert "heavylift/executors" not in (outcome.error.traceback or "")

    @pytest.mark.parametrize(
        ("message", "failures", "retryable", "delay"),
        [("", 0, True, 7.0), ("", 2, True, 21.0), ("hopeless", 0, False, None), ("broken", 0, True, None)],
        ids=["first", "third", "hopeless", "broken"],
    )
    async def test_the_retry_policy_is_asked_where_the_exception_is(
        self, message: str, failures: int, retryable: bool, delay: float | None
    ) -> None:
        async with self.running() as executor:
            attempt = self.give(executor, "fail_by_policy", message=message, job={"failures": failures})
            outcome = await attempt.outcome()
            assert isinstance(outcome, Failed)
            assert (outcome.retryable, outcome.delay) == (retryable, delay)
            assert ("the policy broke" in outcome.error.message) == (message == "broken")

    async def test_an_exception_that_is_not_retried(self) -> None:
        async with self.running() as executor:
            outcome = await self.give(executor, "fail_for_good").outcome()
            assert isinstance(outcome, Failed)
            assert not outcome.retryable

    async def test_wishes(self) -> None:
        async with self.running() as executor:
            later = await self.give(executor, "wish", kind="later").outcome()
            assert isinstance(later, Failed)
            assert (later.retryable, later.delay, later.error.message) == (True, 3.0, "busy")
            never = await self.give(executor, "wish", kind="never").outcome()
            assert isinstance(never, Failed)
            assert (never.retryable, never.error.code, never.error.message) == (False, "gave-up", "no use")
            snooze = await self.give(executor, "wish", kind="snooze").outcome()
            assert isinstance(snooze, Snoozed)
            assert snooze.delay == 60.0

    @pytest.mark.parametrize("how", ["exit", "interrupt"])
    async def test_leaving_the_interpreter_fails_the_attempt_alone(self, how: str) -> None:
        async with self.running(concurrency=1) as executor:
            outcome = await self.give(executor, "leave", how=how).outcome()
            assert isinstance(outcome, Failed)
            assert outcome.error.message == {"exit": "SystemExit: bye", "interrupt": "KeyboardInterrupt"}[how]
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)

    @pytest.mark.parametrize("task", ["raise_hostile", "recurse"])
    async def test_an_exception_that_cannot_be_shown_has_a_safe_text(self, task: str) -> None:
        async with self.running(concurrency=1) as executor:
            outcome = await self.give(executor, task).outcome()
            assert isinstance(outcome, Failed)
            assert outcome.error.message
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)

    async def test_an_exception_whose_text_is_endless_is_cut(self) -> None:
        async with self.running(concurrency=1) as executor:
            outcome = await self.give(executor, "raise_large", size=50 << 20).outcome()
            assert isinstance(outcome, Failed)
            assert len(outcome.error.message) < 10_000
            assert len(outcome.error.traceback or "") < 40_000
            assert "characters left out" in outcome.error.message
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)

    @pytest.mark.parametrize("what", ["object", "nan", "generator", "coroutine", "surrogate", "cycle"])
    async def test_a_result_that_is_no_json_fails(self, what: str) -> None:
        async with self.running(concurrency=1) as executor:
            outcome = await self.give(executor, "give_odd", what=what).outcome()
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.retryable) == ("unserialisable-result", False)
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)

    @pytest.mark.parametrize("size", [(1 << 20) - 1, 50 << 20])
    async def test_a_result_that_is_too_large_fails(self, size: int) -> None:
        async with self.running(concurrency=1) as executor:
            fits = await self.give(executor, "give_large", size=(1 << 20) - 2).outcome()
            assert isinstance(fits, Succeeded)  # with its quotation marks it takes all that there is
            outcome = await self.give(executor, "give_large", size=size).outcome()
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.retryable) == ("result-too-large", False)
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)

    @pytest.mark.parametrize("args", [{}, {"a": "1"}, {"a": 1, "c": 1}, {"a": True}])
    async def test_arguments_that_do_not_fit_fail_without_a_start(self, args: dict[str, Any]) -> None:
        async with self.running() as executor:
            outcome = await self.give(executor, "add", **args).outcome()
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.retryable) == ("invalid-arguments", False)

    async def test_an_unknown_task_fails_without_a_start(self) -> None:
        async with self.running() as executor:
            outcome = await self.give(executor, "nonsense").outcome()
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.retryable) == ("unknown-task", False)

    async def test_tasks_are_known_after_start(self) -> None:
        async with self.running() as executor:
            assert executor.tasks["fail_by_policy"].options.retry.attempts == 5
            assert self.free(executor) > 0

    async def test_progress_comes_in_order_and_its_last_value_always(self) -> None:
        async with self.running() as executor:
            attempt = self.give(executor, "count", to=5000)
            await attempt.outcome()
            assert attempt.progress[0] == 1
            assert attempt.progress[-1] == 5000
            assert attempt.progress == sorted(attempt.progress)
            assert len(attempt.progress) < 1000

    async def test_progress_is_seen_while_the_code_says_no_more(self, tmp_path: Any) -> None:
        async with self.running(Ability.PARALLEL) as executor:
            attempt = self.give(executor, "count", to=2, pause=1000)
            if self.place == "loop":  # which it blocks: nobody else reports meanwhile
                await until(lambda: attempt.progress == [1])
                return
            attempt_of_one = self.give(executor, "wait_for", path=str(tmp_path / "go"))
            await until(lambda: attempt.progress == [1])
            await attempt_of_one.begun()
            (tmp_path / "go").touch()
            await attempt_of_one.outcome()
            assert [report.message for report in attempt_of_one.of(Progress)] == ["waiting"]

    async def test_the_last_checkpoint_comes_back(self) -> None:
        async with self.running() as executor:
            attempt = self.give(executor, "remember", values=[1, {"row": 2}])
            first = await attempt.outcome()
            assert isinstance(first, Succeeded)
            assert first.result == b'"nothing"'
            assert attempt.checkpoints == [1, {"row": 2}]
            again = self.give(executor, "remember", values=[], job={"checkpoint": b'{"row":2}', "attempt": 2})
            second = await again.outcome()
            assert isinstance(second, Succeeded)
            assert json.loads(second.result) == {"row": 2}

    async def test_every_line_of_the_log_arrives_once_and_in_order(self) -> None:
        async with self.running() as executor:
            attempt = self.give(executor, "write", lines=3000)
            await attempt.outcome()
            assert [int(line.rstrip(".")) for line in attempt.lines] == list(range(3000))

    async def test_lines_beyond_the_limit_are_dropped_and_counted(self) -> None:
        async with self.running(max_log=10_000) as executor:
            attempt = self.give(executor, "write", lines=100, size=500, job={"log_bytes": 4_000})
            await attempt.outcome()
            reports = attempt.of(LogLines)
            dropped = sum(report.dropped for report in reports)
            assert 0 < len(attempt.lines) < 12
            assert dropped == 100 - len(attempt.lines)
            assert sum(report.size for report in reports) <= 6_000

    async def test_a_flood_of_progress_is_twenty_reports_a_second_and_the_last_value(self) -> None:
        async with self.running(concurrency=1) as executor:
            attempt = self.give(executor, "flood", what="progress", calls=FLOOD)
            outcome = await asyncio.wait_for(asyncio.shield(attempt.future), 600)
            if Ability.KILL not in executor.lacks:
                assert len(attempt.progress) <= 20 * outcome.usage.wall + 3, outcome
            assert attempt.progress[-1] == FLOOD

    async def test_steady_progress_is_not_told_more_often_than_that(self) -> None:
        async with self.running(concurrency=1) as executor:
            attempt = self.give(executor, "count", to=150, pause=0.01)
            outcome = await attempt.outcome()
            if Ability.KILL not in executor.lacks:
                assert len(attempt.progress) <= 20 * outcome.usage.wall + 3, outcome
            assert attempt.progress[-1] == 150

    async def test_a_flood_of_lines_is_as_much_as_the_limit_and_a_count(self) -> None:
        async with self.running(concurrency=1) as executor:
            attempt = self.give(executor, "flood", what="log", calls=20_000, size=1000)
            assert isinstance(await attempt.outcome(), Succeeded)
            kept, reports = len(attempt.lines), attempt.of(LogLines)
            assert kept + sum(report.dropped for report in reports) == 20_000
            assert 0.9 < sum(report.size for report in reports) / (1 << 20) < 1.01

    async def test_reports_of_all_kinds_keep_their_order(self) -> None:
        async with self.running() as executor:
            attempt = self.give(executor, "mix", rounds=50)
            await attempt.outcome()
            lines = 0
            checkpoints = 0
            for report in attempt.reports:
                if isinstance(report, LogLines):
                    lines += len(report.lines)
                elif not isinstance(report, Progress):
                    checkpoints += 1
                    assert lines == checkpoints  # the line of this round came before it, the next one's did not
            assert checkpoints == 50
