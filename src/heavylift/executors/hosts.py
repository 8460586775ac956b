"""The worker's side of a host that runs one job at a time: stops it, watches it, and judges what its death means."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

from heavylift.core import codec
from heavylift.core.job import Progress
from heavylift.core.outcome import Usage
from heavylift.executor import Checkpoint, LogLines, Report, StopReason
from heavylift.executors import looking, processes, stacks, verdicts
from heavylift.executors.host_link import LEFT_UNFIT, HostLink, Keeper, Phase
from heavylift.executors.meter import Meter
from heavylift.executors.verdicts import Run, Stop
from heavylift.executors.wire import (
    LAST,
    NUMBERED,
    SPACING,
    STOP_SIGNAL,
    Kind,
)

if TYPE_CHECKING:
    from heavylift.executors.link import Ending

ASK_AGAIN = 0.02
"""Seconds between two stop signals: one may come at a moment when nothing can be raised."""
ASK_SLOWLY_AFTER, ASK_SLOWLY = 1.0, 0.1
LAST_WORDS, LOOK_AGAIN = 0.5, 0.01
"""Seconds that a host has to say where it is before it is killed, and between two looks whether it has."""
STARVED = 2.5
"""So many seconds more if it is saying so, or would if it got a CPU."""
JUST_BEGUN = 0.01
"""A run of less seconds is not looked at yet."""
UNSTARTED_DEATHS = 5
"""So many hosts may die with a run taken and not begun; then the run is to blame after all."""


class HostProcess(HostLink):
    """A host that runs one job at a time: the first one of `running`."""

    kind = "exclusive"

    def __init__(self, keeper: Keeper, temporary: str, most_processes: int) -> None:
        super().__init__(keeper, temporary)
        self._meter = Meter(most_processes)
        self.signalled = False
        """It was asked to stop a run, so it is not used again."""
        self.depth = 1
        """The pool's note: how many runs it may have at once."""
        self.open = False
        """The pool's note: it may get more runs although it has one."""
        self._progress_seen = self._lines_seen = 0
        self._progress_at = 0.0

    def send(self, run: Run) -> bool:
        """Give it a run; False when its socket is full."""
        if not self.running:
            self._meter.begin(self.pid, run.job.options)
        sent = super().send(run)
        if sent and len(self.running) == 1:
            self._began(run)
        return sent

    @property
    def takes(self) -> float:
        """Seconds since it began what it runs."""
        return time.monotonic() - self._page.started_at

    @property
    def begun(self) -> int:
        """The number of the run that it has begun and not answered; 0: it waits, or waits for a CPU."""
        return self._page.started

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
            self._page.tells = reason not in (StopReason.CANCEL, StopReason.DRAIN)
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
        if self._page.started != run.number or time.monotonic() - self._page.started_at < JUST_BEGUN:
            return
        options = run.job.options
        cpu = 0.0 if options.cpu_time is None else max(0.0, processes.cpu_time(self.pid) - self._page.cpu_at_start)
        excess = self._meter.excess(self.pid, options, cpu)
        if excess is None:
            return
        if run.excess is None or run.excess.reason is excess.reason:
            run.excess = excess
        if run.stop is None:
            self._keeper.stop_run(run, excess.reason, options.grace)
        if excess.far and run.number in self.running:
            self.stop(run, excess.reason, 0.0, force=True)

    def _has_begun(self, run: Run) -> bool:
        return self._page.started == run.number

    def _of_dump(self, run: Run, dump: str) -> str:
        del run  # the main thread's, which is all that is asked for
        return looking.of_main_thread(dump)

    def _first(self) -> Run | None:
        return next(iter(self.running.values()), None)

    def _began(self, run: Run) -> None:
        """The run is the first one now: the host takes it in a moment."""
        self._output_before = self._output.total
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
            if run.number in self.running and not self._has_told(run, stop):
                run.timer = self._loop.call_later(LOOK_AGAIN, self._ask, run)
            elif run.number in self.running:
                run.killed = True
                self.kill(stop.meaning, run, trees=run.excess is not None)
            if answered:
                self._keeper.host_free(self)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, STOP_SIGNAL)
        pause = ASK_AGAIN if now - stop.asked_at < ASK_SLOWLY_AFTER else ASK_SLOWLY
        run.timer = self._loop.call_at(min(now + pause, stop.deadline), self._ask, run)

    def _has_told(self, run: Run, stop: Stop) -> bool:
        """Whether the host has said where it is, before it is killed; if that is part of a failure, it is asked."""
        far = run.excess is not None and run.excess.far
        if stop.reason in (StopReason.CANCEL, StopReason.DRAIN) or (far and stop.reason is StopReason.PROCESSES):
            return True
        if stop.told_by is None:
            stop.told_by = self._loop.time() + (LAST_WORDS / 10 if far else LAST_WORDS)
            self.ask_for_stack()
            self._looks.keep = True
            return False
        told, stop.told = stop.told, len(stacks.dump(self._stacks))
        is_at_it = looking.is_dumping(self.pid)
        if 0 < stop.told == told and not is_at_it:
            return True
        return self._loop.time() >= stop.told_by + (STARVED if is_at_it and not far else 0.0)

    # --- what the host says ------------------------------------------------------------------------------------

    def _answered(self, run: Run, flags: int) -> None:
        if flags & LAST or self.signalled or run.job.options.fresh:
            self.leave(self._why_last(run, flags))
        if self.running:
            self._began(next(iter(self.running.values())))

    def _why_last(self, run: Run, flags: int) -> str:
        """Why it takes no run after this one."""
        if flags & LAST:
            return LEFT_UNFIT
        return "its job wanted it for itself" if run.job.options.fresh else "it was asked to stop a job"

    def _reported(self, run: Run, kind: int, body: bytes) -> None:
        if kind == Kind.PROGRESS:
            self._progress(run, NUMBERED.unpack_from(body)[0], body[NUMBERED.size :])
        elif kind == Kind.CHECKPOINT:
            run.report(run.job, Checkpoint(body))
        else:
            dropped = NUMBERED.unpack_from(body, NUMBERED.size)[0]
            lines = body[2 * NUMBERED.size :]
            self._lines(run, NUMBERED.unpack_from(body)[0], lines, dropped)

    def _fetch_page(self, run: Run, quiet: float = 2 * SPACING) -> None:
        """What the running code reported and the host did not send: it spares frames. Progress only if none was heard
        of for so many seconds: frames bring it every SPACING, and both together were more than that.
        """
        lines, progress = self._page.read_lines(), self._page.read_progress()
        if lines is not None and lines[0] == run.number:
            self._lines(run, lines[1], lines[2], 0)
        if progress is not None and progress[0] == run.number and self._loop.time() - self._progress_at >= quiet:
            self._progress(run, progress[1], progress[2])

    def _progress(self, run: Run, number: int, data: bytes) -> None:
        if number > self._progress_seen:
            self._progress_seen, self._progress_at = number, self._loop.time()
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

    # --- its death ----------------------------------------------------------------------------------------------

    def _judge(self, ending: Ending, back: list[Run]) -> None:
        for run in list(self.running.values()):
            if self._page.started == run.number:
                self._died_running(run, ending)
            elif run.stop is not None:
                self._keeper.finish(run, verdicts.stopped(run, started=False))
            else:
                self._died_taken(run, ending, back)

    def _died_running(self, run: Run, ending: Ending) -> None:
        page = self._page
        self._fetch_page(run, quiet=0.0)
        if page.dropped:
            self._report(run, LogLines([], 0, page.dropped))
        cpu = max(0.0, ending.cpu - page.cpu_at_start - page.cpu_below)
        usage = Usage(max(0.0, time.monotonic() - page.started_at), cpu, ending.peak or None)
        if run.killed:
            asked = run.stop is not None and run.stop.told_by is not None
            stack = stacks.written(self._stacks) if asked else None
            self._keeper.finish(run, verdicts.stopped(run, started=True, usage=usage, stack=stack))
        else:
            self._keeper.finish(run, self._crashed(ending, usage))

    def _died_taken(self, run: Run, ending: Ending, back: list[Run]) -> None:
        run.deaths += 1
        run.host = None
        if run.deaths < UNSTARTED_DEATHS:
            back.append(run)
        else:
            self._keeper.finish(run, self._crashed(ending, Usage()))
