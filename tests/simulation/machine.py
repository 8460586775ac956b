"""The simulated machine: its clocks, its processes as a store sees them, and the trace of what happened."""

from __future__ import annotations

from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests.simulation.loop import PROCESS, Process, VirtualLoop

from heavylift.settings import Settings
from heavylift.stores.sqlite import workers

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = Settings(lease=15.0, beat=5.0, sweep=5.0, poll=5.0, drain=6.0)
WALL = 1_800_000_000.0
MONOTONIC = 50_000.0


class Machine:
    """One boot of one machine, with everything that chance decides on it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.loop = VirtualLoop(Random(f"order {seed}"))
        self.trace: list[tuple[float, str, tuple[Any, ...]]] = []
        self.jumped = 0.0
        self._running: dict[int, int] = {}
        self._namespaces: dict[Process, str] = {}

    def note(self, *what: Any) -> None:
        """A line of the trace: who did what."""
        self.trace.append((self.loop.time(), PROCESS.get(self.loop.root).name, what))

    def started(self, process: Process, pid: int, namespace: str) -> None:
        """A process that a store can look for."""
        self._running[pid] = pid
        self._namespaces[process] = namespace

    def ended(self, pid: int) -> None:
        """It is gone: who looks sees so."""
        self._running.pop(pid, None)

    @contextmanager
    def as_kernel(self) -> Iterator[None]:
        """Have the store ask this machine, not the real one, for processes and the boot."""
        with mock.patch.multiple(
            workers,
            boot_id=lambda: "boot",
            pid_namespace=lambda: self._namespaces.get(PROCESS.get(self.loop.root), "elsewhere"),
            is_gone=lambda pid, started: self._running.get(pid) != started,
        ):
            yield


class ProcessClock:
    """The clocks of one process: monotonic time is the machine's, wall time is off by `skew` seconds."""

    def __init__(self, machine: Machine, skew: float = 0.0) -> None:
        self._machine = machine
        self.skew = skew

    def wall(self) -> float:
        return WALL + self._machine.loop.time() + self._machine.jumped + self.skew

    def monotonic(self) -> float:
        return MONOTONIC + self._machine.loop.time()
