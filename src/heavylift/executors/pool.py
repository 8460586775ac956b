"""The worker's pool of warm hosts: the Executor that runs each attempt in a process of its own, and can stop it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from heavylift.core.job import Error
from heavylift.core.options import Slots
from heavylift.core.outcome import Failed, Interrupted, Outcome
from heavylift.executor import Ability, Report, StopReason
from heavylift.executors import processes, verdicts
from heavylift.executors.host_link import Phase
from heavylift.executors.host_pool import PATIENCE, HostPool
from heavylift.executors.hosts import HostProcess
from heavylift.executors.pace import Pace
from heavylift.executors.temporary import Temporary
from heavylift.executors.verdicts import Run, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from heavylift.core.job import Job
    from heavylift.executors.link import Nanny
    from heavylift.settings import Settings

AHEAD, AHEAD_SECONDS = 400, 0.05
"""Very short runs are taken ahead: what the hosts begin within so many seconds, and not more than so many."""
WATCH = 0.05
log = logging.getLogger("heavylift.worker")


class Pool(HostPool):
    """An Executor of hosts that a nanny forks. `patience`: see PATIENCE."""

    lacks: frozenset[Ability] = frozenset()

    def __init__(self, nanny: Nanny, settings: Settings, *, patience: float = PATIENCE) -> None:
        super().__init__(nanny, settings)
        self.size = settings.concurrency or processes.cpus()
        self._patience = patience
        self._queue: deque[Run] = deque()
        self._hosts: set[HostProcess] = set()
        self._idle: list[HostProcess] = []
        self._open: deque[HostProcess] = deque()
        self._paces: dict[str, Pace] = {}
        self._pace = Pace()
        self._tails: dict[HostProcess, int] = {}

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
        self._later("shrink", self._shrink_pause, self._shrink)

    def run(self, job: Job, report: Callable[[Job, Report], None], finished: Callable[[Job, Outcome], None]) -> None:
        """See `Executor.run`."""
        if self._closing:
            self._loop.call_soon(finished, job, Interrupted("drain"))
        elif job.task not in self.tasks:
            message = f"There is no task {job.task!r} in this version of the application."
            self._loop.call_soon(finished, job, Failed(Error("unknown-task", message), retryable=False))
        else:
            pace = self._paces.get(job.task)
            if pace is None:
                pace = self._paces[job.task] = Pace()
            self._queue.append(self._accept(job, report, finished, pace))
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

    def _taken_out(self) -> list[Run]:
        waiting = list(self._queue)
        self._queue.clear()
        return waiting

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
        if self._runs:
            self._later("watch", WATCH, self._watch)

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
        if "tails" not in self._timers:
            self._look_at_tails()
        return True

    def _relieve(self) -> None:
        """Take the tail back from each host whose first run takes unusually long, and was there at the last look."""
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
        if "tails" not in self._timers:
            usual = [next(iter(host.running.values())).pace.long for host in self._hosts if len(host.running) > 1]
            if usual:
                self._later("tails", min(usual), self._relieve)

    def _close_depth(self, host: HostProcess) -> None:
        if host.open:
            host.open = False
            self._open.remove(host)

    # --- the hosts' news (see hosts.Keeper) --------------------------------------------------------------------

    def host_ready(self, host: HostProcess) -> None:
        """A host is warm."""
        self._idle.append(host)
        self._became_warm()
        self._pump_soon()

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
        coming = sum(1 for host in self._hosts if host.phase is Phase.STARTING)
        most = self.size + self._least - 1
        for _ in range(min(wanted - coming - len(self._idle), most - self._living())):
            if not self._may_start:
                return
            self._launch(HostProcess(self, self._next_folder(), self._settings.processes))

    def _next_folder(self) -> str:
        return self._temporary.next() if self._temporary is not None else ""

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
        self._later("shrink", self._shrink_pause, self._shrink)
        now = self._loop.time()
        for host in list(self._idle):
            if self._living() <= self._least:
                break
            if now - host.idle_since > self._settings.idle:
                host.leave()

    # --- every 50 ms while there is something to run --------------------------------------------------------------

    def _watch(self) -> None:
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
            self._later("watch", WATCH, self._watch)
