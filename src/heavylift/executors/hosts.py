"""The worker's side of one host: sends it requests, reads what it says, stops it, and judges what its death means."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from heavylift.core import codec
from heavylift.core.job import Progress
from heavylift.core.outcome import Outcome, Usage
from heavylift.executor import Checkpoint, LogLines, Report, StopReason
from heavylift.executors import processes, verdicts
from heavylift.executors.output import Output
from heavylift.executors.verdicts import Run, Stop
from heavylift.executors.wire import (
    HEADER,
    LAST,
    NUMBER_SIZE,
    NUMBERED,
    STOP_SIGNAL,
    Kind,
    Page,
    number_of,
    pack_request,
    send_packet,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heavylift.executors.link import Ending, Nanny

_FIRST_ANSWER = int(Kind.SUCCEEDED)
CHUNK = 256 * 1024
ASK_AGAIN = 0.02
"""Seconds between two stop signals: one may come at a moment when nothing can be raised."""
ASK_SLOWLY_AFTER, ASK_SLOWLY = 1.0, 0.1
UNSTARTED_DEATHS = 5
"""So many hosts may die with a run taken and not begun; then the run is to blame after all."""


class Phase(Enum):
    """A host's life."""

    STARTING = 1
    READY = 2
    LEAVING = 3
    """It takes no more runs: it was told to go, or killed."""
    GONE = 4


class Keeper(Protocol):
    """What a host tells its pool."""

    def host_ready(self, host: HostProcess) -> None:
        """It takes runs now."""

    def host_failed(self, why: str) -> None:
        """It could not start."""

    def host_free(self, host: HostProcess) -> None:
        """It answered one run or more."""

    def host_leaving(self, host: HostProcess) -> None:
        """It takes no more runs."""

    def host_gone(self, host: HostProcess, back: list[Run]) -> None:
        """It is dead; `back` was not started there."""

    def take_back(self, runs: list[Run]) -> None:
        """These were sent and not started."""

    def finish(self, run: Run, outcome: Outcome) -> None:
        """A run is over."""

    def stop_run(self, run: Run, reason: StopReason, grace: float) -> None:
        """A limit of the run is reached."""


