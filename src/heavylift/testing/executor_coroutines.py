"""The tasks of SharedExecutorContract: those of ExecutorContract as coroutines and in threads, and some more.

An executor under test runs the application `heavylift.testing.executor_coroutines:application`: its tasks are
coroutines; `…:threads` has the same in threads.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavylift.context import Context
from heavylift.core.options import Options
from heavylift.core.task import define
from heavylift.testing import executor_tasks

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


def plain(options: str = "") -> list[int]:
    """Where it runs."""
    return [os.getpid(), len(options)]


application.registry["plain"] = define(plain, None, Options(run_in="thread"), Context)
application.registry["alone"] = define(plain, "alone", Options(), Context)
