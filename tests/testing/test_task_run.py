"""`run_task`: a task run here and now, with everything around it as in production but the store and the processes."""

import asyncio
import datetime as dt
import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest

from heavylift import (
    BoundTask,
    Cancelled,
    ConfigError,
    Context,
    GiveUp,
    Heavylift,
    Retry,
    RetryLater,
    Snooze,
    fixed,
)
from heavylift.core.dependency import Provide
from heavylift.core.errors import InvalidArguments, PayloadTooLarge
from heavylift.core.options import Options
from heavylift.core.outcome import Failed, Snoozed, Succeeded
from heavylift.core.task import define
from heavylift.testing import TaskRun, run_task, run_task_async

lift = Heavylift("sqlite:////nowhere/at/all.db")


@dataclass
class Report:
    day: dt.date
    rows: tuple[int, ...]


@lift.task
def build(day: dt.date, rows: int = 2) -> Report:
    return Report(day, tuple(range(rows)))


@lift.task
def work(ctx: Context, count: int) -> list[int]:
    first = ctx.resume(0)
    for number in ctx.track(range(first, count), total=count, start=first):
        ctx.log.info("row %d", number)
        ctx.checkpoint({"next": number + 1})
    return [ctx.attempt, ctx.failures]


@lift.task(retry=Retry(3, lambda failures, error: 10.0 * failures, but=(KeyError,)))
def fail(how: str) -> str:
    errors = {
        "value": ValueError("no luck"),
        "key": KeyError("gone"),
        "later": RetryLater("3s"),
        "never": GiveUp("no use"),
        "snooze": Snooze("1m"),
        "cancelled": Cancelled(),
        "interrupt": KeyboardInterrupt(),
    }
    raise errors[how]


@lift.task
def give(what: str) -> object:
    return {"text": "x", "object": object(), "large": "x" * (1 << 21), "nan": float("nan")}[what]


def test_the_result_is_what_a_caller_would_get():
    run = run_task(build, dt.date(2026, 1, 2), rows=3)
    assert run.result == Report(dt.date(2026, 1, 2), (0, 1, 2))
    assert isinstance(run.outcome, Succeeded)
    assert run.outcome.result == b'{"day":"2026-01-02","rows":[0,1,2]}'
    assert (run.error, run.exception) == (None, None)


def test_arguments_are_checked_as_at_a_submit():
    with pytest.raises(InvalidArguments, match="rows"):
        run_task(build, dt.date(2026, 1, 2), rows="3")
    with pytest.raises(InvalidArguments, match="no such argument"):
        run_task(build, dt.date(2026, 1, 2), raws=3)
    with pytest.raises(PayloadTooLarge):
        run_task(give, "x" * (1 << 21))


def test_what_it_reported_is_there_in_order():
    run = run_task(work, 3)
    assert [progress.percent for progress in run.progress] == pytest.approx([0, 100 / 3, 200 / 3, 100])
    assert [line.message for line in run.logs] == ["row 0", "row 1", "row 2"]
    assert {line.level for line in run.logs} == {"info"}
    assert run.checkpoints == ({"next": 1}, {"next": 2}, {"next": 3})
    assert run.result == [1, 0]


def test_of_many_reports_of_progress_the_last_is_there():
    @Heavylift().task
    def count(ctx: Context) -> None:
        for number in range(10_001):
            ctx.progress(number)

    done = [progress.done for progress in run_task(count).progress]
    assert done == sorted(done)
    assert done[-1] == 10_000
    assert len(done) < 1000


def test_a_later_attempt_resumes():
    @Heavylift().task
    def resume(ctx: Context) -> list[object]:
        return [ctx.resume(), ctx.attempt, ctx.failures]

    assert run_task(resume).result == [None, 1, 0]
    assert run_task(resume, checkpoint={"row": 2}, attempt=3).result == [{"row": 2}, 3, 2]
    with pytest.raises(ConfigError, match="number of a start"):
        run_task(resume, attempt=0)


@pytest.mark.parametrize(
    ("how", "attempt", "retryable", "delay", "code"),
    [
        ("value", 1, True, 10.0, "failed"),
        ("value", 2, True, 20.0, "failed"),
        ("key", 1, False, None, "failed"),
        ("later", 1, True, 3.0, "failed"),
        ("never", 1, False, None, "gave-up"),
        ("cancelled", 1, False, None, "failed"),
    ],
)
def test_a_failure_is_answered_as_a_host_would(how, attempt, retryable, delay, code):
    run = run_task(fail, how, attempt=attempt)
    assert isinstance(run.outcome, Failed)
    assert (run.outcome.retryable, run.outcome.delay, run.error.code) == (retryable, delay, code)
    assert run.exception is not None


def test_a_snooze_is_one():
    run = run_task(fail, "snooze")
    assert isinstance(run.outcome, Snoozed)
    assert run.outcome.delay == 60
    assert run.error is None


