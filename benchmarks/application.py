"""The application that is measured: a few tasks, and a way to open it on any store."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.floors import work
from heavylift import BoundTask, Context, Heavylift

lift = Heavylift(os.environ.get("BENCHMARK_STORE", "sqlite:///benchmark.db"))


@lift.task
def noop(value: int = 0) -> int:
    """Nothing."""
    return value


@lift.task
def burn(milliseconds: float) -> None:
    """Take so much CPU time."""
    work.burn(milliseconds)


@lift.task
def resize(user: int, path: str, size: tuple[int, int], tags: list[str] = [], note: str = "") -> int:  # noqa: B006  JSON
    """Nothing, with arguments as they are in life."""
    return user + len(path) + size[0] + len(tags) + len(note)


@lift.task
def occupy(ctx: Context, seconds: float) -> None:
    """Hold a host without using it, having told which process it is."""
    ctx.progress(message=str(os.getpid()))
    time.sleep(seconds)


@lift.task(grace=0.0)
def emit(ctx: Context, *, burning: bool) -> None:
    """Tell the time as progress, again and again, after pauses of 60 to 100 ms that are slept or burnt."""
    for number in itertools.count():
        ctx.progress(message=str(time.monotonic()))
        pause = 0.06 + number % 9 * 0.005
        if burning:
            end = time.monotonic() + pause
            while time.monotonic() < end:
                pass
        else:
            time.sleep(pause)


@lift.task(grace=0.0)
def spin(ctx: Context) -> None:
    """Burn a core for ever, having told which process does."""
    ctx.progress(message=str(os.getpid()))
    while True:
        pass


Tasks = dict[str, BoundTask[..., Any, Any, Any]]


@contextlib.asynccontextmanager
async def opened(url: str, application: Heavylift = lift) -> AsyncIterator[tuple[Heavylift, Tasks]]:
    """The same tasks on another store: the application, and its tasks by name."""
    async with Heavylift(url) as here:
        for task in application.registry.values():
            here.task(name=task.name, grace=task.options.grace)(task.function)
        yield here, {name: here.find_task(name) for name in here.registry}
