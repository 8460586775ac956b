"""The worker's side of one host, as far as all kinds have it in common: its process, what leads to it, what it says."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from heavylift.core.log import about
from heavylift.core.tally import Fault
from heavylift.executors import looking, processes, stacks, verdicts
from heavylift.executors.admission import Admission
from heavylift.executors.looking import Looks
from heavylift.executors.output import Output
from heavylift.executors.wire import (
    HEADER,
    NUMBER_SIZE,
    STOP_PACKET,
    Kind,
    Page,
    number_of,
    pack_request,
    send_packet,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heavylift.core.outcome import Outcome, Usage
    from heavylift.core.stack import Stack
    from heavylift.core.tally import Tally
    from heavylift.executor import StopReason
    from heavylift.executors.link import Ending, Nanny
    from heavylift.executors.verdicts import Run

_FIRST_ANSWER = int(Kind.SUCCEEDED)
CHUNK = 256 * 1024
NO_ROOM = (errno.EAGAIN, errno.EMFILE, errno.ENFILE)
"""Errors of a send that is tried again later."""
LEFT_UNFIT = "its job left something behind"

log = logging.getLogger("heavylift.host")


class Phase(Enum):
    """A host's life."""

    STARTING = 1
    READY = 2
    LEAVING = 3
    """It takes no more runs: it was told to go, or killed."""
    GONE = 4


class Keeper(Protocol):
    """What a host tells its pool; `host` is of the kind that the pool made."""

    @property
    def tally(self) -> Tally:
        """Where its faults are counted."""

    def host_ready(self, host: Any) -> None:
        """It takes runs now."""

    def host_failed(self, why: str) -> None:
        """It could not start."""

    def host_free(self, host: Any) -> None:
        """It answered one run or more."""

    def host_leaving(self, host: Any) -> None:
        """It takes no more runs."""

    def host_gone(self, host: Any, back: list[Run]) -> None:
        """It is dead; `back` was not started there."""

    def take_back(self, runs: list[Run]) -> None:
        """These were sent and not started."""

    def finish(self, run: Run, outcome: Outcome) -> None:
        """A run is over."""

    def stop_run(self, run: Run, reason: StopReason, grace: float) -> None:
        """A limit of the run is reached."""


