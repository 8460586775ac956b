"""In a host: what a job may have left changed, and what it took."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any

# Signals whose handlers cannot be asked for are left out.
_SIGNALS = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]


class Baseline:
    """How a host is before its first job; one that is not like this any more does not run another."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._threads = threading.active_count()
        self._state = self._look()

    def quick_look(self) -> bool:
        """Whether there is neither a thread nor a child that was not there before; cheap enough for every job."""
        if threading.active_count() != self._threads:
            return False
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        return False

    def unchanged(self) -> bool:
        """Whether standard descriptors, working directory and signal handlers are as they were."""
        return self._look() == self._state

    @staticmethod
    def _look() -> list[Any]:
        state: list[Any] = [signal.pthread_sigmask(signal.SIG_BLOCK, ())]
        state += [signal.getsignal(number) for number in _SIGNALS]
        for descriptor in range(3):
            try:
                found = os.fstat(descriptor)
                state.append((found.st_dev, found.st_ino))
            except OSError:
                state.append(None)
        try:
            state.append(os.getcwd())
        except OSError:
            state.append(None)
        return state


def peak_resident() -> int:
    """The peak of this process's resident bytes since `forget_peak`; 0 where the kernel does not say."""
    with contextlib.suppress(OSError), open("/proc/self/status", "rb") as file:
        text = file.read()
        at = text.find(b"VmHWM:")
        if at >= 0:
            return int(text[at + 6 : text.index(b"kB", at)]) * 1024
    return 0


def forget_peak() -> None:
    """Let the peak count anew from what is resident now (proc(5), clear_refs)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "wb") as file:
        file.write(b"5")
