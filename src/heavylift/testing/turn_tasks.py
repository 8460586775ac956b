"""Tasks of ExecutorContract that wait for their turns in a rate."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heavylift.context import Context


def limited(ctx: Context, count: int, rate: str = "10/s") -> None:
    """One turn after the other."""
    try:
        for number in range(count):
            with ctx.limit("crm", rate):
                ctx.log.info("turn %d", number)
    except BaseException as error:
        ctx.log.info("raised %s", type(error).__name__)
        raise


def limited_threads(ctx: Context, count: int) -> None:
    """Each thread waits for a turn of its own, also when the job is stopped."""

    def wait(number: int) -> None:
        try:
            ctx.limit(f"key {number}", "1/h")
            ctx.log.info("turn %d", number)
        except BaseException as error:  # noqa: BLE001  it is told
            raised.append(error)
            ctx.log.info("%d raised %s", number, type(error).__name__)

    raised: list[BaseException] = []
    threads = [threading.Thread(target=wait, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        while raised or any(thread.is_alive() for thread in threads):
            ctx.raise_if_cancelled()
            time.sleep(0.005)
    finally:
        for thread in threads:
            thread.join()


def limited_loops(ctx: Context, count: int) -> None:
    """The same on a loop that the code has for itself."""
    asyncio.run(limited_coroutines(ctx, count))


async def limited_coroutines(ctx: Context, count: int) -> None:
    """Coroutines that wait for turns side by side."""

    async def wait(number: int) -> None:
        async with ctx.limit(f"key {number}", "1/h"):
            ctx.log.info("turn %d", number)

    try:
        await asyncio.gather(*(wait(number) for number in range(count)))
    except BaseException as error:
        ctx.log.info("raised %s", type(error).__name__)
        raise


def limited_under_shield(ctx: Context, path: str) -> None:
    """A stop that comes while it waits is raised when it has had its turn."""
    with ctx.shield("whole"):
        ctx.limit("crm", "10/s")
        Path(path).write_text("whole")
    while True:
        ctx.raise_if_cancelled()
        time.sleep(0.005)


def limited_in_a_fork(ctx: Context) -> int:
    """A child of the job's process has no turns: the exit code of one that tried to have one."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ctx.limit("crm", "10/s")
        except RuntimeError:
            code = 7
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


TASKS: tuple[Callable[..., Any], ...] = (
    *(limited, limited_threads, limited_loops, limited_under_shield, limited_in_a_fork),
)
