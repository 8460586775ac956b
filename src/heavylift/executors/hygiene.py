"""In a host: what a job may have left changed, and what it took."""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from heavylift.executors import processes

GROWN = 2**20
"""Bytes by which the peak of one job may show in that of the next: to forget it takes longer than a short job."""

_CLEAR = Path("/proc/self/clear_refs")
# The functions of the module `signal` make enums, which take most of the time.
_raw = importlib.import_module("_signal")
# Signals whose handlers cannot be asked for are left out.
_SIGNALS = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]


class Baseline:
    """How a host is before its first job; one that is not like this any more does not run another."""

    def __init__(self) -> None:
        self.children = processes.children()
        """Processes that the start hooks started: they are the host's own."""
        self._threads = threading.active_count()
        self._state = self._look()
        self._peak = peak_resident()

    def quick_look(self) -> bool:
        """Whether there is neither a thread nor a child that was not there before; cheap enough for every job."""
        if threading.active_count() != self._threads:
            return False
        if self.children:
            return processes.children() <= self.children
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # it had ended, only nobody had asked for its status
        except ChildProcessError:
            return True
        return False

    def still_fits(self, peak: int) -> bool:
        """Whether standard descriptors, working directory and signal handlers are as they were. If the job's `peak` of
        memory was higher than what was known, the peak counts anew from here.
        """
        if peak > self._peak + GROWN:
            with contextlib.suppress(OSError):
                clear = os.open(_CLEAR, os.O_WRONLY)  # without a file object, which asks the kernel six things more
                os.write(clear, b"5")
                os.close(clear)
            self._peak = peak_resident()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        return self._look() == self._state

    @staticmethod
    def _look() -> list[Any]:
        state: list[Any] = [_raw.getsignal(number) for number in _SIGNALS]
        state.append(_raw.pthread_sigmask(signal.SIG_BLOCK, ()))
        for descriptor in range(3):
            try:
                found = os.fstat(descriptor)
                state.append((found.st_dev, found.st_ino))
            except OSError:
                state.append(None)
        try:
            state.append(os.getcwd())  # noqa: PTH109  a path object costs more than the question
        except OSError:
            state.append(None)
        return state


def peak_resident() -> int:
    """The peak of this process's resident bytes since the last job of more than a millisecond."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
