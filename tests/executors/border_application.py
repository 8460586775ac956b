"""Short jobs that write down when they start, end and are stopped, in memory that the test shares."""

import mmap
import struct
import time
from pathlib import Path
from typing import Annotated

from heavylift.context import Context
from heavylift.core.dependency import Provide
from heavylift.testing.executor_tasks import Application

RECORD = struct.Struct("@dddQ")
"""Start, end and stop (monotonic clock; 0: it did not come to that), and how often it was started."""

OPENS = struct.Struct("@ddddd")
"""When the two dependencies of a job were open, its function called, and the two closed."""

lift = Application()
_maps: dict[str, mmap.mmap] = {}


def shared(path: str) -> mmap.mmap:
    if path not in _maps:
        with Path(path).open("r+b") as file:
            _maps[path] = mmap.mmap(file.fileno(), 0)
    return _maps[path]


@lift.task
def short(path: str, slot: int, seconds: float) -> int:
    memory, at = shared(path), slot * RECORD.size
    start = time.monotonic()
    starts = RECORD.unpack_from(memory, at)[3] + 1
    try:
        RECORD.pack_into(memory, at, start, 0.0, 0.0, starts)
        while time.monotonic() - start < seconds:
            pass
        RECORD.pack_into(memory, at, start, time.monotonic(), 0.0, starts)
        return slot  # noqa: TRY300  nothing can be raised between the line above's end and here, or the lines below would run
    except BaseException:
        RECORD.pack_into(memory, at, start, 0.0, time.monotonic(), starts)
        raise


def stamp(ctx: Context, field: int) -> None:
    at = int(ctx.labels["slot"]) * OPENS.size + field * 8
    struct.pack_into("@d", shared(ctx.labels["path"] + ".opens"), at, time.monotonic())


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def first(ctx: Context):
    start = RECORD.pack(time.monotonic(), 0.0, 0.0, 1)
    memory, at = shared(ctx.labels["path"]), int(ctx.labels["slot"]) * RECORD.size
    memory[at : at + RECORD.size] = start
    try:
        spin(0.0001)
        stamp(ctx, 0)
        yield "first"
    except GeneratorExit:  # forgotten, and collected
        raise
    except BaseException:
        stamp(ctx, 3)
        raise
    stamp(ctx, 3)


def second(ctx: Context, before: Annotated[str, Provide(first)]):
    try:
        spin(0.0001)
        stamp(ctx, 1)
        yield f"second after {before}"
    except GeneratorExit:  # forgotten, and collected
        raise
    except BaseException:
        stamp(ctx, 4)
        raise
    stamp(ctx, 4)


@lift.task
def short_provided(
    ctx: Context, path: str, slot: int, seconds: float, *, given: Annotated[str, Provide(second)]
) -> str:
    stamp(ctx, 2)
    spin(seconds / 4)
    memory, at = shared(path), slot * RECORD.size
    struct.pack_into("@d", memory, at + 8, time.monotonic())
    return given