class HostLink(ABC):
    """One host. `running` holds the runs that were sent and not answered, in the order of their sending."""

    kind: ClassVar[str]
    """How it is called in logs and metrics."""

    def __init__(self, keeper: Keeper, temporary: str) -> None:
        self.temporary = temporary
        """The folder for what its jobs keep for their own time alone."""
        self.phase = Phase.STARTING
        self.running: dict[int, Run] = {}
        self.jobs = 0
        self.born = self.idle_since = time.monotonic()
        self.last_wall, self.last_peak = 0.0, 0
        self.pid = 0
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()
        self._pidfd = self._alive = -1
        self._held = contextlib.ExitStack()
        """Closes what the worker has of it."""
        self._warm = False
        self._end_is_told = False
        """It was killed here, or could not start: its end is no crash."""
        self._rest = b""
        self._output_before = 0
        """Bytes of output that came before the run that it runs, if it runs one at a time."""

    def start(self, nanny: Nanny, config: Mapping[str, Any]) -> None:
        """Ask the nanny for the process. The keeper hears at once when the worker has no descriptors left for it."""
        with contextlib.ExitStack() as theirs:
            try:
                descriptors = self._open(theirs)
            except OSError as error:
                self.not_forked(str(error))
                return
            nanny.start_host(self, descriptors, {**config, "temporary": self.temporary})

    def _open(self, theirs: contextlib.ExitStack) -> tuple[int, ...]:
        """Open what leads to the host; what it is to be given, which `theirs` closes here."""
        held = self._held
        # The worker keeps the receiving end of the requests too: what it can still receive was never started.
        self._requests, self._back = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        held.enter_context(self._requests)
        held.enter_context(self._back)
        self._stream, stream = socket.socketpair()
        held.enter_context(self._stream)
        theirs.enter_context(stream)
        self._page, memory = Page.create()
        held.callback(self._page.close)
        theirs.callback(os.close, memory)
        alive, self._alive = os.pipe()
        held.callback(self._let_die)
        theirs.callback(os.close, alive)
        self._stacks = os.memfd_create("heavylift-stacks", os.MFD_CLOEXEC)
        held.callback(os.close, self._stacks)
        self._looks = Looks(self._page, self._stacks)
        self._output = Output()
        held.callback(self._output.close)
        theirs.callback(self._output.close_write_end)
        for end in (self._requests, self._stream):
            end.settimeout(0.0)
        self._admission = Admission(self._stream, self.running, self._loop)
        self._loop.add_reader(self._stream, self._readable)
        held.callback(self._loop.remove_reader, self._stream)
        return self._back.fileno(), stream.fileno(), memory, alive, self._output.write_end, self._stacks

    @abstractmethod
    def stop(self, run: Run, reason: StopReason, grace: float, *, force: bool) -> None:
        """Ask the run to stop, and kill the host when the grace is over."""

    @abstractmethod
    def _has_begun(self, run: Run) -> bool:
        """Whether the host has begun a run that it has not answered."""

    @abstractmethod
    def _of_dump(self, run: Run, dump: str) -> str:
        """Where a run is, by what the signal's handler in C wrote."""

    @abstractmethod
    def _reported(self, run: Run, kind: int, body: bytes) -> None:
        """The host told something of a run that goes on."""

    @abstractmethod
    def _answered(self, run: Run, flags: int) -> None:
        """A run is over and told; `running` has it no more."""

    @abstractmethod
    def _judge(self, ending: Ending, back: list[Run]) -> None:
        """The host is dead: finish the runs that it leaves, or put them into `back`."""

    # --- runs --------------------------------------------------------------------------------------------------

    def send(self, run: Run) -> bool:
        """Give it a run; False when its socket is full, or nothing is left to send a large one with."""
        try:
            send_packet(self._requests, pack_request(run.number, run.job))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            return False
        run.host = self
        self.running[run.number] = run
        return True

    def take_back(self) -> list[Run]:
        """The runs that were sent and not started: what can still be received here, the host never saw."""
        taken: list[Run] = []
        while self.running:
            try:
                packet = self._back.recv(NUMBER_SIZE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if not packet:
                break
            if packet[0] == STOP_PACKET:
                continue  # of a run that was received, or comes back too
            run = self.running.pop(number_of(packet))
            run.host = None
            taken.append(run)
        return taken

    async def stack_of(self, run: Run) -> Stack | None:
        """Where a run's code is; None when it is over."""

        def is_there() -> bool:
            return run.number in self.running and self.phase is not Phase.GONE

        attempt = run.job.attempt
        if not self._has_begun(run):
            return looking.unbegun(attempt)
        found = await self._looks.ask(
            run.number, self.pid, self._pidfd, is_there, lambda dump: self._of_dump(run, dump)
        )
        return None if found is None else await looking.seen(attempt, *found, self.pid)

    def leave(self, why: str) -> None:
        """Let it go when it has answered what it has begun."""
        if self.phase in (Phase.STARTING, Phase.READY):
            self._retire(why)
            back = self.take_back()
            self._requests.close()
            self._keeper.host_leaving(self)
            self._keeper.take_back(back)

    def _retire(self, why: str) -> None:
        self.phase = Phase.LEAVING
        fields = self._facts() | {"jobs": self.jobs, "why": why}
        level = logging.DEBUG if self._end_is_told else logging.INFO  # the kill was told
        log.log(level, "host %d (%s) takes no more jobs: %s", self.pid, self.kind, why, extra=fields)

    def kill(self, why: str, run: Run | None = None, *, trees: bool = False) -> None:
        """Kill it, for the sake of a run or not; the nanny kills what it leaves behind (`trees`: what there is of that
        already now).
        """
        if not self._end_is_told:
            self._keeper.tally.fault(Fault.HOST_KILL)
            fields = self._facts() | {"fault": Fault.HOST_KILL.value, "why": why}
            told = "" if run is None else f", with job {run.job.id} ({run.job.task}), attempt {run.job.attempt}"
            log.warning(
                *("host %d (%s) is killed%s: %s", self.pid, self.kind, told, why),
                extra=fields | ({} if run is None else about(run.job)),
            )
        self._end_process(trees=trees)
        self.leave("it is killed")

    def _end_process(self, *, trees: bool = False) -> None:
        self._end_is_told = True
        if self._pidfd >= 0:
            below = processes.children(self.pid) if trees else ()
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                processes.hurry(self.pid)
            processes.kill_trees(below)

    def ask_for_stack(self) -> None:
        """Have it write where each of its threads is: soon, whatever it is busy with, native code included."""
        if not self._looks.busy:
            stacks.clear(self._stacks)
        looking.have_dumped(self.pid, self._pidfd)

    def _crashed(self, ending: Ending, usage: Usage) -> Outcome:
        output, stack = self._output.tail(self._output_before), self._stack_of_death(ending.status)
        return verdicts.crashed(ending.status, output, usage, stack)

    def _stack_of_death(self, status: int | None) -> str | None:
        if status is None or not os.WIFSIGNALED(status):
            return None
        stack = stacks.of_death(stacks.written(self._stacks))
        if stack is None and os.WTERMSIG(status) == signal.SIGABRT:  # a fault that the interpreter itself has found
            return stacks.of_death(self._output.tail(self._output_before))
        return stack

    # --- what the host says ------------------------------------------------------------------------------------

    def _readable(self) -> None:
        if self.read():
            self._keeper.host_free(self)

    def read(self) -> bool:
        """Read what there is; whether an answer was in it."""
        answered = False
        while True:
            try:
                data = self._stream.recv(CHUNK)
            except (BlockingIOError, ConnectionResetError):
                break
            if not data:
                self._loop.remove_reader(self._stream)  # dead, or about to be; its end is reported by the nanny
                break
            answered = self._frames(self._rest + data if self._rest else data) or answered
            if len(data) < CHUNK:
                break
        return answered

    def _frames(self, data: bytes) -> bool:
        at, end, answered, size, unpack = 0, len(data), False, HEADER.size, HEADER.unpack_from
        while end - at >= size:
            length, kind, flags, number = unpack(data, at)
            begin = at + size
            at_next = begin + length
            if at_next > end:
                break
            at = at_next
            if kind >= _FIRST_ANSWER:
                answered = True
                self._answer(number, kind, flags, data[begin:at])
            else:
                self._said(number, kind, data[begin:at])
        self._rest = data[at:] if at < end else b""
        return answered

    def _answer(self, number: int, kind: int, flags: int, body: bytes) -> None:
        run = self.running.pop(number, None)
        if run is None:
            return
        if run.timer is not None:
            run.timer.cancel()
        outcome = verdicts.of_answer(run, kind, flags, body)
        self.jobs += 1
        self.last_wall, self.last_peak = outcome.usage.wall, outcome.usage.peak_rss or 0
        self._keeper.finish(run, outcome)
        self._answered(run, flags)
        if not self.running:
            self.idle_since = self._loop.time()

    def _said(self, number: int, kind: int, body: bytes) -> None:
        if kind == Kind.READY:
            self._warm = True
            self._ready()
        elif kind == Kind.BROKEN:
            self._failed(body.decode())
        elif (run := self.running.get(number)) is not None:
            if kind == Kind.RESERVE:
                self._admission.reserve(run, body)
            else:
                self._reported(run, kind, body)

    # --- the process -------------------------------------------------------------------------------------------

    def forked(self, pid: int, pidfd: int) -> None:
        """See `link.Child`."""
        self.pid, self._pidfd = pid, pidfd
        self._output.pid = pid
        log.debug("host %d (%s) is spawned", pid, self.kind, extra=self._facts())
        if self.phase is Phase.LEAVING:
            self._end_process()  # it is not needed any more
        self._ready()

    def _ready(self) -> None:
        # Two news by two ways: the host's own, and the nanny's, with the descriptor by which it can be stopped.
        if self._warm and self._pidfd >= 0 and self.phase is Phase.STARTING:
            self.phase = Phase.READY
            self.idle_since = time.monotonic()
            took = (self.idle_since - self.born) * 1000
            fields = self._facts() | {"ms": round(took, 1)}
            log.info("host %d (%s) is ready after %.0f ms", self.pid, self.kind, took, extra=fields)
            self._keeper.host_ready(self)

    def not_forked(self, why: str) -> None:
        """See `link.Child`."""
        self._failed(why)
        self._release([])

    def out_of_reach(self, why: str) -> None:
        """See `link.Child`."""
        self._failed(why)
        self._let_die()

    def _let_die(self) -> None:
        """The kernel kills the host when the worker's end of this pipe is closed."""
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1

    def ended(self, ending: Ending) -> None:
        """See `link.Child`: only a run that was started and not answered is charged, the others go back."""
        self.read()
        self._output.drain()
        back = self.take_back()
        self._tell_end(ending)
        if self.phase is Phase.STARTING:
            stack = self._stack_of_death(ending.status) or ""
            self._failed(f"it ended with status {ending.status}: {self._output.tail()}{stack}")
        self._judge(ending, back)
        self._release(back)

    def _tell_end(self, ending: Ending) -> None:
        """Say how it ended; by itself, it counts as a crash."""
        code = None if ending.status is None else os.waitstatus_to_exitcode(ending.status)
        how = "nobody could tell how" if code is None else processes.ending(code)
        fields = self._facts() | {"ending": how, "jobs": self.jobs}
        if self._end_is_told or self.phase is Phase.STARTING or not (self.running or code):
            log.debug("host %d (%s) is gone: %s", self.pid, self.kind, how, extra=fields)
            return
        self._keeper.tally.fault(Fault.HOST_CRASH)
        jobs = [run.job for run in self.running.values()]
        fields |= {"fault": Fault.HOST_CRASH.value, "running": [job.id for job in jobs]}
        if len(jobs) == 1:
            fields |= about(jobs[0])
        running = ", ".join(f"{job.id} ({job.task})" for job in jobs) or "no job"
        log.warning("host %d (%s) died by itself: %s; it ran %s", self.pid, self.kind, how, running, extra=fields)

    def _facts(self) -> dict[str, Any]:
        return {"host": self.pid, "kind": self.kind}

    def _failed(self, why: str) -> None:
        if self.phase is Phase.STARTING:
            self.phase = Phase.LEAVING
            self._end_is_told = True
            self._keeper.host_failed(why)

    def _release(self, back: list[Run]) -> None:
        self.phase = Phase.GONE
        self.running.clear()
        self._held.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._keeper.host_gone(self, back)
