"""In the worker: what pools of exclusive and of shared hosts have in common: what runs, what starts, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from heavylift.core.errors import ConfigError
from heavylift.core.outcome import Interrupted
from heavylift.executor import StopReason, TaskInfo
from heavylift.executors import looking
from heavylift.executors.verdicts import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from heavylift.core.job import Job
    from heavylift.core.outcome import Outcome
    from heavylift.core.stack import Stack
    from heavylift.executor import Report
    from heavylift.executors.host_link import HostLink
    from heavylift.executors.link import Nanny
    from heavylift.executors.pace import Pace
    from heavylift.executors.temporary import Temporary
    from heavylift.settings import Settings

PATIENCE = 0.5
"""A run that was not started for so many seconds is handed back, so that another worker may take it."""
SHARE = 4
"""The part (1/n) of the grace of `close` that is kept for the soft stop of what did not end by itself."""
LEAVE = 3.0
"""Seconds for idle hosts to close what they kept."""
FAILURES_BEFORE_PAUSE, PAUSE = 3, 1.0

log = logging.getLogger("heavylift.worker")


class HostPool(ABC):
    """Hosts of one kind. The nanny is another's to close."""

    def __init__(self, nanny: Nanny, settings: Settings) -> None:
        self.tasks: Mapping[str, TaskInfo] = nanny.tasks
        self.nanny, self._settings = nanny, settings
        self._config = {"nice": settings.nice, "max_result": settings.max_result, "max_log": settings.max_log}
        self._temporary: Temporary | None = None
        self._loop = asyncio.get_running_loop()
        self._numbers = 0
        self._runs: dict[tuple[str, int], Run] = {}
        self._hosts: set[Any] = set()
        self._pumping = self._closing = False
        self._behind = False
        """Runs that were taken ahead had to be handed back: none is taken ahead until a host answers again."""
        self._failures, self._not_before = 0, 0.0
        self._warm: asyncio.Future[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()

    @abstractmethod
    def stop(self, job: str, attempt: int, reason: StopReason, grace: float, *, force: bool = False) -> None:
        """See `Executor.stop`."""

    @abstractmethod
    def finish(self, run: Run, outcome: Outcome) -> None:
        """A run is over."""

    @abstractmethod
    def take_back(self, runs: list[Run]) -> None:
        """Runs that were not started wait again, before all others."""

    @abstractmethod
    def _taken_out(self) -> list[Run]:
        """The runs that no host has; they wait no more."""

    async def look(self, job: str, attempt: int) -> Stack | None:
        """See `Executor.look`."""
        run = self._runs.get((job, attempt))
        if run is None:
            return None
        return looking.unbegun(attempt) if run.host is None else await run.host.stack_of(run)

    def stop_run(self, run: Run, reason: StopReason, grace: float) -> None:
        """A run is beyond a limit."""
        self.stop(run.job.id, run.job.attempt, reason, grace)

    def host_failed(self, why: str) -> None:
        """A host could not start."""
        self._failures += 1
        log.error("a host could not start: %s", why)
        if self._warm is not None and not self._warm.done():
            self._warm.set_exception(ConfigError(f"A host of the application cannot start: {why}"))
        if self._failures >= FAILURES_BEFORE_PAUSE:
            self._not_before = self._loop.time() + PAUSE

    def _accept(
        self,
        job: Job,
        report: Callable[[Job, Report], None],
        finished: Callable[[Job, Outcome], None],
        pace: Pace,
    ) -> Run:
        self._numbers += 1
        options = job.options
        shares = not (job.suspected or options.fresh)
        if options.cpu_time is not None or options.memory is not None:
            shares = False  # what it takes can be told from what others took only if it begins in an idle host
        run = Run(self._numbers, job, report, finished, time.monotonic(), pace, shares)
        self._runs[job.id, job.attempt] = run
        return run

    def _launch(self, host: HostLink) -> None:
        self._hosts.add(host)
        host.start(self.nanny, self._config)

    def _became_warm(self) -> None:
        self._failures = 0
        if self._warm is not None and not self._warm.done():
            self._warm.set_result(None)

    @property
    def _may_start(self) -> bool:
        return not self._closing and self.nanny.ready and self._loop.time() >= self._not_before

    def _later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call a function in so many seconds, unless one of that name is on its way."""
        if name not in self._timers:

            def ring() -> None:
                del self._timers[name]
                call()

            self._timers[name] = self._loop.call_later(seconds, ring)

    # --- the end -----------------------------------------------------------------------------------------------

    async def close_hosts(self, grace: float) -> None:
        """As `Executor.close`, but for the nanny, which kills what is left when it is closed."""
        self._closing = True
        deadline = self._loop.time() + grace
        for run in self._taken_out():
            self.finish(run, Interrupted("drain"))
        for host in self._hosts:
            self.take_back(host.take_back())
        share = min(max((run.job.options.grace for run in self._runs.values()), default=0.0), grace / SHARE)
        await self._until(lambda: not self._runs, deadline - share)
        for run in list(self._runs.values()):
            left = max(0.0, deadline - self._loop.time())
            self.stop(run.job.id, run.job.attempt, StopReason.DRAIN, left, force=left == 0)
        await self._until(lambda: not self._runs, deadline + 5)
        for timer in self._timers.values():
            timer.cancel()
        for host in list(self._hosts):
            host.leave()
        await self._until(lambda: not self._hosts, self._loop.time() + LEAVE)
        for host in list(self._hosts):
            host.kill()

    async def gone(self) -> None:
        """Wait, not for long, until every host is reaped; then remove what their jobs kept."""
        await self._until(lambda: not self._hosts, self._loop.time() + 1)
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            await temporary.close()

    async def _until(self, condition: Callable[[], bool], deadline: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
