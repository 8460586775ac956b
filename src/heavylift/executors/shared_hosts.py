"""The worker's side of a shared host: stops single runs in it, sees a blocked loop, and judges what its death means."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from heavylift.core import codec
from heavylift.core.job import Progress
from heavylift.core.outcome import NEIGHBOUR_STOPPED, NOT_ALONE, Interrupted, Usage
from heavylift.executor import Checkpoint, LogLines, StopReason
from heavylift.executors import looking, processes, stacks, verdicts
from heavylift.executors.host_link import LEFT_UNFIT, HostLink, Keeper, Phase
from heavylift.executors.meter import FAR, Excess
from heavylift.executors.verdicts import Stop
from heavylift.executors.wire import LAST, NUMBERED, Kind, send_packet, stop_packet

if TYPE_CHECKING:
    from heavylift.executors.link import Ending
    from heavylift.executors.verdicts import Run

ASK_AGAIN = 0.02
"""Seconds until a stop that the host had no room to hear is said again."""


class SharedHostProcess(HostLink):
    """A host that runs many jobs side by side. `alone`: it is one job's, and goes with it."""

    kind = "shared"

    def __init__(self, keeper: Keeper, temporary: str, *, alone: bool = False) -> None:
        super().__init__(keeper, temporary)
        self.alone = alone
        self._sent = 0
        self._busy_since = 0.0
        self._places: dict[int, int] = {}
        """By the number of a run its place among the requests that were sent."""

    def send(self, run: Run) -> bool:
        """Give it a run; False when its socket is full."""
        if not super().send(run):
            return False
        if len(self.running) == 1:
            self._busy_since = time.monotonic()
        self._sent += 1
        self._places[run.number] = self._sent
        if run.job.options.timeout is not None:
            self._time(run, run.job.options.timeout)
        return True

    def leave(self, why: str) -> None:
        """See `HostLink.leave`: what it has begun can be stopped as before, so its socket stays open until the end."""
        if self.phase in (Phase.STARTING, Phase.READY):
            self._retire(why)
            back = self.take_back()
            self._close_if_done()
            self._keeper.host_leaving(self)
            self._keeper.take_back(back)

    def _close_if_done(self) -> None:
        if self.phase is Phase.LEAVING and not self.running:
            self._requests.close()

    def take_back(self) -> list[Run]:
        """See `HostLink.take_back`."""
        taken = super().take_back()
        for run in taken:
            del self._places[run.number]
            if run.timer is not None:
                run.timer.cancel()
        return taken

    def stop(self, run: Run, reason: StopReason, grace: float, *, force: bool) -> None:
        """Ask the run to stop, and kill the host when the grace is over: the other runs go back at no cost."""
        now = self._loop.time()
        deadline = now if force else now + grace
        if run.stop is not None:
            run.stop.deadline = min(run.stop.deadline, deadline)
        else:
            run.stop = Stop(reason, deadline, now)
        self._ask(run, said=False)

    @property
    def silent_for(self) -> float:
        """Seconds since its loop came round, while it had something to run."""
        if not self.running or self.phase is not Phase.READY:
            return 0.0
        return time.monotonic() - max(self._page.beat_at, self._busy_since)

    @property
    def stepping(self) -> Run | None:
        """The run that keeps the loop busy now, as far as it is known."""
        return self.running.get(self._page.stepping)

    def count_processes(self, most: int) -> None:
        """See whether more processes are below it than may be. A run that is not alone in it may be innocent."""
        below = processes.descendants(self.pid, FAR * most + 1)
        if len(below) <= most or (count := processes.living(below)) <= most:
            return
        begun = self._begun()
        if len(begun) != 1:
            self.kill(f"there are {count} processes below it, {most} at most may be", trees=True)
            return
        excess = begun[0].excess = Excess(StopReason.PROCESSES, count, most)
        self.stop(begun[0], excess.reason, begun[0].job.options.grace, force=excess.far)

    def _begun(self) -> list[Run]:
        """The runs that the host has received."""
        return [run for run in self.running.values() if self._places[run.number] <= self._page.received]

    def stack(self) -> str:
        """Where the loop was when it was asked for, the most recent call last, without the host's own code."""
        return looking.of_main_thread(stacks.dump(self._stacks))

    def _has_begun(self, run: Run) -> bool:
        return self._page.received >= self._places[run.number]

    def _of_dump(self, run: Run, dump: str) -> str:
        """A thread's own; else the loop's, whose step it may be, or which keeps it waiting."""
        if run.job.options.run_in == "thread":
            return looking.of_thread(dump, self._page.thread_of(run.number))
        steps = self._page.stepping
        other = "" if steps in (0, run.number) else "Another job keeps its loop busy:\n"
        return other + looking.of_main_thread(dump)

    def _ask(self, run: Run, *, said: bool) -> None:
        """Tell the host, and come again at the deadline."""
        stop, now = run.stop, self._loop.time()
        if run.timer is not None:
            run.timer.cancel()
        if stop is None or run.number not in self.running or self.phase is Phase.GONE:
            return
        if now >= stop.deadline:
            answered = self.read()  # an answer that is there already wins
            if run.number in self.running:
                run.killed = True
                self.kill(stop.meaning, run, trees=run.excess is not None)
            if answered:
                self._keeper.host_free(self)
            return
        if not said:
            said = self._say_stop(run)
        again = stop.deadline if said else min(now + ASK_AGAIN, stop.deadline)
        run.timer = self._loop.call_at(again, lambda: self._ask(run, said=said))

    def _say_stop(self, run: Run) -> bool:
        try:
            send_packet(self._requests, stop_packet(run.number))
        except BlockingIOError:
            return False
        return True

    def _time(self, run: Run, after: float) -> None:
        run.timer = self._loop.call_later(after, self._late, run)

    def _late(self, run: Run) -> None:
        """The timeout counts from the start, and a request that the host did not take has not started."""
        if run.number not in self.running or run.stop is not None or run.job.options.timeout is None:
            return
        if self._page.received < self._places[run.number]:
            self._time(run, run.job.options.timeout)
        else:
            self._keeper.stop_run(run, StopReason.TIMEOUT, run.job.options.grace)

    def _answered(self, run: Run, flags: int) -> None:
        del self._places[run.number]
        if flags & LAST or self.alone:
            self.leave("it was for one job alone" if self.alone else LEFT_UNFIT)
        self._close_if_done()

    def _reported(self, run: Run, kind: int, body: bytes) -> None:
        if kind == Kind.PROGRESS:
            run.report(run.job, Progress(**codec.decode(body[NUMBERED.size :])))
        elif kind == Kind.CHECKPOINT:
            run.report(run.job, Checkpoint(body))
        else:
            dropped = NUMBERED.unpack_from(body, NUMBERED.size)[0]
            lines = body[2 * NUMBERED.size :]
            new = [codec.decode(line) for line in lines.split(b"\n")] if lines else []
            run.report(run.job, LogLines(new, len(lines), dropped))

    def _judge(self, ending: Ending, back: list[Run]) -> None:
        """One that was killed for a stop is over. Of the others nobody knows who killed the host, if nobody here did:
        only one that was alone in it is charged.
        """
        begun = {run.number for run in self._begun()}
        was_killed = any(run.killed for run in self.running.values())
        for run in list(self.running.values()):
            usage = Usage(wall=max(0.0, time.monotonic() - run.accepted_at))
            if run.killed:
                self._keeper.finish(run, verdicts.stopped(run, started=run.number in begun, usage=usage))
            elif run.number not in begun:
                run.host = None
                back.append(run)
            elif was_killed:
                self._keeper.finish(run, Interrupted(NEIGHBOUR_STOPPED, usage=usage))
            elif len(begun) > 1:
                self._keeper.finish(run, Interrupted(NOT_ALONE, suspect=True, usage=usage))
            else:
                self._keeper.finish(run, self._crashed(ending, usage))
