"""In a shared host: what the running jobs report through their Contexts, each by itself."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from heavylift.core import codec
from heavylift.executors.reporting import Wire, line_of
from heavylift.executors.turns import BellTurn, SharedTurns, wish
from heavylift.executors.wire import NUMBERED, SPACING, Kind
from heavylift.reporter import NOT_HEARD, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from heavylift.core.limits import Rate
    from heavylift.executors.shared_runs import LoopRun, ThreadRun

HANDOVER = 0.02
"""Seconds between two looks whether a report is sent."""
HEARD, KEPT = 0.5, 2.0
"""Seconds that a report and a checkpoint wait at most until they are sent: on a busy machine the sender may have no CPU
for a while.
"""


current: ContextVar[SharedReporter | None] = ContextVar("heavylift_reporter", default=None)
"""The reporter of the run whose code runs here."""


class Sender:
    """Sends what reporters hold, from a thread of its own: code that is stopped must not tear a frame, and a loop that
    is blocked must not keep the news of it.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.turns = SharedTurns(wire.stream)
        self.lock = threading.Lock()
        self._waiting: SimpleQueue[SharedReporter] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="heavylift reports", daemon=True)
            self._thread.start()
            self.turns.start()

    def add(self, reporter: SharedReporter) -> None:
        """Send what this one holds, 50 ms after its last news at the earliest, or now if it is `urgent`."""
        self._waiting.put(reporter)  # one call into C, which no Cancelled can interrupt half-way

    def _run(self) -> None:
        later: list[tuple[float, int, SharedReporter]] = []
        while True:
            with suppress(Empty):
                reporter = self._waiting.get(timeout=max(0.0, later[0][0] - time.monotonic()) if later else None)
                due = float("-inf") if reporter.urgent else reporter.sent_at + SPACING
                heapq.heappush(later, (due, id(reporter), reporter))
            while later and later[0][0] <= time.monotonic():
                heapq.heappop(later)[2].flush()


