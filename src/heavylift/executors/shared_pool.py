"""The worker's pool of shared hosts: one for all runs, others for those that are alone, or beside a blocked one."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from heavylift.core.errors import ConfigError
from heavylift.core.log import about
from heavylift.core.options import RunIn, Slots
from heavylift.core.outcome import DRAIN, NOT_STARTED, Interrupted, Outcome
from heavylift.core.tally import Fault
from heavylift.executor import LogLines, Report, StopReason
from heavylift.executors import processes, verdicts
from heavylift.executors.host_link import Phase
from heavylift.executors.host_pool import PATIENCE, HostPool
from heavylift.executors.pace import Pace
from heavylift.executors.shared_hosts import SharedHostProcess
from heavylift.executors.temporary import Temporary
from heavylift.executors.verdicts import Run, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from heavylift.core.job import Job
    from heavylift.executors.link import Nanny
    from heavylift.settings import Settings

WATCH = 0.25
BLOCKED = 5.0
"""A loop that did not come round for so many seconds is blocked."""
MOST = 4
"""Hosts that are alive at once, beside those of runs that are alone."""

log = logging.getLogger("heavylift.worker")


class SharedPool(HostPool):
    """Runs coroutines and threads; see `Executor`."""

    def __init__(self, nanny: Nanny, settings: Settings, most_alone: int) -> None:
        super().__init__(nanny, settings)
        self._config["threads"] = settings.threads
        self._most_alone = most_alone
        self._counts: Counter[RunIn] = Counter()
        self._sent: Counter[RunIn] = Counter()
        self._most: dict[RunIn, int] = {"loop": settings.coroutines, "thread": settings.threads}
        self._paces: dict[RunIn, Pace] = {place: Pace() for place in self._most}
        self._queues: dict[RunIn, deque[Run]] = {place: deque() for place in self._most}
        self._alone: deque[Run] = deque()
        self._hosts: set[SharedHostProcess] = set()
        self._taking: SharedHostProcess | None = None
        """The host that takes new runs."""
        self._given: dict[SharedHostProcess, Run] = {}
        """Runs that are to be alone, by the host that was started for each."""

    # --- the contract ------------------------------------------------------------------------------------------

    @property
    def free(self) -> Slots:
        """See `Executor.free`."""
        if self._closing or self._loop.time() < self._not_before:
            return Slots()
        if self._taking is None and len(self._common()) >= MOST:
            return Slots()
        # Any function may run in a thread, by an option of a single job; only coroutines on a loop.
        coroutines = sum(info.options.run_in == "loop" for info in self.tasks.values())
        functions = len(self.tasks) > coroutines
        return Slots(0, self._room("loop") if coroutines else 0, self._room("thread") if functions else 0)

    @property
    def _is_wanted(self) -> bool:
        """Whether a host is to be warm before there is anything to run."""
        return any(info.options.run_in != "process" for info in self.tasks.values())

    def _room(self, place: RunIn) -> int:
        window, taken = self._most[place], self._counts[place]
        if self._paces[place].brief and not self._behind:
            # As for exclusive hosts: the next ones are at hand, and come by the half.
            window *= 2
            if taken * 2 > window:
                return 0
        return max(0, window - taken)

    async def start(self) -> None:
        """Be warm, if the application has tasks that run here."""
        self.nanny.on_ready.append(self._renewed)
        if self._is_wanted:
            self._warm = self._loop.create_future()
            self._ensure_host()
            await self._warm

    def run(self, job: Job, report: Callable[[Job, Report], None], finished: Callable[[Job, Outcome], None]) -> None:
        """See `Executor.run`; the task is known, and runs here."""
        if self._closing:
            self._loop.call_soon(finished, job, Interrupted(DRAIN))
            return
        place = job.options.run_in
        run = self._accept(job, report, finished, self._paces[place])
        self._counts[place] += 1
        (self._queues[place] if run.may_share else self._alone).append(run)
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)
        self._later("watch", WATCH, self._watch)

    def stop(self, job: str, attempt: int, reason: StopReason, grace: float, *, force: bool = False) -> None:
        """See `Executor.stop`."""
        run = self._runs.get((job, attempt))
        if run is None:
            return
        if run.host is not None:
            run.host.stop(run, reason, grace, force=force)
            return
        run.stop = Stop(reason, 0.0, 0.0)
        for queue in (*self._queues.values(), self._alone):
            with contextlib.suppress(ValueError):
                queue.remove(run)
        for host in [host for host, given in self._given.items() if given is run]:
            del self._given[host]
            host.leave("the job that it was for is over")
        self.finish(run, verdicts.stopped(run, started=False))

    def _taken_out(self) -> list[Run]:
        waiting = list(self._given.values())
        self._given.clear()
        for queue in (*self._queues.values(), self._alone):
            waiting += queue
            queue.clear()
        return waiting

    # --- giving out runs ---------------------------------------------------------------------------------------

    def _common(self) -> list[SharedHostProcess]:
        return [host for host in self._hosts if not host.alone]

    def _pump(self) -> None:
        """Give what waits to the host that takes it, and start those that are missing."""
        self._pumping = False
        for place, queue in self._queues.items():
            while queue and self._taking is not None and self._sent[place] < self._most[place]:
                if not self._taking.send(queue[0]):
                    # Its socket is full because its loop does not read: it does so, or another host takes its place.
                    self._later("pump", 0.001, self._pump)
                    return
                self._sent[place] += 1
                queue.popleft()
        if self._taking is None and any(self._queues.values()):
            self._ensure_host()
        while self._alone and len(self._hosts) - len(self._common()) < self._most_alone and self._may_start:
            host = self._new_host(alone=True)
            if host is not None:
                self._given[host] = self._alone.popleft()
                self._launch(host)

    def _ensure_host(self) -> None:
        starting = any(host.phase is Phase.STARTING for host in self._common())
        if self._taking is None and not starting and self._may_start and len(self._common()) < MOST:
            host = self._new_host()
            if host is not None:
                self._launch(host)

    def _new_host(self, *, alone: bool = False) -> SharedHostProcess | None:
        """A host that is not started yet; None when there can be no folder for it now."""
        try:
            if self._temporary is None:
                self._temporary = Temporary.open()
        except ConfigError as error:
            self.host_failed(str(error))
            return None
        return SharedHostProcess(self, self._temporary.next(), alone=alone)

    def _set_aside(self, host: SharedHostProcess, why: str) -> None:
        """It ends what it runs, and takes nothing more; another one takes its place."""
        host.leave(why)
        self._ensure_host()

    # --- the hosts' news (see host_link.Keeper) ----------------------------------------------------------------

    def host_ready(self, host: SharedHostProcess) -> None:
        """A host is warm."""
        self._became_warm()
        if host.alone:
            run = self._given.pop(host, None)
            if run is None:
                host.leave("the job that it was for is over")
            elif host.send(run):
                self._sent[run.job.options.run_in] += 1
            else:
                self._alone.appendleft(run)
                host.leave("the job that it was for cannot be sent to it")
        else:
            self._taking = host
        self._pump()

    def host_free(self, host: SharedHostProcess) -> None:
        """A host has answered."""
        self._behind = False
        if host is self._taking and (why := self._used_up(host)):
            self._set_aside(host, why)
        self._pump()

    def _used_up(self, host: SharedHostProcess) -> str:
        """Why a host is to be replaced; empty when it is not."""
        settings = self._settings
        if settings.recycle_jobs and host.jobs >= settings.recycle_jobs:
            return f"it has run {host.jobs} jobs"
        if self._loop.time() - host.born > settings.recycle_age:
            return f"it is older than {settings.recycle_age:g} s"
        return ""

    def host_leaving(self, host: SharedHostProcess) -> None:
        """A host takes no more runs."""
        if host is self._taking:
            self._taking = None

    def host_gone(self, host: SharedHostProcess, back: list[Run]) -> None:
        """A host is dead; what it had not begun goes elsewhere."""
        self.host_leaving(host)
        self._hosts.discard(host)
        if self._temporary is not None:
            self._temporary.remove(host.temporary)
        run = self._given.pop(host, None)
        if run is not None:
            self._alone.append(run)
        self.take_back(back)
        self._changed.set()
        if not self._closing and self._is_wanted:
            self._ensure_host()
        self._pump()

    def take_back(self, runs: list[Run]) -> None:
        """Runs that were not started wait again, before all others."""
        for run in reversed(runs):
            self._sent[run.job.options.run_in] -= 1
            if self._closing:
                self.finish(run, Interrupted(DRAIN))
            elif run.stop is not None:
                self.finish(run, verdicts.stopped(run, started=False))
            elif not run.may_share:
                self._alone.appendleft(run)
            else:
                self._queues[run.job.options.run_in].appendleft(run)

    def finish(self, run: Run, outcome: Outcome) -> None:
        """A run is over."""
        job = run.job
        if self._runs.pop((job.id, job.attempt), None) is None:
            return
        if run.host is not None:
            run.host = None
            self._sent[job.options.run_in] -= 1
            run.pace.add(outcome.usage.wall)
        self._counts[job.options.run_in] -= 1
        if self._closing:
            self._changed.set()
        run.finished(job, outcome)

    def _renewed(self) -> None:
        """A new nanny has taken over; its application may be another version."""
        self.tasks = self.nanny.tasks
        if self._is_wanted:
            self._ensure_host()
        self._pump()

    # --- every 250 ms while something runs -----------------------------------------------------------------------

    def _watch(self) -> None:
        for host in list(self._hosts):
            if host.running:
                host.count_processes(self._settings.processes)
            if host.phase is Phase.READY and host.silent_for > BLOCKED:
                host.ask_for_stack()
                self._loop.call_later(WATCH, self._tell_of_block, host, host.silent_for)
                self._set_aside(host, "its loop is blocked")
            elif host is self._taking and processes.resident(host.pid) > self._settings.recycle_memory:
                self._set_aside(host, f"it has more than {self._settings.recycle_memory:,} bytes in memory")
        too_old = time.monotonic() - PATIENCE
        starting = any(host.phase is Phase.STARTING for host in self._hosts)
        for queue in self._queues.values():
            while queue and not starting and queue[0].accepted_at < too_old:
                self._behind = True
                self.finish(queue.popleft(), Interrupted(NOT_STARTED))
        self._pump()
        if self._runs:
            self._later("watch", WATCH, self._watch)
        else:
            self._later("retire", self._settings.idle, self._retire)

    def _retire(self) -> None:
        """Let the host go that was started for single jobs, and has had nothing to do for long."""
        host = self._taking
        if self._is_wanted or host is None or host.running:
            return
        left = host.idle_since + self._settings.idle - self._loop.time()
        if left > 0:
            self._later("retire", left, self._retire)
        else:
            host.leave(f"it had nothing to do for {self._settings.idle:g} s")

    def _tell_of_block(self, host: SharedHostProcess, seconds: float) -> None:
        if host.phase is Phase.GONE:
            return
        run = host.stepping
        culprit = "the loop" if run is None else f"job {run.job.id} ({run.job.task})"
        others = len(host.running) - (run is not None)
        self.tally.fault(Fault.BLOCKED_LOOP)
        fields = {"fault": Fault.BLOCKED_LOOP.value, "host": host.pid} | ({} if run is None else about(run.job))
        log.warning(
            "%s has blocked a shared host for %.0f s, and %d other jobs in it wait; new ones go to another host."
            " Await what takes long, or run it with run_in='thread' or as a plain function. It is here:\n%s",
            culprit,
            seconds,
            others,
            host.stack(),
            extra=fields,
        )
        if run is not None and self._runs.get((run.job.id, run.job.attempt)) is run:
            message = f"It has blocked the loop of its host for {seconds:.0f} s, here:\n{host.stack()}"
            line = {"at": time.time(), "level": "warning", "message": message, "logger": log.name}
            run.report(run.job, LogLines([line], 0))
