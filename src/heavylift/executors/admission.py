"""In the worker: turns in rates that the code in one host waits for, and the news that they have come."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from heavylift.core import codec
from heavylift.core.limits import Rate
from heavylift.executor import Reserve
from heavylift.executors.wire import NUMBERED

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Container

    from heavylift.executors.verdicts import Run

SAY_AGAIN = 0.02
"""Seconds until a host that had no room to hear is told again."""


class Admission:
    """Of one host. `running`: the numbers of its runs."""

    def __init__(self, stream: socket.socket, running: Container[int], loop: asyncio.AbstractEventLoop) -> None:
        self._stream, self._running, self._loop = stream, running, loop
        self._unsaid = b""

    def reserve(self, run: Run, body: bytes) -> None:
        """A run asks for its turn."""
        key, rate = codec.decode(body[NUMBERED.size :])
        answer = partial(self._taken, run.number, body[: NUMBERED.size])
        run.report(run.job, Reserve(Rate(rate, key=key), answer))

    def _taken(self, run: int, number: bytes, seconds: float) -> None:
        # The worker's timer, for the host's code may be stopped while it waits, and then needs none.
        self._loop.call_later(max(0.0, seconds), self._admit, run, number)

    def _admit(self, run: int, number: bytes) -> None:
        if run in self._running:
            self._unsaid += number
            if len(self._unsaid) == NUMBERED.size:
                self._say()

    def _say(self) -> None:
        try:
            sent = self._stream.send(self._unsaid)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is dead
            return
        self._unsaid = self._unsaid[sent:]
        if self._unsaid:
            self._loop.call_later(SAY_AGAIN, self._say)
