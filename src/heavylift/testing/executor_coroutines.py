"""The tasks of SharedExecutorContract: those of ExecutorContract as coroutines and in threads, and some more.

An executor under test runs the application `heavylift.testing.executor_coroutines:application`: its tasks are
coroutines; `…:threads` has the same in threads.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from heavylift.context import Context
from heavylift.core.dependency import Provide, provided
from heavylift.core.options import Options
from heavylift.core.task import define
from heavylift.testing import executor_tasks
from heavylift.testing.keeping_tasks import tidy_up
from heavylift.testing.turn_tasks import limited_coroutines

if TYPE_CHECKING:
    from heavylift.core.task import Task

application = executor_tasks.Application()
threads = executor_tasks.Application()


def _as_coroutine(task: Task) -> Task:
    function = task.function

    @functools.wraps(function)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return define(coroutine, task.name, task.options, Context)


for _task in executor_tasks.application.registry.values():
    application.registry[_task.name] = _as_coroutine(_task)
    threads.registry[_task.name] = define(_task.function, _task.name, _task.options.using(run_in="thread"), Context)


@application.task
async def linger(ctx: Context, path: str, clean_up: float = 0.0) -> str:
    """Wait until the file is there; `path` with ".cleaned" tells that the clean-up ran, after so many seconds."""
    ctx.progress(message="begun")
    try:
        while not Path(path).exists():  # noqa: ASYNC110, ASYNC240  a file tells nobody
            await asyncio.sleep(0.002)
    finally:
        if clean_up:
            await asyncio.sleep(clean_up)
        Path(path + ".cleaned").touch()  # noqa: ASYNC240  quick
    return "done"


@application.task
async def tidy_awaiting(ctx: Context, path: str) -> None:
    """As `tidy`, where each part of the clean-up awaits."""
    ctx.progress(message="begun")
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        tidy_up(ctx, "handling")
        await asyncio.sleep(0.05)
        raise
    finally:
        tidy_up(ctx, "cleaning")
        await asyncio.sleep(0.05)
        Path(path).write_text("cleaned up")  # noqa: ASYNC240  quick


@application.task
async def block(ctx: Context, seconds: float) -> str:
    """Keep the loop from coming round."""
    ctx.progress(message="begun")
    time.sleep(seconds)  # noqa: ASYNC251  the very thing to be tested
    return "done"


@application.task
async def catch_cancel(ctx: Context) -> str:
    """Return although it was cancelled."""
    ctx.progress(message="begun")
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        return "caught"
    return "never"


@application.task
async def cancel_itself() -> None:
    """Raise what a cancel would raise, though nobody asked."""
    raise asyncio.CancelledError


@application.task
async def leave_a_task(path: str) -> None:
    """Return while a task of the loop goes on; the file tells that it was cancelled."""

    async def other() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            Path(path).touch()  # noqa: ASYNC240  quick

    leave_a_task.left = asyncio.create_task(other())  # type: ignore[attr-defined]
    await asyncio.sleep(0)


@application.task
async def fork_and_await() -> int:
    """A fork that comes back from the task's code."""
    pid = os.fork()
    await asyncio.sleep(0.01)
    return pid


@application.task
async def gather(count: int) -> int:
    """Many tasks of the loop at once."""

    async def one(number: int) -> int:
        await asyncio.sleep(0)
        return number

    return sum(await asyncio.gather(*[one(number) for number in range(count)]))


# --- dependencies and ends of coroutines ------------------------------------------------------------------------------


def _mark(ctx: Context, text: str) -> None:
    with Path(ctx.labels["path"]).open("a") as file:
        file.write(text + "\n")


_opened: list[int] = []


async def open_engine() -> AsyncIterator[int]:
    """Of the host: opened once."""
    await asyncio.sleep(0.01)
    _opened.append(os.getpid())
    yield len(_opened)


async def open_session(ctx: Context) -> AsyncIterator[str]:
    """Of the job: closed whatever comes, and not interrupted at that."""
    await asyncio.sleep(0)
    _mark(ctx, "open")
    try:
        yield "session"
    except BaseException as error:
        _mark(ctx, type(error).__name__)
        raise
    finally:
        await asyncio.sleep(0.05)
        _mark(ctx, "closed")


def open_file(ctx: Context) -> Iterator[str]:
    """A plain provider of a coroutine: called in a thread."""
    _mark(ctx, f"file in {threading.current_thread() is threading.main_thread()}")
    try:
        yield "file"
    finally:
        _mark(ctx, "file closed")


async def opening(ctx: Context) -> AsyncIterator[str]:
    """Takes its time to open."""
    ctx.progress(message="begun")
    await asyncio.sleep(1000)
    yield "never"


@application.task
async def hold_open(
    ctx: Context,
    path: str,
    file: Annotated[str, Provide(open_file)] = provided,
    session: Annotated[str, Provide(open_session)] = provided,
    engine: Annotated[int, Provide(open_engine, scope="host")] = provided,
) -> list[Any]:
    """Wait until the file is there, with all of it open."""
    ctx.on_exit(lambda: _mark(ctx, "exit"))
    (ctx.tempdir / "x").touch()
    ctx.progress(message=str(ctx.tempdir))
    while not Path(path).exists():  # noqa: ASYNC110, ASYNC240  a file tells nobody
        await asyncio.sleep(0.002)
    return [file, session, engine]


@application.task
async def open_long(
    _ctx: Context,
    session: Annotated[str, Provide(open_session)] = provided,
    slow: Annotated[str, Provide(opening)] = provided,
) -> str:
    """Is stopped while it opens."""
    return session + slow


@application.task
async def shielded_await(ctx: Context, path: str) -> None:
    """A stop comes while it must not be torn."""
    try:
        with ctx.shield("publish"):
            ctx.progress(message="begun")
            while not Path(path).exists():  # noqa: ASYNC110, ASYNC240  a file tells nobody
                await asyncio.sleep(0.002)
            _mark(ctx, "whole")
        await asyncio.sleep(1000)
    except BaseException as error:
        _mark(ctx, type(error).__name__)
        raise


@application.task
async def awaited_steps(ctx: Context, fail: bool) -> list[str]:  # noqa: FBT001  given by name
    """A step that a later attempt does not do again."""

    async def work() -> str:
        _mark(ctx, "worked")
        await asyncio.sleep(0)
        return "done"

    result = await ctx.step("work", work)
    if fail:
        message = "after the step"
        raise RuntimeError(message)
    return [result]


@application.task
async def limited_async(ctx: Context, count: int) -> None:
    """One turn after the other."""
    try:
        for number in range(count):
            async with ctx.limit("crm", "10/s"):
                ctx.log.info("turn %d", number)
    except BaseException as error:
        ctx.log.info("raised %s", type(error).__name__)
        raise


application.task(limited_coroutines)


def plain(options: str = "") -> list[int]:
    """Where it runs."""
    return [os.getpid(), len(options)]


application.registry["plain"] = define(plain, None, Options(run_in="thread"), Context)
application.registry["alone"] = define(plain, "alone", Options(), Context)
