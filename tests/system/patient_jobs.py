"""An application whose jobs go on until the test has them end: by a file, by a cancel, or by their limits."""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from tests.system.jobs import mark

from heavylift import Cancelled, Context, Heavylift, Provide, Retry, provided

lift = Heavylift()


@lift.task(retry=Retry(1))
def wait_for(ctx: Context, path: str) -> int:
    """Goes on until there is such a file; the attempt that saw it."""
    mark("start", ctx.job_id, ctx.attempt, os.getpid())
    while not Path(path).exists():
        time.sleep(0.005)
    mark("end", ctx.job_id, ctx.attempt)
    return ctx.attempt


@lift.task(retry=Retry(1))
async def await_file(ctx: Context, path: str) -> int:
    """The same on a loop."""
    mark("start", ctx.job_id, ctx.attempt, os.getpid())
    while not Path(path).exists():
        await asyncio.sleep(0.005)
    mark("end", ctx.job_id, ctx.attempt)
    return ctx.attempt


@lift.task(retry=Retry(1))
async def block_the_loop(ctx: Context) -> None:
    """Lets no neighbour on, and catches whatever is to stop it."""
    mark("start", ctx.job_id, ctx.attempt, os.getpid())
    while True:
        with contextlib.suppress(BaseException):
            while True:
                pass


@lift.task(retry=Retry(1))
def finish_in_spite(ctx: Context) -> str:
    """Answers its cancel with its result."""
    mark("start", ctx.job_id, ctx.attempt)
    try:
        while True:
            time.sleep(0.005)
    except Cancelled:
        return "done"


@lift.task(retry=Retry(1), run_in="thread")
def sleep_and_raise(ctx: Context, seconds: float) -> None:
    """Waits in the kernel, where no exception reaches it, and then has one of its own."""
    mark("start", ctx.job_id, ctx.attempt, os.getpid())
    time.sleep(seconds)
    raise ValueError(seconds)


@lift.task(retry=Retry(1), run_in="thread")
def rest(ctx: Context, seconds: float) -> None:
    """Takes its time."""
    mark("start", ctx.job_id, ctx.attempt, os.getpid())
    time.sleep(seconds)


def upload(ctx: Context) -> Iterator[str]:
    """Goes on with its clean-up until the job is asked to stop."""
    yield "there"
    while not ctx.cancelled:
        time.sleep(0.005)
    time.sleep(0.05)


@lift.task(retry=Retry(1), run_in="thread")
def answer_and_upload(*, storage: Annotated[str, Provide(upload)] = provided) -> str:
    """Is done at once; what it depends on is not."""
    return storage


@lift.task(retry=Retry(1))
def chat(ctx: Context, lines: int) -> int:
    """Has its worker write as often as it can."""
    for number in range(lines):
        ctx.progress(number, lines)
        ctx.checkpoint(number)
        ctx.log.info("line %d", number)
    return lines


@lift.task(retry=Retry(1))
def nothing() -> None:
    """Is over at once."""
