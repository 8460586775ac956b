"""The application that the tests serve: tasks that end, wait, burn, fail and die when they are told to."""

import os
import resource
import signal
import time
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from heavylift import Context, GiveUp, Heavylift

lift = Heavylift()


@lift.task
def add(a: int, b: int = 1) -> int:
    """The sum of two numbers."""
    return a + b


@lift.task
def bounded(share: Annotated[float, Field(ge=0, le=1)], name: str = "x") -> str:
    return f"{name}: {share}"


@lift.task
def gated(ctx: Context, gate: str, steps: int = 3) -> str:
    """Says how far it is, then waits until somebody opens the gate, a FIFO."""
    for step in range(steps):
        ctx.progress(step + 1, steps, f"step {step + 1}", unit="steps")
    return Path(gate).read_text()


@lift.task(unique="{task}:{account}", delay="1h")
def synced(account: str, page: int = 1) -> int:
    """One at a time for each account, and later."""
    return page


@lift.task
def chatty(ctx: Context) -> None:
    ctx.log.info("hello")
    ctx.checkpoint({"page": 2})
    ctx.progress(1, 2)


@lift.task(max_attempts=1)
def resuming(ctx: Context, gate: str, *, fail: bool = False) -> int:
    """Counts its attempts in its checkpoint, and does a step; it fails, or waits until somebody opens the gate."""
    number = ctx.resume(0) + 1
    ctx.step("greet", str.title, "hello")
    ctx.checkpoint(number)
    ctx.progress(number, 9)
    if fail and number == 1:
        message = "the first time"
        raise ValueError(message)
    Path(gate).read_text()
    return number


@lift.task
def talkative(ctx: Context, lines: int, gate: str | None = None) -> int:
    """Writes so many lines to its log, and the last of them when the gate is open."""
    for number in range(lines):
        if gate and number == lines - 1:
            Path(gate).read_text()
        ctx.log.info("line %d", number)
    return lines


@lift.task
def steady(ctx: Context, stop: str) -> int:
    """Has something to tell all the time, until the file `stop` is there."""
    number = 0
    while not Path(stop).exists():
        number += 1
        ctx.log.info("line %d", number)
        ctx.checkpoint({"number": number})
        ctx.progress(number, message="on and on\nand on")
        time.sleep(0.005)
    return number


class Job(BaseModel):
    """Somebody's work: our own schemas have that name, too."""

    title: str
    parts: list["Job"] = []


@lift.task
def plan(job: Job, hours: Annotated[int, Field(ge=1, le=24)] = 8) -> list[Job]:
    """Divides a job.

    A part is as long as the whole.
    """
    return [job] * hours


@lift.task
def spin(ctx: Context, *, stubborn: bool = False) -> None:
    """Never ends by itself; a stubborn one not even when it is asked to."""
    while True:
        try:
            ctx.progress(0, 1, "spinning")
            while True:
                pass
        except BaseException:
            if not stubborn:
                raise


@lift.task(max_attempts=1)
def broken() -> None:
    message = "no luck today"
    raise ValueError(message)


@lift.task
def bounds() -> dict[str, int]:
    """What limits the process that it runs in."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return {"open_files": files, "nice": os.getpriority(os.PRIO_PROCESS, 0)}


@lift.task
def hopeless() -> None:
    reason = "there is no point"
    raise GiveUp(reason)


@lift.task(crashes=1)
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@lift.task(max_attempts=1)
def slow(ctx: Context) -> None:
    while True:
        ctx.raise_if_cancelled()
