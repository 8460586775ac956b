"""In a shared host: one attempt among others, and how the news that it is to stop reaches its code and no other."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from heavylift.core.errors import Cancelled
from heavylift.executors.stopping import Trap
from heavylift.executors.wire import USAGE

if TYPE_CHECKING:
    from types import FrameType

    from heavylift.core.task import Task
    from heavylift.executors.shared_reporting import SharedReporter
    from heavylift.executors.wire import Request

SOON = 0.001
"""Seconds until a look whether a thread has come back from our own code."""

# ctypes.pythonapi keeps the interpreter lock: nothing runs while it sets or clears what is to be raised.
_set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)
_NOTHING = ctypes.py_object()


class SharedRun:
    """One attempt in this host, from its request to its answer. `run` as in `providing.Stops`."""

    run = 0

    def __init__(self, request: Request, task: Task) -> None:
        self.number, self.request, self.task = request.number, request, task
        self.began = time.monotonic()
        self.cpu = 0.0
        self.asked = False
        """It is to stop."""
        self.loop = asyncio.get_running_loop()
        self.reporter: SharedReporter | None = None
        self.shields = 0
        self.raised = False
        """Its code was told; it is told once."""

    @property
    def due(self) -> bool:
        """Whether its code is to be told now."""
        return self.asked and not self.raised and not self.shields

    def shield(self) -> None:
        """See `context.Reporter`."""
        self.shields += 1

    def stop(self) -> None:
        """It is to stop; called on the loop's thread."""
        self.asked = True
        self._tell()
        if self.reporter is not None:
            self.reporter.stopped()

    def _tell(self) -> None:
        """Tell its code, if that is due."""
        raise NotImplementedError

    def usage(self) -> bytes:
        """What it took, as the body of an answer begins."""
        return USAGE.pack(time.monotonic() - self.began, self.cpu, 0)


class LoopRun(SharedRun):
    """A coroutine's; all of it is on the loop's thread."""

    def __init__(self, request: Request, task: Task) -> None:
        super().__init__(request, task)
        self.own: asyncio.Task[None] | None = None
        self.others: set[asyncio.Task[Any]] = set()
        """Tasks of the loop that its code has started."""
        self.begun = False
        self.coroutine: Any = None
        """Its attempt, which awaits the user's code."""

    def known(self) -> bool:
        """Whether it is to stop, for code that asks: its coroutine is cancelled by then."""
        return self.asked

    def unshield(self, *, quiet: bool) -> None:
        """See `context.Reporter`."""
        self.shields -= 1
        if not quiet:
            self._tell()

    def _tell(self) -> None:
        """Cancel its task of the loop, unless its clean-up runs already."""
        if self.due and self.own is not None and (self.run or not self.begun):
            self.raised = True
            self.own.cancel()


class ThreadRun(SharedRun):
    """A function's, in a thread: Cancelled is set in that thread while the innermost frame there is the user's."""

    def __init__(self, request: Request, task: Task) -> None:
        super().__init__(request, task)
        self._thread = 0
        self._turn = threading.Lock()
        self._trap: Trap | None = None

    @property
    def run(self) -> int:
        """See `providing.Stops`; set by the thread in which the code runs."""
        return self.number if self._thread else 0

    @run.setter
    def run(self, number: int) -> None:
        with self._turn:
            if self._trap is not None:
                self._trap.remove()
                self._trap = None
            if self._thread:
                _set_exception(self._thread, _NOTHING)
            self._thread = threading.get_ident() if number else 0
        if number and self.asked and not self.shields:
            self.raised = True
            raise Cancelled

    def known(self) -> bool:
        """Whether it is to stop, for code that asks, and then ends in its own way: it is not told again."""
        asked = self.asked  # once: it may come between two looks, and then be told again
        if asked and threading.get_ident() == self._thread:
            with self._turn:
                self.raised = True
        return asked

    def unshield(self, *, quiet: bool) -> None:
        """See `context.Reporter`."""
        self.shields -= 1
        if not quiet and self.due and self._thread:
            self.raised = True
            raise Cancelled

    def _tell(self) -> None:
        """Raise Cancelled in its code."""
        with self._turn:
            thread = self._thread
            if not thread or not self.due:
                return
            if not _is_ours(thread):
                _set_exception(thread, ctypes.py_object(Cancelled))
                # Another thread may have had the interpreter between the look and this: then it is taken back.
                if not _is_ours(thread):
                    self.raised = True
                    return
                _set_exception(thread, _NOTHING)
        self.loop.call_later(SOON, self._tell)

    def lost(self, frame: FrameType) -> bool:
        """A Cancelled was swallowed in what this frame of this thread had called: raise another at its next
        instruction. False if it was none of ours.
        """
        if self._thread != threading.get_ident() or not self.raised:
            return False
        self._trap = Trap(frame, self._sprung)
        return True

    def _sprung(self) -> None:
        self._trap = None
        if not self.shields:
            raise Cancelled
        self.raised = False


def _is_ours(thread: int) -> bool:
    """Whether the innermost frame of a thread is of our own code, in which nothing must be raised."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001  there is no other way to ask
    return frame is None or is_own_code(frame)


def is_own_code(frame: FrameType) -> bool:
    """Whether a frame is of the host's, of the Context's, or of `logging`."""
    name = frame.f_globals.get("__name__", "")
    return isinstance(name, str) and name.startswith(_OWN)


# `logging` takes locks that all jobs share: a stop between the taking and the `try` would leave one taken for ever.
_OWN = ("heavylift.executors.", "heavylift.context", "heavylift.reporter", "heavylift.core.", "logging")