class HostProcess:
    """One host. `running` holds the runs that were sent and not answered, in order: the first one runs."""

    def __init__(self, keeper: Keeper, temporary: str) -> None:
        self.temporary = temporary
        """The folder for what its jobs keep for their own time alone."""
        self.phase = Phase.STARTING
        self.running: dict[int, Run] = {}
        self.signalled = False
        """It was asked to stop a run, so it is not used again."""
        self.depth = 1
        """The pool's note: how many runs it may have at once."""
        self.open = False
        """The pool's note: it may get more runs although it has one."""
        self.jobs = 0
        self.born = self.idle_since = time.monotonic()
        self.last_wall, self.last_peak = 0.0, 0
        self.pid = 0
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()
        self._pidfd = -1
        self._warm = False
        self._rest = b""
        self._progress_seen = self._lines_seen = 0

    def start(self, nanny: Nanny, config: Mapping[str, Any]) -> None:
        """Ask the nanny for the process."""
        # The worker keeps the receiving end of the requests too: what it can still receive was never started.
        self._requests, self._back = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stream, stream = socket.socketpair()
        self._page, memory = Page.create()
        alive, self._alive = os.pipe()
        self._output = Output()
        for end in (self._requests, self._stream):
            end.settimeout(0.0)
        self._loop.add_reader(self._stream, self._readable)
        descriptors = (self._back.fileno(), stream.fileno(), memory, alive, self._output.write_end)
        nanny.start_host(self, descriptors, {**config, "temporary": self.temporary})
        self._output.close_write_end()
        stream.close()
        os.close(memory)
        os.close(alive)

    # --- runs --------------------------------------------------------------------------------------------------

    def send(self, run: Run) -> bool:
        """Give it a run; False when its socket is full."""
        try:
            send_packet(self._requests, pack_request(run.number, run.job))
        except BlockingIOError:
            return False
        run.host = self
        self.running[run.number] = run
        if len(self.running) == 1:
            self._began(run)
        return True

    @property
    def takes(self) -> float:
        """Seconds since it began what it runs."""
        return time.monotonic() - self._page.started_at

    @property
    def begun(self) -> int:
        """The number of the run that it has begun and not answered; 0: it waits, or waits for a CPU."""
        return self._page.started

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
            run = self.running.pop(number_of(packet))
            run.host = None
            taken.append(run)
        return taken

    def stop(self, run: Run, reason: StopReason, grace: float, *, force: bool) -> None:
        """Ask the run to stop, and kill the host when the grace is over."""
        now = self._loop.time()
        deadline = now if force else now + grace
        if run.stop is not None:
            run.stop.deadline = min(run.stop.deadline, deadline)
            self._ask(run)
            return
        run.stop = Stop(reason, deadline, now)
        taken = self.take_back()
        self._keeper.take_back([one for one in taken if one is not run])
        if run in taken:
            self._keeper.finish(run, verdicts.stopped(run, started=False))
            self._keeper.host_free(self)
            return
        answered = self.read()
        if run.number in self.running:
            self.signalled = True
            self._page.stop = run.number
            self._ask(run)
        if answered:
            self._keeper.host_free(self)

    def look(self) -> None:
        """Fetch what the page holds of the running run, and see whether it is beyond a limit. Called every 50 ms."""
        run = self._first()
        if run is None:
            return
        self._fetch_page(run)
        options = run.job.options
        if run.stop is not None or self._page.started != run.number:
            return
        if options.memory is not None and processes.resident(self.pid) > options.memory:
            self._keeper.stop_run(run, StopReason.MEMORY, options.grace)
        elif options.cpu_time is not None and self._cpu_now() - self._page.cpu_at_start > options.cpu_time:
            self._keeper.stop_run(run, StopReason.CPU, options.grace)

    def leave(self) -> None:
        """Let it go when it has answered what it has begun."""
        if self.phase in (Phase.STARTING, Phase.READY):
            self.phase = Phase.LEAVING
            back = self.take_back()
            self._requests.close()
            self._keeper.host_leaving(self)
            self._keeper.take_back(back)

    def kill(self) -> None:
        """Kill it; the nanny kills what it leaves behind."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                processes.hurry(self.pid)
        self.leave()

    def _first(self) -> Run | None:
        return next(iter(self.running.values()), None)

    def _began(self, run: Run) -> None:
        """The run is the first one now: the host takes it in a moment."""
        if run.job.options.timeout is not None:
            self._time(run, run.job.options.timeout)

    def _time(self, run: Run, after: float) -> None:
        run.timer = self._loop.call_later(after, self._late, run)

    def _late(self, run: Run) -> None:
        """The timeout counts from the start in the host, which may have come later than the timer's."""
        timeout = run.job.options.timeout
        if run.number not in self.running or run.stop is not None or timeout is None:
            return
        page = self._page
        left = page.started_at + timeout - time.monotonic() if page.started == run.number else ASK_AGAIN
        if left > 0:
            self._time(run, left)
        else:
            self._keeper.stop_run(run, StopReason.TIMEOUT, run.job.options.grace)

    def _ask(self, run: Run) -> None:
        """Signal the host, again and again, until the run is over or its grace."""
        if run.timer is not None:
            run.timer.cancel()
        stop, now = run.stop, self._loop.time()
        if stop is None or run.number not in self.running or self.phase is Phase.GONE:
            return
        if now >= stop.deadline:
            answered = self.read()  # an answer that is there already wins
            if run.number in self.running:
                run.killed = True
                self.kill()
            if answered:
                self._keeper.host_free(self)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, STOP_SIGNAL)
        pause = ASK_AGAIN if now - stop.asked_at < ASK_SLOWLY_AFTER else ASK_SLOWLY
        run.timer = self._loop.call_at(min(now + pause, stop.deadline), self._ask, run)

    def _cpu_now(self) -> float:
        try:
            return time.clock_gettime(processes.cpu_clock(self.pid))
        except OSError:
            return 0.0

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
        if flags & LAST or self.signalled:
            self.leave()
        if self.running:
            self._began(next(iter(self.running.values())))
        else:
            self.idle_since = self._loop.time()

    def _said(self, number: int, kind: int, body: bytes) -> None:
        if kind == Kind.READY:
            self._warm = True
            self._ready()
        elif kind == Kind.BROKEN:
            self._failed(body.decode())
        elif (run := self.running.get(number)) is not None:
            if kind == Kind.PROGRESS:
                self._progress(run, NUMBERED.unpack_from(body)[0], body[NUMBERED.size :])
            elif kind == Kind.CHECKPOINT:
                run.report(run.job, Checkpoint(body))
            else:
                dropped = NUMBERED.unpack_from(body, NUMBERED.size)[0]
                lines = body[2 * NUMBERED.size :]
                self._lines(run, NUMBERED.unpack_from(body)[0], lines, dropped)

    def _fetch_page(self, run: Run) -> None:
        """What the running code reported and the host did not send: it spares frames."""
        lines, progress = self._page.read_lines(), self._page.read_progress()
        if lines is not None and lines[0] == run.number:
            self._lines(run, lines[1], lines[2], 0)
        if progress is not None and progress[0] == run.number:
            self._progress(run, progress[1], progress[2])

    def _progress(self, run: Run, number: int, data: bytes) -> None:
        if number > self._progress_seen:
            self._progress_seen = number
            self._report(run, Progress(**codec.decode(data)))

    def _lines(self, run: Run, first: int, data: bytes, dropped: int) -> None:
        lines = data.split(b"\n") if data else []
        if lines and not lines[-1]:
            lines.pop()
        new = lines[max(0, self._lines_seen - first) :]
        self._lines_seen = max(self._lines_seen, first + len(lines))
        if new or dropped:
            size = sum(map(len, new))
            self._report(run, LogLines([codec.decode(line) for line in new], size, dropped))

    def _report(self, run: Run, report: Report) -> None:
        run.report(run.job, report)

    # --- the process -------------------------------------------------------------------------------------------

    def forked(self, pid: int, pidfd: int) -> None:
        """See `link.Child`."""
        self.pid, self._pidfd = pid, pidfd
        if self.phase is Phase.LEAVING:
            self.kill()
        self._ready()

    def _ready(self) -> None:
        # Two news by two ways: the host's own, and the nanny's, with the descriptor by which it can be stopped.
        if self._warm and self._pidfd >= 0 and self.phase is Phase.STARTING:
            self.phase = Phase.READY
            self.idle_since = time.monotonic()
            self._keeper.host_ready(self)

    def not_forked(self, why: str) -> None:
        """See `link.Child`."""
        self._failed(why)
        self._release([])

    def ended(self, ending: Ending) -> None:
        """See `link.Child`: only the run that was started and not answered is charged, the others go back."""
        self.read()
        self._output.drain()
        back = self.take_back()
        if self.phase is Phase.STARTING:
            self._failed(f"it ended with status {ending.status}: {self._output.tail()}")
        for run in list(self.running.values()):
            if self._page.started == run.number:
                self._died_running(run, ending)
            elif run.stop is not None:
                self._keeper.finish(run, verdicts.stopped(run, started=False))
            else:
                self._died_taken(run, ending, back)
        self._release(back)

    def _died_running(self, run: Run, ending: Ending) -> None:
        page = self._page
        self._fetch_page(run)
        if page.dropped:
            self._report(run, LogLines([], 0, page.dropped))
        usage = Usage(
            max(0.0, time.monotonic() - page.started_at), max(0.0, ending.cpu - page.cpu_at_start), ending.peak or None
        )
        if run.killed:
            self._keeper.finish(run, verdicts.stopped(run, started=True, usage=usage))
        else:
            self._keeper.finish(run, verdicts.crashed(ending.status, self._output.tail(), usage))

    def _died_taken(self, run: Run, ending: Ending, back: list[Run]) -> None:
        run.deaths += 1
        run.host = None
        if run.deaths < UNSTARTED_DEATHS:
            back.append(run)
        else:
            self._keeper.finish(run, verdicts.crashed(ending.status, self._output.tail(), Usage()))

    def _failed(self, why: str) -> None:
        if self.phase is Phase.STARTING:
            self.phase = Phase.LEAVING
            self._keeper.host_failed(why)

    def _release(self, back: list[Run]) -> None:
        self.phase = Phase.GONE
        self.running.clear()
        self._loop.remove_reader(self._stream)
        for end in (self._requests, self._back, self._stream):
            end.close()
        self._page.close()
        self._output.close()
        os.close(self._alive)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._keeper.host_gone(self, back)
