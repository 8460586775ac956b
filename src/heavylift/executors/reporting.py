"""In a host: the frames that go to the worker, and what running code reports through its Context."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import CodeType
from typing import Any

from heavylift.core import codec
from heavylift.core.limits import Rate
from heavylift.executors.stopping import Guard
from heavylift.executors.turns import HostTurn, HostTurns, wish
from heavylift.executors.wire import CLOSED_BY_TASK, HEADER, NUMBERED, SPACING, Kind, Page
from heavylift.reporter import NOT_HEARD


class Wire:
    """The host's end of the stream to the worker.

    A signal's handler and a finalizer run in the middle of anything, a frame included, and may report something: what
    they say is sent after that frame, by whoever is sending it.
    """

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self._lock = threading.RLock()
        self._waiting: deque[bytes] = deque()
        self._sending = False

    def send(self, run: int, kind: Kind, body: bytes, flags: int = 0) -> None:
        """Send one frame, whole."""
        self.send_all(HEADER.pack(len(body), kind, flags, run) + body)

    def send_all(self, data: bytes) -> None:
        """Send frames, whole."""
        try:
            with self._lock:
                self._waiting.append(data)
                if not self._sending:
                    self._send_waiting()
        except OSError:
            # Nobody hears us: the worker is gone (the kernel kills us in a moment), or the task closed our descriptors.
            os._exit(CLOSED_BY_TASK)

    def _send_waiting(self) -> None:
        self._sending = True
        try:
            while self._waiting:
                data = self._waiting.popleft()
                sent = self.stream.send(data)
                if sent < len(data):
                    self.stream.sendall(memoryview(data)[sent:])
        finally:
            self._sending = False


class HostReporter:
    """A Context's reporter: its lines, progress and checkpoints reach the worker in order, and before the answer.

    Progress is sent at once, but no more often than every 50 ms; the page holds what came in between. Lines are sent
    together; until then they stand on the page too, so that a host that is killed takes nothing along.
    """

    def __init__(self, wire: Wire, page: Page, guard: Guard, max_log: int) -> None:
        self._wire, self._page, self._guard, self._max_log = wire, page, guard, max_log
        self._lock = threading.RLock()
        self._turns = HostTurns(wire.stream)
        self._numbers = 0  # of progress; never starts anew, so that an old page is never taken for news
        self._lines_sent = 0
        self.disabled = False
        self.begin(0, 0)

    @property
    def active(self) -> bool:
        """Whether a run is on, and this is the process in which it is."""
        return self._run != 0 and not self.disabled

    def begin(self, run: int, log_bytes: int) -> None:
        """A run begins; its log has taken `log_bytes` in earlier attempts."""
        self._run = run
        self._log_left = self._max_log - log_bytes
        self._unsent: bytes | None = None
        self._progress_at = self._lines_at = float("-inf")
        self._lines: list[bytes] = []
        self._lines_size = 0
        self._dropped = 0
        self._used = False

    def progress(self, value: dict[str, Any]) -> None:
        """See `context.Reporter`."""
        self._progress(value)
        if self._guard.pending:
            self._guard.settle()

    def checkpoint(self, value: bytes) -> None:
        """See `context.Reporter`."""
        self._checkpoint(value)
        if self._guard.pending:
            self._guard.settle()

    def log(self, level: str, message: str, extra: Mapping[str, Any] | None = None) -> None:
        """See `context.Reporter`."""
        self._log(level, message, extra)
        if self._guard.pending:
            self._guard.settle()

    def reserve(self, rate: Rate) -> HostTurn:
        """See `context.Reporter`."""
        turn = self._turns.next()
        self._reserve(wish(turn.number, rate))
        if self._guard.pending:
            self._guard.settle()
        return turn

    def cancelled(self) -> bool:
        """See `context.Reporter`. Code that got the news here ends in its own way: nothing is raised in it any more."""
        asked = self._guard.is_stopped(self._run)
        if asked and threading.current_thread() is threading.main_thread():
            self._guard.told()
        return asked

    def shield(self) -> None:
        """See `context.Reporter`."""
        self._guard.shields += 1

    def unshield(self, name: str, *, quiet: bool) -> None:
        """See `context.Reporter`."""
        if self._guard.asked:
            self._log("info", f"A stop waited for the end of {name!r}.")
        self._guard.shields -= 1
        if not quiet:
            self._guard.settle()

    def end(self) -> None:
        """Send what was held back: the answer comes next. What a thread of the job says from now on is not heard."""
        with self._lock:
            if self._used:
                self._send_lines(last=True)
                self._send_progress()
            self._run = 0

    def abandon(self) -> None:
        """In a child after a fork: say nothing more. Another thread may have held the lock at that moment."""
        self.disabled = True
        self._lock = threading.RLock()

    def unstoppable(self) -> set[CodeType]:
        """The code of what must not be left half done, though nothing is written."""
        cls = HostReporter
        return {cls.shield.__code__, cls.unshield.__code__}

    def protected(self) -> set[CodeType]:
        """The code below which a stop must not be raised: it would tear a frame."""
        cls = HostReporter
        functions = (cls._progress, cls._checkpoint, cls._log, cls._reserve, cls.end, Wire.send)
        return {function.__code__ for function in functions}

    def _progress(self, value: dict[str, Any]) -> None:
        data = codec.encode(value)
        with self._lock:
            if self.disabled or not self._run:
                return
            self._used = True
            self._numbers += 1
            self._unsent = data
            now = time.monotonic()
            if now - self._progress_at >= SPACING or len(data) > Page.PROGRESS_ROOM:
                self._send_lines()
                self._send_progress()
                self._progress_at = now
            else:
                self._page.write_progress(self._run, self._numbers, data)

    def _checkpoint(self, value: bytes) -> None:
        with self._lock:
            if self.disabled or not self._run:
                return
            self._send_lines()
            self._send_progress()
            self._wire.send(self._run, Kind.CHECKPOINT, value)

    def _reserve(self, wished: bytes) -> None:
        with self._lock:
            if self.disabled or not self._run:
                raise RuntimeError(NOT_HEARD)
            self._wire.send(self._run, Kind.RESERVE, wished)

    def _log(self, level: str, message: str, extra: Mapping[str, Any] | None = None) -> None:
        line = line_of(level, message, extra)
        with self._lock:
            if self.disabled or not self._run:
                return
            self._used = True
            if len(line) > self._log_left:
                self._log_left = 0  # a shorter line that would still fit must not follow a gap
                self._dropped += 1
                self._page.dropped = self._dropped
                return
            self._log_left -= len(line)
            if self._lines_size + len(line) + 1 > Page.LINES_ROOM:
                self._send_lines()
            self._lines.append(line)
            if time.monotonic() - self._lines_at >= SPACING or len(line) + 1 > Page.LINES_ROOM:
                self._send_lines()
                self._lines_at = time.monotonic()
                return
            added = line + b"\n"
            self._page.write_lines(self._run, self._lines_sent, self._lines_size, added)
            self._lines_size += len(added)

    def _send_progress(self) -> None:
        if self._unsent is not None:
            data, self._unsent = self._unsent, None
            self._wire.send(self._run, Kind.PROGRESS, NUMBERED.pack(self._numbers) + data)

    def _send_lines(self, *, last: bool = False) -> None:
        dropped = self._dropped if last else 0
        if not self._lines and not dropped:
            return
        # All is taken before it is sent: a signal's handler may say something meanwhile.
        lines, on_page, number = self._lines, self._lines_size, self._lines_sent
        self._lines, self._lines_size, self._lines_sent = [], 0, number + len(lines)
        self._wire.send(self._run, Kind.LOG, NUMBERED.pack(number) + NUMBERED.pack(dropped) + b"\n".join(lines))
        if on_page and not self._lines:
            self._page.write_lines(self._run, self._lines_sent, 0, b"")


def line_of(level: str, message: str, extra: Mapping[str, Any] | None) -> bytes:
    """A line of a log, as JSON bytes."""
    message = message.encode("utf-8", "backslashreplace").decode()  # a lone surrogate is no JSON
    line = {"at": time.time(), "level": level, "message": message}
    return codec.encode(line if extra is None else {**line, **extra})