@pytest.mark.parametrize("delay", [-1, float("nan"), 1e308, "soon", None, True])
@pytest.mark.parametrize("wish", [Snooze, RetryLater])
def test_a_pause_that_is_no_duration_is_told_with_its_place(wish, delay):
    @Heavylift("memory://").task
    def ask() -> None:
        raise wish(delay)

    error = run_task(ask).error
    if wish is RetryLater and delay is None:
        assert error.message == "the task asked to be retried"
        return
    assert f"{wish.__name__}: {delay!r} is no duration" in error.message
    assert "raise wish(delay)" in error.traceback


def test_the_result_of_a_failure_shows_the_tasks_own_exception():
    run = run_task(fail, "value")
    with pytest.raises(AssertionError, match=r"Task 'fail' has no result.*no luck") as raised:
        _ = run.result
    assert isinstance(raised.value.__cause__, ValueError)
    assert "raise errors[how]" in run.error.traceback


@pytest.mark.parametrize(("what", "code"), [("object", "unserialisable-result"), ("large", "result-too-large")])
def test_a_result_that_cannot_be_stored_fails(what, code):
    assert run_task(give, what).error.code == code


def test_what_is_meant_for_the_test_comes_through():
    with pytest.raises(KeyboardInterrupt):
        run_task(fail, "interrupt")


def test_it_is_frozen_and_names_no_store():
    run = run_task(give, "text")
    with pytest.raises(AttributeError):
        run.progress = ()
    assert isinstance(run, TaskRun)
    assert lift._client is None


async def test_a_function_may_be_run_from_a_loop():
    assert run_task(give, "text").result == "x"
    assert (await run_task_async(give, "text")).result == "x"


def coroutine_task(function):
    """A task of an `async def`."""
    return BoundTask(define(function, None, Options(), Context), lambda: Heavylift().client)


async def double(ctx: Context, number: int) -> int:
    await asyncio.sleep(0)
    ctx.progress(1, 1)
    return 2 * number


async def test_a_coroutine_runs_on_this_very_loop():
    task = coroutine_task(double)
    run = await run_task_async(task, 4)
    assert run.result == 8
    assert len(run.progress) == 1
    with pytest.raises(ConfigError, match="await run_task_async"):
        run_task(task, 4)


async def test_a_cancelled_test_is_not_a_failed_task():
    async def wait() -> None:
        await asyncio.Event().wait()

    task = coroutine_task(wait)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await run_task_async(task)


def test_a_coroutine_runs_where_there_is_no_loop():
    assert run_task(coroutine_task(double), 4).result == 8


def test_a_task_keeps_its_own_options():
    eager = fail.using(retry=Retry(1, fixed(1)))
    assert run_task(eager, "value").outcome.retryable


def test_the_parameters_say_what_they_take():
    assert list(inspect.signature(run_task).parameters) == [
        "task",
        "args",
        "overrides",
        "checkpoint",
        "attempt",
        "kwargs",
    ]


CLOSED = []


def open_session():
    yield "production"
    CLOSED.append("production")


def fake_session():
    yield "fake"
    CLOSED.append("fake")


async def open_async():
    yield "async production"
    CLOSED.append("async production")


@lift.task
def provided(number: int, session: Annotated[str, Provide(open_session)]) -> str:
    return f"{number} {session}"


@lift.task
def kept(session: Annotated[str, Provide(open_session, scope="host")]) -> str:
    return session


@lift.task
async def provided_async(session: Annotated[str, Provide(open_async)]) -> str:
    await asyncio.sleep(0)
    return session


@pytest.mark.parametrize("task", [kept, provided.using(queue="other")], ids=["host", "job"])
def test_dependencies_are_opened_overridden_and_closed(task):
    CLOSED.clear()
    arguments = [1] if task.name == "provided" else []
    assert run_task(task, *arguments).result.endswith("production")
    assert run_task(task, *arguments, overrides={open_session: fake_session}).result.endswith("fake")
    assert CLOSED == ["production", "fake"]


async def test_dependencies_of_coroutines_are_overridden_too():
    CLOSED.clear()
    assert (await run_task_async(provided_async)).result == "async production"
    run = await run_task_async(provided_async, overrides={open_async: fake_session})
    assert run.result == "fake"
    assert CLOSED == ["async production", "fake"]


def test_a_coroutine_and_its_dependencies_run_where_there_is_no_loop():
    CLOSED.clear()
    assert run_task(provided_async).result == "async production"
    assert CLOSED == ["async production"]


def test_steps_are_no_checkpoints_of_the_code():
    @lift.task(name="stepping")
    def stepping(ctx: Context) -> int:
        ctx.checkpoint(1)
        two = ctx.step("two", lambda: 2)
        ctx.checkpoint(3)
        return int(two)

    run = run_task(stepping)
    assert run.checkpoints == (1, 3)
    assert run.result == 2
