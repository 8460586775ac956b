"""In the worker: what a job and all that it has started take, looked at while it runs, and which limit is exceeded."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from heavylift.executor import StopReason
from heavylift.executors import processes

if TYPE_CHECKING:
    from collections.abc import Collection

    from heavylift.core.options import Options

FAR = 2
"""What takes so many times its limit is not asked to stop any more, but killed: it will not wait for its grace."""
PAUSE = 10
"""A measurement that took long is not repeated before so many times that time is over."""


class Excess(NamedTuple):
    """A limit that is exceeded: how much is `used`, and what the limit is."""

    reason: StopReason
    used: float
    limit: float

    @property
    def far(self) -> bool:
        """Whether it goes on so fast that nothing is asked any more."""
        return self.reason is not StopReason.CPU and self.used > FAR * self.limit


class Meter:
    """Looks at one host and the processes below it. `processes` may be there at a time, unless the job says else."""

    def __init__(self, most_processes: int) -> None:
        self._most_processes = most_processes
        self._fresh = 0
        """Resident bytes of the host before its first run."""
        self._left = 0
        """Bytes that earlier runs have left in it: these are not the run's."""
        self._cpu_before = 0.0
        self._exact: asyncio.Future[tuple[int, float]] | None = None
        self._exact_after = 0.0

    def begin(self, host: int, options: Options) -> None:
        """A run is about to begin in an idle host."""
        self._exact = None
        self._fresh = self._fresh or processes.resident(host)
        if options.memory is not None:
            self._left = max(0, processes.resident(host) - self._fresh)
        if options.cpu_time is not None:
            self._cpu_before = processes.cpu_below(host, processes.descendants(host))

    def excess(self, host: int, options: Options, cpu_of_host: float) -> Excess | None:
        """The limit that the run exceeds now; `cpu_of_host`: CPU seconds of the host itself since its begin."""
        most = options.processes or self._most_processes
        below = processes.descendants(host, FAR * most + 1)
        if len(below) > most and (count := processes.living(below)) > most:
            return Excess(StopReason.PROCESSES, count, most)
        if options.memory is not None:
            taken = self._memory_of(host, below, options.memory)
            if taken > options.memory:
                return Excess(StopReason.MEMORY, taken, options.memory)
        if options.cpu_time is not None:
            cpu = cpu_of_host + max(0.0, processes.cpu_below(host, below) - self._cpu_before)
            if cpu > options.cpu_time:
                return Excess(StopReason.CPU, cpu, options.cpu_time)
        return None

    def _memory_of(self, host: int, below: Collection[int], limit: int) -> int:
        """Resident bytes. What processes share after a fork counts once; to know how much that is takes the kernel
        long, so it is asked in a thread, now and then, and only when the plain sum is over the limit.
        """
        own = processes.resident(host) - self._left
        if own > limit or not below:
            return own
        total = own + sum(map(processes.resident, below))
        if total <= limit:
            return total
        if self._exact is None:
            if time.monotonic() >= self._exact_after:
                loop = asyncio.get_running_loop()
                self._exact = loop.run_in_executor(None, _measured, [host, *below])
        elif self._exact.done():
            exact, took = self._exact.result()
            self._exact, self._exact_after = None, time.monotonic() + PAUSE * took
            return exact - self._left
        return own


def _measured(pids: Collection[int]) -> tuple[int, float]:
    """Resident bytes of processes, shared ones counted once, and the seconds that it took to find out."""
    began = time.monotonic()
    return sum(map(processes.proportional, pids)), time.monotonic() - began
