"""Short jobs that write down when they start, end and are stopped, in memory that the test shares."""

import mmap
import struct
import time
from pathlib import Path

from heavylift.testing.executor_tasks import Application

RECORD = struct.Struct("@dddQ")
"""Start, end and stop (monotonic clock; 0: it did not come to that), and how often it was started."""

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
