"""One small message to another process and back, over a socketpair, blocking: what two wake-ups cost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator

MESSAGE = b"x" * 64
WARM_UP = 200


def round_trips(count: int, cores: tuple[int, int] | None = None) -> list[float]:
    """Seconds of each of `count` round trips; `cores` pins the two ends, None leaves the choice to the scheduler."""
    with _echo(cores) as stream:
        times = []
        for _ in range(count + WARM_UP):
            began = time.perf_counter()
            stream.send(MESSAGE)
            stream.recv(4096)
            times.append(time.perf_counter() - began)
        return times[WARM_UP:]


def two_cores() -> tuple[int, int] | None:
    """Two cores that this process may use; None when there is but one."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[-1]) if len(allowed) > 1 else None


@contextlib.contextmanager
def _echo(cores: tuple[int, int] | None) -> Iterator[socket.socket]:
    """The stream to a child that sends everything back."""
    ours, theirs = socket.socketpair()
    before = os.sched_getaffinity(0)
    child = os.fork()
    if child == 0:
        if cores is not None:
            os.sched_setaffinity(0, {cores[1]})
        while data := theirs.recv(4096):
            theirs.send(data)
        os._exit(0)
    try:
        if cores is not None:
            os.sched_setaffinity(0, {cores[0]})
        yield ours
    finally:
        os.sched_setaffinity(0, before)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        ours.close()
        theirs.close()
