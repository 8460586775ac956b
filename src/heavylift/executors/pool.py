"""The worker's pool of warm hosts: the Executor that runs each attempt in a process of its own, and can stop it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from heavylift.core.errors import ConfigError
from heavylift.core.job import Error
from heavylift.core.options import Slots
from heavylift.core.outcome import Failed, Interrupted, Outcome
from heavylift.executor import Ability, Report, StopReason, TaskInfo
from heavylift.executors import processes, verdicts
from heavylift.executors.host_link import Phase
from heavylift.executors.hosts import HostProcess
from heavylift.executors.pace import Pace
from heavylift.executors.temporary import Temporary
from heavylift.executors.verdicts import Run, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from heavylift.core.job import Job
    from heavylift.executors.link import Nanny
    from heavylift.settings import Settings

AHEAD, AHEAD_SECONDS = 400, 0.05
"""Very short runs are taken ahead: what the hosts begin within so many seconds, and not more than so many."""
WATCH = 0.05
PATIENCE = 0.5
"""A run that was not started for so many seconds is handed back, so that another worker may take it."""
SHARE = 4
"""The part (1/n) of the grace of `close` that is kept for the soft stop of what did not end by itself."""
LEAVE = 3.0
"""Seconds that hosts get to leave by themselves, and to clean up what they kept."""
FAILURES_BEFORE_PAUSE = 3
PAUSE = 1.0

log = logging.getLogger("heavylift.worker")


class Pool:
    """An Executor of hosts that a nanny forks. `patience`: see PATIENCE."""

    lacks: frozenset[Ability] = frozenset()

    def __init__(self, nanny: Nanny, settings: Settings, *, patience: float = PATIENCE) -> None:
        self.tasks: Mapping[str, TaskInfo] = nanny.tasks
        self.size = settings.concurrency or processes.cpus()
        self.nanny, self._settings, self._patience = nanny, settings, patience
        self._config = {"nice": settings.nice, "max_result": settings.max_result, "max_log": settings.max_log}
        self._temporary: Temporary | None = None
        self._loop = asyncio.get_running_loop()
        self._numbers = 0
        self._runs: dict[tuple[str, int], Run] = {}
        self._queue: deque[Run] = deque()
        self._hosts: set[HostProcess] = set()
        self._idle: list[HostProcess] = []
        self._open: deque[HostProcess] = deque()
        self._paces: dict[str, Pace] = {}
        self._pace = Pace()
        self._pumping = self._closing = False
        self._behind = False
        """Runs that were taken ahead had to be handed back: none is taken ahead until a host answers again."""
        self._failures = 0
        self._why = ""
        self._not_before = 0.0
        self._warm: asyncio.Future[None] | None = None
        self._tails: dict[HostProcess, int] = {}
        self._tail_timer: asyncio.TimerHandle | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self._shrink_timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()

    # --- the contract ------------------------------------------------------------------------------------------

    @property
    def warm(self) -> int:
        """How many hosts are ready."""
        return sum(1 for host in self._hosts if host.phase is Phase.READY)

    @property
    def free(self) -> Slots:
        """See `Executor.free`."""
        return Slots(process=0 if self._closing else max(0, self._room()))

    def _room(self) -> int:
        now = self.size - self._busy() - len(self._queue)
        if self._behind:
            return now
        if self._pace.brief:
            # The next ones wait here, not behind a round trip to the store; they come by the half, so that each trip
            # brings many. A host that has nothing to do is never kept waiting for that.
            ahead = int(AHEAD_SECONDS * self.size / self._pace.seconds)
            window = max(2 * self.size, min(AHEAD, ahead))
            room = window - len(self._runs)
            if room * 2 >= window:
                now = max(now, room)
        return now

    async def start(self) -> None:
        """See `Executor.start`."""
        for warning in self.nanny.warnings:
            log.warning(warning)
        # A sweep of what dead workers left may take its time.
        self._temporary = await asyncio.to_thread(Temporary.open)
        self.nanny.on_ready.append(self._renewed)
        self._warm = self._loop.create_future()
        self._grow(self._least)
        await self._warm
        self._shrink_timer = self._loop.call_later(self._shrink_pause, self._shrink)

    def run(self, job: Job, report: Callable[[Job, Report], None], finished: Callable[[Job, Outcome], None]) -> None:
        """See `Executor.run`."""
        if self._closing:
            self._loop.call_soon(finished, job, Interrupted("drain"))
        elif job.task not in self.tasks:
            message = f"There is no task {job.task!r} in this version of the application."
            self._loop.call_soon(finished, job, Failed(Error("unknown-task", message), retryable=False))
        else:
            self._numbers += 1
            pace = self._paces.get(job.task)
            if pace is None:
                pace = self._paces[job.task] = Pace()
            shares = not (job.alone or job.options.fresh)
            run = Run(self._numbers, job, report, finished, time.monotonic(), pace, shares)
            self._runs[job.id, job.attempt] = run
            self._queue.append(run)
            self._pump_soon()

    def stop(self, job: str, attempt: int, reason: StopReason, grace: float, *, force: bool = False) -> None:
        """See `Executor.stop`."""
        run = self._runs.get((job, attempt))
        if run is None:
            return
        if run.host is not None:
            run.host.stop(run, reason, grace, force=force)
            return
        self._queue.remove(run)
        run.stop = Stop(reason, 0.0, 0.0)
        self.finish(run, verdicts.stopped(run, started=False))

    async def close(self, grace: float) -> None:
        """See `Executor.close`."""
        await self.close_hosts(grace)
        await self.nanny.close()
        await self.gone()

    async def gone(self) -> None:
        """Wait, not for long, until every host is reaped; then remove what their jobs kept."""
        await self._until(lambda: not self._hosts, self._loop.time() + 1)
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            await temporary.close()

    async def close_hosts(self, grace: float) -> None:
        """As `close`, and leave the nanny alone: it kills what is left when it is closed."""
        self._closing = True
        deadline = self._loop.time() + grace
        while self._queue:
            self.finish(self._queue.popleft(), Interrupted("drain"))
        for host in self._hosts:
            self.take_back(host.take_back())
        share = min(max((run.job.options.grace for run in self._runs.values()), default=0.0), grace / SHARE)
        await self._until(lambda: not self._runs, deadline - share)
        for run in list(self._runs.values()):
            left = max(0.0, deadline - self._loop.time())
            self.stop(run.job.id, run.job.attempt, StopReason.DRAIN, left, force=left == 0)
        await self._until(lambda: not self._runs, deadline + 5)
        for timer in (self._tail_timer, self._watch_timer, self._shrink_timer):
            if timer is not None:
                timer.cancel()
        for host in list(self._hosts):
            host.leave()
        await self._until(lambda: not self._hosts, self._loop.time() + LEAVE)
        for host in list(self._hosts):
            host.kill()

    async def _until(self, condition: Callable[[], bool], deadline: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()

    # --- giving out runs ---------------------------------------------------------------------------------------

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Give what waits to the hosts that may have it, oldest first."""
        self._pumping = False
        queue = self._queue
        while queue:
            run = queue[0]
            host = self._host_for(run)
            if host is None or not self._fill(host):
                break
        if queue and len(self._hosts) < self.size:
            self._grow(len(queue))
        if self._watch_timer is None and self._runs:
            self._watch_timer = self._loop.call_later(WATCH, self._watch)

    def _host_for(self, run: Run) -> HostProcess | None:
        """A host that may have this run now; None if there is none."""
        if self._idle and (self._least == 1 or self._busy() < self.size):
            return self._fresh_host() if run.job.options.fresh else self._idle.pop()
        if self._open and run.pace.depth > 1 and run.may_share:
            host = self._open.popleft()
            host.open = False
            return host
        return None

    def _fresh_host(self) -> HostProcess | None:
        """An idle host that has run nothing yet; None: one is on its way, if need be in the place of another."""
        host = next((host for host in self._idle if host.jobs == 0), None)
        if host is not None:
            self._idle.remove(host)
            return host
        if self._living() >= self.size + self._least - 1:
            self._idle[0].leave()
        self._grow(len(self._idle) + 1)
        return None

    def _fill(self, host: HostProcess) -> bool:
        """Give a host the oldest run, and its share of those behind if all are very short; False if it takes none.

        They are sent in one go: to wake a process costs more than to run something this short.
        """
        queue = self._queue
        depth = host.depth = queue[0].pace.depth if queue[0].may_share else 1
        room = depth - len(host.running)
        share = min(room, -(-len(queue) // (1 + len(self._idle) + len(self._open))))
        while queue:
            run = queue[0]
            shares = run.pace.depth > 1 and run.may_share
            if host.running and not (shares and share > 0):
                break
            if not host.send(run):
                if not host.running:
                    self._idle.append(host)
                return False
            queue.popleft()
            share -= 1
            if not shares:
                return True
        if len(host.running) < depth:
            host.open = True
            self._open.append(host)
        if self._tail_timer is None:
            self._look_at_tails()
        return True

    def _relieve(self) -> None:
        """Take the tail back from each host whose first run takes unusually long, and was there at the last look."""
        self._tail_timer = None
        before, self._tails = self._tails, {}
        for host in list(self._hosts):
            if len(host.running) < 2:  # noqa: PLR2004  a first one and a tail
                continue
            first = next(iter(host.running))
            if before.get(host) == first and host.begun == first and host.takes > host.running[first].pace.long:
                self._close_depth(host)
                self.take_back(host.take_back())
            else:
                self._tails[host] = first
        self._look_at_tails()

    def _look_at_tails(self) -> None:
        if self._tail_timer is None:
            usual = [next(iter(host.running.values())).pace.long for host in self._hosts if len(host.running) > 1]
            if usual:
                self._tail_timer = self._loop.call_later(min(usual), self._relieve)

    def _close_depth(self, host: HostProcess) -> None:
        if host.open:
            host.open = False
            self._open.remove(host)

    # --- the hosts' news (see hosts.Keeper) --------------------------------------------------------------------

    def host_ready(self, host: HostProcess) -> None:
        """A host is warm."""
        self._failures = 0
        self._idle.append(host)
        if self._warm is not None and not self._warm.done():
            self._warm.set_result(None)
        self._pump_soon()

    def host_failed(self, why: str) -> None:
        """A host could not start."""
        self._failures += 1
        self._why = why
        log.error("a host could not start: %s", why)
        if self._warm is not None and not self._warm.done():
            self._warm.set_exception(ConfigError(f"A host of the application cannot start: {why}"))
        if self._failures >= FAILURES_BEFORE_PAUSE:
            self._not_before = self._loop.time() + PAUSE

    def host_free(self, host: HostProcess) -> None:
        """A host has answered: it is idle, or there is room behind what it runs."""
        self._behind = False
        self._pace.add(host.last_wall)
        if host.phase is Phase.READY:
            if not host.running:
                self._close_depth(host)
                if self._is_used_up(host):
                    host.leave()
                elif host not in self._idle:
                    self._idle.append(host)
            elif self._has_room(host):
                host.open = True
                self._open.append(host)
        self._pump()

    @staticmethod
    def _has_room(host: HostProcess) -> bool:
        # Not before half of it is free: what is sent in one go wakes the host once.
        if host.open or host.signalled:
            return False
        return len(host.running) <= host.depth // 2

    def host_leaving(self, host: HostProcess) -> None:
        """A host takes no more runs; another takes its place if there is need of it."""
        self._close_depth(host)
        if host in self._idle:
            self._idle.remove(host)
        if not self._closing and host.signalled:
            self._grow(1)

    def host_gone(self, host: HostProcess, back: list[Run]) -> None:
        """A host is dead."""
        self.host_leaving(host)
        self._hosts.discard(host)
        self._tails.pop(host, None)
        if self._temporary is not None:
            self._temporary.remove(host.temporary)
        self.take_back(back)
        self._changed.set()
        if not self._closing and self._living() < self._least:
            self._grow(self._least)
        self._pump_soon()

    def take_back(self, runs: list[Run]) -> None:
        """Runs that were not started wait again, before all others."""
        if self._closing:
            for run in runs:
                self.finish(run, Interrupted("drain"))
        elif runs:
            self._queue.extendleft(reversed(runs))
            self._pump_soon()

    def finish(self, run: Run, outcome: Outcome) -> None:
        """A run is over."""
        job = run.job
        if self._runs.pop((job.id, job.attempt), None) is None:
            return
        if run.host is not None:
            run.host = None
            run.pace.add(outcome.usage.wall)
        if self._closing:
            self._changed.set()
        run.finished(job, outcome)

    def stop_run(self, run: Run, reason: StopReason, grace: float) -> None:
        """A run is beyond a limit."""
        self.stop(run.job.id, run.job.attempt, reason, grace)

    # --- size --------------------------------------------------------------------------------------------------

    def _busy(self) -> int:
        return sum(1 for host in self._hosts if host.running)

    def _living(self) -> int:
        return sum(1 for host in self._hosts if host.phase in (Phase.STARTING, Phase.READY))

    @property
    def _least(self) -> int:
        """So many hosts are kept in any case: where a start takes long, one waits in reserve."""
        return 1 if self.nanny.forks else 2

    def _grow(self, wanted: int) -> None:
        """Start hosts until `wanted` are about to be free, and not more than `size` and the reserve live."""
        if self._closing or not self.nanny.ready or self._loop.time() < self._not_before:
            return
        coming = sum(1 for host in self._hosts if host.phase is Phase.STARTING)
        most = self.size + self._least - 1
        for _ in range(min(wanted - coming - len(self._idle), most - self._living())):
            host = HostProcess(self, self._temporary.next() if self._temporary is not None else "")
            self._hosts.add(host)
            host.start(self.nanny, self._config)

    def _renewed(self) -> None:
        """A new nanny has taken over; its application may be another version."""
        self.tasks = self.nanny.tasks
        if self._living() < self._least:
            self._grow(self._least)
        self._pump_soon()

    def _is_used_up(self, host: HostProcess) -> bool:
        settings = self._settings
        if settings.recycle_jobs and host.jobs >= settings.recycle_jobs:
            return True
        if self._loop.time() - host.born > settings.recycle_age:
            return True
        return host.last_peak > settings.recycle_memory and processes.resident(host.pid) > settings.recycle_memory

    @property
    def _shrink_pause(self) -> float:
        return max(0.01, min(1.0, self._settings.idle / 4))

    def _shrink(self) -> None:
        """Let hosts go that had nothing to do for long, down to one."""
        self._shrink_timer = self._loop.call_later(self._shrink_pause, self._shrink)
        now = self._loop.time()
        for host in list(self._idle):
            if self._living() <= self._least:
                break
            if now - host.idle_since > self._settings.idle:
                host.leave()

    # --- every 50 ms while there is something to run --------------------------------------------------------------

    def _watch(self) -> None:
        self._watch_timer = None
        for host in list(self._hosts):
            if host.running:
                host.look()
        too_old = self._loop.time() - self._patience
        while self._queue and self._queue[0].accepted_at < too_old:
            self._behind = True
            self.finish(self._queue.popleft(), Interrupted("not started"))
        if self._queue:
            self._pump_soon()
        if self._runs:
            self._watch_timer = self._loop.call_later(WATCH, self._watch)