class SharedReporter:
    """A Context's reporter for one run of many: all that its code says is sent in order, and before the answer.

    Code that may be stopped at any instruction only appends to a deque, which is one call; the rest is the sender's.
    """

    def __init__(self, sender: Sender, run: LoopRun | ThreadRun, log_left: int) -> None:
        self._sender, self._of, self._run, self._log_left = sender, run, run.number, log_left
        self._said: deque[tuple[Kind, bytes]] = deque()
        self._waits = self._over = False
        self._sent = threading.Lock()
        self._sent.acquire()
        self.sent_at = float("-inf")
        self.urgent = False
        """It holds a checkpoint, or what its code waits for."""
        self._lines_sent = self._numbers = self._dropped = 0
        self._saved = self._kept = 0
        """Checkpoints that the code has saved, and those that were sent."""
        self._flushes = 0
        """How often the sender has sent what there was."""
        self._turns: set[BellTurn] = set()
        """Those that the code waits for."""

    @property
    def active(self) -> bool:
        """Whether what is said here is heard."""
        return not self._over

    def progress(self, value: dict[str, Any]) -> None:
        """See `context.Reporter`."""
        self._say(Kind.PROGRESS, codec.encode(value))

    def checkpoint(self, value: bytes) -> None:
        """See `context.Reporter`. It is on its way when this returns: whatever comes next may kill the host."""
        if self._over:
            return
        self._saved += 1
        number = self._saved
        self._said.append((Kind.CHECKPOINT, value))
        self.urgent = True
        self._sender.add(self)
        self._wait(lambda: self._kept >= number, KEPT)

    def log(self, level: str, message: str, extra: Mapping[str, Any] | None = None) -> None:
        """See `context.Reporter`."""
        line = line_of(level, message, extra)
        if len(line) > self._log_left:
            self._log_left = 0  # a shorter line that would still fit must not follow a gap
            self._dropped += 1
        else:
            self._log_left -= len(line)
            self._say(Kind.LOG, line)

    def reserve(self, rate: Rate) -> BellTurn:
        """See `context.Reporter`."""
        if self._over:
            raise RuntimeError(NOT_HEARD)
        turns = self._sender.turns
        turn = BellTurn(PATIENCE, lambda turn: self._forget(turn, number), self._of.loop)
        number = turns.add(turn)
        self._turns.add(turn)
        self._said.append((Kind.RESERVE, wish(number, rate)))
        self.urgent = True
        self._sender.add(self)
        return turn

    def _forget(self, turn: BellTurn, number: int) -> None:
        self._turns.discard(turn)
        self._sender.turns.forget(number)

    def stopped(self) -> None:
        """The job is to stop: who waits for a turn has to hear of that."""
        for turn in list(self._turns):
            turn.stop()

    def cancelled(self) -> bool:
        """See `context.Reporter`. Code that got the news here ends in its own way: nothing is raised in it any more."""
        return self._of.known()

    def shield(self) -> None:
        """See `context.Reporter`."""
        self._of.shield()

    def unshield(self, name: str, *, quiet: bool) -> None:
        """See `context.Reporter`."""
        if self._of.asked and not self._of.raised:
            self.log("info", f"A stop waited for the end of {name!r}.")
        self._of.unshield(quiet=quiet)

    def flush(self) -> None:
        """Send what was said until now."""
        with self._sender.lock:
            if not self._over:
                self._send()
        self._flushes += 1
        with suppress(RuntimeError):  # nobody waited for the last one either
            self._sent.release()

    def end(self) -> None:
        """Send what was said until now: the answer comes next, and nothing more is heard."""
        with self._sender.lock:
            self._send()
            if self._dropped:
                head = NUMBERED.pack(self._lines_sent) + NUMBERED.pack(self._dropped)
                self._sender.wire.send(self._run, Kind.LOG, head)
            self._over = True

    def abandon(self) -> None:
        """In a child after a fork, which has no sender: say nothing more."""
        self._over = True

    def _say(self, kind: Kind, data: bytes) -> None:
        if self._over:
            return
        self._said.append((kind, data))
        if not self._waits:
            self._waits, flushes = True, self._flushes
            self._sender.add(self)
            if time.monotonic() - self.sent_at >= SPACING:
                # The sender needs the interpreter for a moment: what comes next here may keep it for long.
                self._wait(lambda: self._flushes > flushes, HEARD)

    def _wait(self, is_sent: Callable[[], bool], longest: float) -> None:
        until = time.monotonic() + longest
        while not is_sent() and time.monotonic() < until and not self._over:
            self._sent.acquire(timeout=HANDOVER)

    def _send(self) -> None:
        """Of progress without anything else in between only the last is sent; lines go together."""
        self.sent_at = time.monotonic()
        self._waits = self.urgent = False  # before the look: what is said from now on is seen by it, or sent by another
        said, lines, progress = self._said, list[bytes](), b""
        while said:
            kind, data = said.popleft()
            if kind is not Kind.LOG:
                self._send_lines(lines)
            if kind is not Kind.PROGRESS:
                self._send_progress(progress)
                progress = b""
            if kind is Kind.PROGRESS:
                progress = data
            elif kind is Kind.LOG:
                lines.append(data)
            else:
                self._sender.wire.send(self._run, kind, data)
                self._kept += kind is Kind.CHECKPOINT
        self._send_lines(lines)
        self._send_progress(progress)

    def _send_lines(self, lines: list[bytes]) -> None:
        if lines:
            head = NUMBERED.pack(self._lines_sent) + NUMBERED.pack(0)
            self._sender.wire.send(self._run, Kind.LOG, head + b"\n".join(lines))
            self._lines_sent += len(lines)
            lines.clear()

    def _send_progress(self, progress: bytes) -> None:
        if progress:
            self._numbers += 1
            self._sender.wire.send(self._run, Kind.PROGRESS, NUMBERED.pack(self._numbers) + progress)
