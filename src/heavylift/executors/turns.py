"""Where task code runs: turns in rates that it waits for, and how it hears that they have come."""

from __future__ import annotations

import itertools
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from heavylift.core import codec
from heavylift.core.limits import Rate
from heavylift.executors.wire import NUMBERED

LOOK_AGAIN = 0.05
"""Seconds between two looks whether the job is to stop, where nothing tells of that."""
POLL = 0.01
"""Seconds between two looks whether a turn has come, on a loop in a host that has none of its own."""
CHUNK = 4096


class Numbers:
    """The numbers that come through a stream, one after the other."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> list[int]:
        """Those that are complete by now."""
        data = self._rest + data
        whole = len(data) - len(data) % NUMBERED.size
        self._rest = data[whole:]
        return [number for (number,) in NUMBERED.iter_unpack(data[:whole])]


def wish(number: int, rate: Rate) -> bytes:
    """The body of a frame that asks for a turn."""
    return NUMBERED.pack(number) + codec.encode([rate.key, rate.rate])


class HostTurns:
    """In a host that runs one job at a time. Whoever waits reads what the worker says, for all that wait: a thread for
    that would be there in each fork of a job.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._numbers = itertools.count(1)
        self._heard = Numbers()
        self._waiting: set[int] = set()
        self._come: set[int] = set()
        self._lock = threading.Lock()

    def next(self) -> HostTurn:
        """One that is to be asked for."""
        turn = HostTurn(self, next(self._numbers))
        self._waiting.add(turn.number)
        return turn

    def has_come(self, number: int, seconds: float) -> bool:
        """Whether a turn is due; waits so long for that at most."""
        if not self._lock.acquire(timeout=seconds):
            return number in self._come  # another thread reads
        try:
            if number not in self._come and _is_readable(self._stream, seconds):
                data = self._stream.recv(CHUNK)
                self._come.update(self._waiting.intersection(self._heard.add(data)))
        finally:
            self._lock.release()
        return number in self._come

    def forget(self, number: int) -> None:
        """Nobody waits for it any more."""
        self._waiting.discard(number)
        self._come.discard(number)


class HostTurn:
    """See `reporter.Turn`."""

    def __init__(self, turns: HostTurns, number: int) -> None:
        self.number = number
        self._turns = turns

    def wait(self, seconds: float) -> bool:
        """See `reporter.Turn`. A stop is raised in the main thread by the signal, other threads have to look."""
        if threading.current_thread() is not threading.main_thread():
            seconds = min(seconds, LOOK_AGAIN)
        return self._turns.has_come(self.number, seconds)

    async def wait_async(self) -> bool:
        """See `reporter.Turn`."""
        import asyncio  # noqa: PLC0415  it runs already, but most hosts need none

        await asyncio.sleep(POLL)
        return self._turns.has_come(self.number, 0)

    def close(self) -> None:
        """See `reporter.Turn`."""
        self._turns.forget(self.number)


class BellTurn:
    """A turn of which another thread tells, by a ring. See `reporter.Turn`. `own`: the loop on which coroutines are
    stopped by a cancel, if there is one.
    """

    def __init__(self, patience: float, closed: Callable[[BellTurn], None], own: Any = None) -> None:
        self.due = False
        self._patience, self._closed, self._own = patience, closed, own
        self._bell = threading.Lock()  # its calls are single ones into C, which no Cancelled can interrupt half-way
        self._bell.acquire()
        self._waiter: tuple[Any, Any] | None = None

    def come(self) -> None:
        """It is due; from any thread."""
        self.due = True
        self._ring(None)

    def stop(self) -> None:
        """The job is to stop, and whoever waits has to look; from any thread."""
        self._ring(self._own)

    def _ring(self, but_for: Any) -> None:
        with suppress(RuntimeError):  # it has rung, and nobody has looked since
            self._bell.release()
        if self._waiter is not None and self._waiter[0] is not but_for:
            loop, future = self._waiter
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(_wake, future)

    def wait(self, seconds: float) -> bool:
        """See `reporter.Turn`."""
        if not self.due:
            self._bell.acquire(timeout=min(seconds, self._patience))
        return self.due

    async def wait_async(self) -> bool:
        """See `reporter.Turn`."""
        import asyncio  # noqa: PLC0415  as above

        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiter = loop, future
        if not self.due:
            await future
        return self.due

    def close(self) -> None:
        """See `reporter.Turn`."""
        self._closed(self)


class SharedTurns:
    """In a shared host. A thread hears what the worker says: a blocked loop must not keep the turns of threads."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._numbers = itertools.count(1)
        self._heard = Numbers()
        self._waiting: dict[int, BellTurn] = {}

    def start(self) -> None:
        """Listen, until the worker closes its end."""
        threading.Thread(target=self._run, name="heavylift turns", daemon=True).start()

    def add(self, turn: BellTurn) -> int:
        """The number of a turn that is to be asked for."""
        number = next(self._numbers)
        self._waiting[number] = turn
        return number

    def forget(self, number: int) -> None:
        """Nobody waits for it any more."""
        self._waiting.pop(number, None)

    def _run(self) -> None:
        with suppress(OSError):  # as at the end of the file
            while data := self._stream.recv(CHUNK):
                for number in self._heard.add(data):
                    turn = self._waiting.pop(number, None)
                    if turn is not None:
                        turn.come()


def _is_readable(stream: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _wake(future: Any) -> None:
    if not future.done():
        future.set_result(None)
