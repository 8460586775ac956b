"""In a host: what a job may have left changed, and what it took."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import resource
import signal
import sys
import threading
from operator import is_
from pathlib import Path
from typing import Any

from heavylift.executors import processes
from heavylift.executors.wire import STOP_SIGNAL

GROWN = 2**20
"""Bytes by which the peak of one job may show in that of the next: to forget it takes longer than a short job."""

OWN_THREADS = "heavylift"
"""How the names of our own threads begin: those of a store that a job has opened, and of the client beside it."""

_CLEAR = Path("/proc/self/clear_refs")
# The functions of the module `signal` make enums, which take most of the time.
_raw = importlib.import_module("_signal")
# Signals whose handlers cannot be asked for are left out.
_SIGNALS = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]
# Those that hosts use, and those that programs send each other.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGUSR1", "SIGUSR2")
_QUICK_SIGNALS = [STOP_SIGNAL, *(getattr(signal, name) for name in _NAMES)]
_loggers = logging.root.manager
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


class Baseline:
    """How a host is before its first job; one that is not like this any more does not run another."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """What there is now is the host's own: start hooks have made it, or a dependency that the host keeps."""
        self.children = processes.children()
        """Processes that are the host's own."""
        self._threads = _foreign_threads()
        self._old_values, self._old_objects = self._values(), self._objects()
        self._state = self._look()
        self._peak = peak_resident()

    def quick_look(self) -> bool:
        """Whether there is neither a thread nor a child that was not there before, and what stops the next job, or
        would harm it, is as it was: signals, the alarm, hooks, streams, the working directory. Cheap enough for every
        job.
        """
        # A thread of ours, such as that of a client that the job used, makes the counts differ, and is no harm.
        if threading.active_count() != self._threads and _foreign_threads() != self._threads:
            return False
        if self._values() != self._old_values:
            return False
        # By identity: these may be a task's own objects by now, whose comparison is its code.
        if not all(map(is_, self._objects(), self._old_objects)):
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
        """Whether what is looked at more slowly is as it was too: standard descriptors, all signal handlers, timers,
        limits, the umask. If the job's `peak` of memory was higher than what was known, or what made it so is gone, the
        peak counts anew from here.
        """
        if peak > self._peak + GROWN or processes.resident(os.getpid()) < self._peak - GROWN:
            with contextlib.suppress(OSError):
                clear = os.open(_CLEAR, os.O_WRONLY)  # without a file object, which asks the kernel six things more
                os.write(clear, b"5")
                os.close(clear)
            self._peak = peak_resident()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        return self._look() == self._state and _has_descriptors()

    @staticmethod
    def _values() -> tuple[Any, ...]:
        try:
            folder = os.getcwd()  # noqa: PTH109  a path object costs more than the question
        except OSError:
            folder = None
        # A closed stream makes the next job's `print` raise, and what is disabled keeps its log empty.
        streams = getattr(sys.stdout, "closed", False), getattr(sys.stderr, "closed", False), _loggers.disable
        return _raw.pthread_sigmask(signal.SIG_BLOCK, ()), _raw.getitimer(signal.ITIMER_REAL)[0], folder, *streams

    @staticmethod
    def _objects() -> list[Any]:
        hooks = [sys.gettrace(), sys.getprofile(), sys.unraisablehook, sys.stdout, sys.stderr]
        return [*map(_raw.getsignal, _QUICK_SIGNALS), *hooks]

    @staticmethod
    def _look() -> list[Any]:
        state: list[Any] = [_raw.getsignal(number) for number in _SIGNALS]
        state += (_raw.getitimer(timer) for timer in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF))
        state += (resource.getrlimit(limit) for limit in _LIMITS)
        umask = os.umask(0o77)
        os.umask(umask)
        state += (umask, sys.getrecursionlimit(), sys.getswitchinterval())
        for descriptor in range(3):
            try:
                found = os.fstat(descriptor)
                state.append((found.st_dev, found.st_ino))
            except OSError:
                state.append(None)
        return state


def _has_descriptors() -> bool:
    """Whether there are descriptors for another job: less than half of them is taken (from the lowest on)."""
    try:
        free = os.dup(2)
    except OSError:
        return False
    os.close(free)
    return free < resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def _foreign_threads() -> int:
    return sum(1 for thread in threading.enumerate() if not thread.name.startswith(OWN_THREADS))


def peak_resident() -> int:
    """The peak of this process's resident bytes since the last job of more than a millisecond."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
