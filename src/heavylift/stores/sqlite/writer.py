"""The one writer of a process: everything that waits goes into one transaction, answered when it is durable.

Two ways to write. *In a thread*: the event loop never waits for the disk or for other processes; each step of a
statement may wait for the interpreter lock there, so operations are few statements of many rows. *Inline*: on the
loop's own thread, which saves two wake-ups of a thread for each call; the thread then only waits for turns. A web
process writes small operations inline while nobody else writes, those of one turn of the loop together, and all others
in the thread.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from heavylift.core.errors import HeavyliftError, StoreUnavailable
from heavylift.store import Clock
from heavylift.stores.sqlite.checkpoints import Checkpoints
from heavylift.stores.sqlite.connection import connect, is_busy, is_outside, never_wait, translated
from heavylift.stores.sqlite.transaction import OutOfDate, Transaction
from heavylift.stores.sqlite.turns import Turn
from heavylift.stores.sqlite.url import Location

log = logging.getLogger("heavylift.store")

Result = TypeVar("Result")
Operation = Callable[[Transaction], Result]

LARGEST = 200
"""Rows of one transaction, about; more wait for the next turn, so that others get theirs."""
SMALL = 8
"""Rows that are written at once, if the turn is free, where others go to the thread: less than a hop to it costs."""
PATIENCE = 5.0
"""Seconds after which a call fails that got no turn, or found the file locked by another program."""
PAUSE = 0.01
"""Seconds between two looks whether the other program is done."""


@dataclass(slots=True, eq=False)
class Call:
    """One operation that waits to be written. `rows`: about how many it writes."""

    operation: Operation[Any]
    rows: int
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    since: float = field(default_factory=time.monotonic)
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class Written:
    """One group of calls, and what became of it. `busy`: another program has the file locked."""

    group: list[Call] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    transaction: Transaction | None = None
    busy: bool = False


class Writer:
    """Owns the connection that writes, and the turn. `committed` is called after each commit, on the writing thread."""

    def __init__(
        self, location: Location, folder: str, clock: Clock, committed: Callable[[Transaction], None], *, inline: bool
    ) -> None:
        self._path = location.path
        self._clock = clock
        self._committed = committed
        waits_for_disk = location.synchronous == "full"
        self._inline = inline and not waits_for_disk
        self._small = 0 if waits_for_disk else SMALL
        self._connection = connect(location)
        self._connection.execute("PRAGMA wal_autocheckpoint=0").close()
        never_wait(self._connection)
        self._turn = Turn(folder)
        # Held from before the turn is taken until it is given back.
        self._busy = threading.Lock()
        self._waiting: deque[Call] = deque()
        self._gathered: deque[Call] = deque()
        self._changing = threading.Lock()
        self._signal: SimpleQueue[None] = SimpleQueue()
        self._closing = False
        self._checkpoints = Checkpoints(location, folder)
        self._thread = threading.Thread(target=self._run, name="heavylift store", daemon=True)
        self._thread.start()

    async def call(self, operation: Operation[Result], rows: int = 1) -> Result:
        """Write, and return what the operation returns; raises what it raises, and StoreUnavailable."""
        free = self._inline and rows <= LARGEST and not self._closing and not self._waiting
        if free and self._busy.acquire(blocking=False):
            answers = self._write_now([operation])
            if answers is not None:
                return cast("Result", _returned(answers[0]))
        loop = asyncio.get_running_loop()
        call = Call(operation, rows, loop.create_future(), loop)
        with self._changing:
            if self._closing:
                message = f"The store {self._path} is closed."
                raise StoreUnavailable(message)
            gathers = not self._inline and rows <= self._small and not self._waiting
            if gathers and (not self._gathered or self._gathered[0].loop is loop):
                self._gathered.append(call)
                if len(self._gathered) == 1:
                    loop.call_soon(self._write_gathered)
            else:
                self._wait([call])
        return cast("Result", _returned(await call.future))

    def close(self) -> None:
        """Write what waits, then let go of the file."""
        with self._changing:
            self._closing = True
            self._waiting += self._gathered
            self._gathered.clear()
        self._signal.put(None)
        self._thread.join(PATIENCE)
        self._checkpoints.close()
        written = self._busy.acquire(timeout=PATIENCE)  # the loop may be writing its last group
        with suppress(sqlite3.Error):
            self._connection.close()
        self._turn.close()
        if written:
            self._busy.release()

    def abandon(self) -> None:
        """In a child after a fork: let go of the turn, which it shares; touch nothing else of the parent's."""
        self._turn.close()
        self._checkpoints.abandon()

    # --- the way of one group -----------------------------------------------------------------------------------

    def _wait(self, calls: Sequence[Call]) -> None:
        """Leave calls to the thread, for as long as their patience lasts; `_changing` is held."""
        for call in calls:
            call.timer = call.loop.call_later(PATIENCE, self._give_up, call)
        self._waiting.extend(calls)
        self._signal.put(None)

    def _write_gathered(self) -> None:
        """Write what was asked for in this turn of the loop as one transaction, on its thread if nobody else writes."""
        with self._changing:
            if not self._gathered:
                return  # the store is being closed, and the thread has it
            free = not self._waiting and self._busy.acquire(blocking=False)
            group = _group(self._gathered)
            if self._gathered:
                self._gathered[0].loop.call_soon(self._write_gathered)
        answers = self._write_now([call.operation for call in group]) if free else None
        if answers is None:
            with self._changing:
                self._wait(group)
        else:
            _settle(list(zip(group, answers, strict=True)))

    def _write_now(self, operations: Sequence[Operation[Any]]) -> list[Any] | None:
        """Write on this thread if the turn is free at once, else None; `_busy` is held on entry, and given back."""
        try:
            if not self._turn.take_now():
                return None
            try:
                answers, transaction = self._answers(operations)
            finally:
                self._turn.give_back()
            self._done(transaction)
        except Exception as error:  # noqa: BLE001  whatever it is, the callers are told
            return None if is_busy(error) else [translated(error, self._path)] * len(operations)
        finally:
            self._busy.release()
        return answers

    def _run(self) -> None:
        """The thread: waits for calls and for turns, and writes unless that is done inline."""
        while True:
            self._signal.get()
            while self._waiting:
                if not self._take_turn():
                    time.sleep(PAUSE)
            if self._closing:
                return

    def _take_turn(self) -> bool:
        """Have one group of what waits written; False if another program has the file locked."""
        loop = self._waiting[0].loop
        written = Written()
        with self._busy:
            self._turn.take()
            try:
                if self._inline:
                    self._write_on(loop, written)
                else:
                    self._write_group(written)
            finally:
                self._turn.give_back()
            self._done(written.transaction)
        # The answers last: the loop wakes when this thread has nothing left to do, and needs no interpreter lock of it.
        self._deliver(written)
        return not written.busy

    def _write_on(self, loop: asyncio.AbstractEventLoop, written: Written) -> None:
        """Have the loop's thread write what waits, now that the turn is here."""
        done = threading.Event()

        def write() -> None:
            try:
                self._write_group(written)
            finally:
                done.set()

        try:
            loop.call_soon_threadsafe(write)
            while not done.wait(PATIENCE):
                if loop.is_closed():
                    break
        except RuntimeError:
            pass  # the loop is closed
        if not done.is_set():  # nobody waits for these answers any more
            with self._changing:
                self._waiting = deque(call for call in self._waiting if call.loop is not loop)

    def _write_group(self, written: Written) -> None:
        """Write some of what waits as one transaction."""
        with self._changing:
            group = written.group = _group(self._waiting)
        if not group:
            return
        try:
            written.answers, written.transaction = self._answers([call.operation for call in group])
        except Exception as error:  # noqa: BLE001  whatever it is, the callers are told
            written.busy = is_busy(error)
            if written.busy:
                self._wait_on(group)
            written.answers = [translated(error, self._path)] * len(group)

    def _wait_on(self, group: list[Call]) -> None:
        """Of a group that found the file locked, leave those whose patience is over; the others go on waiting."""
        oldest = time.monotonic() - PATIENCE
        patient = [call for call in group if call.since > oldest]
        group[:] = [call for call in group if call.since <= oldest]
        with self._changing:
            self._waiting.extendleft(reversed(patient))

    def _answers(self, operations: Sequence[Operation[Any]]) -> tuple[list[Any], Transaction | None]:
        """What the operations return or raise, written as one transaction; alone when one of them spoils it."""
        try:
            try:
                return self._transact(operations, careful=False)
            except OutOfDate:
                return self._transact(operations, careful=True)
        except sqlite3.Error as error:
            if is_outside(error):
                raise
            failure: Exception = error
        except Exception as error:  # noqa: BLE001  an operation's own mistake
            failure = error
        if len(operations) == 1:
            return [translated(failure, self._path)], None
        answers = []
        for operation in operations:
            answer, transaction = self._answers([operation])
            answers += answer
            self._done(transaction)
        return answers, None

    def _transact(self, operations: Sequence[Operation[Any]], *, careful: bool) -> tuple[list[Any], Transaction]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            transaction = Transaction(connection, self._clock.wall(), self._clock.monotonic(), careful)
            answers: list[Any] = []
            for operation in operations:
                try:
                    answers.append(operation(transaction))
                except HeavyliftError as error:  # an operation raises before it writes
                    answers.append(error)
            transaction.finish()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
        for call in transaction.after:
            call()
        return answers, transaction

    def _done(self, transaction: Transaction | None) -> None:
        if transaction is None:
            return
        try:
            self._checkpoints.count(self._connection.total_changes)
            self._committed(transaction)
        except Exception:  # what is written is written, and hints are no more than that
            log.exception("what follows a commit failed")

    def _deliver(self, written: Written) -> None:
        for loop in {call.loop for call in written.group}:
            pairs = [pair for pair in zip(written.group, written.answers, strict=True) if pair[0].loop is loop]
            with suppress(RuntimeError):  # the loop is closed: nobody waits there
                loop.call_soon_threadsafe(_settle, pairs)

    def _give_up(self, call: Call) -> None:
        """A call that still waits fails; nothing of it was written."""
        with self._changing:
            if call not in self._waiting:
                return
            self._waiting.remove(call)
        message = (
            f"The store {self._path} gave no turn to write within {PATIENCE:g} s: another process holds it."
            " Look for one that is stopped (state T in ps), and continue or end it."
        )
        _settle([(call, StoreUnavailable(message))])


def _group(calls: deque[Call]) -> list[Call]:
    """Take what goes into one transaction."""
    group, size = [], 0
    while calls and size < LARGEST:
        group.append(calls.popleft())
        size += group[-1].rows
    return group


def _settle(pairs: Sequence[tuple[Call, Any]]) -> None:
    """Give callers their answers, on their own loop's thread; one that left gets none."""
    for call, answer in pairs:
        if call.timer is not None:
            call.timer.cancel()
        if not call.future.done():
            call.future.set_result(answer)


def _returned(answer: Any) -> Any:
    """An answer, raised if it is an error."""
    if isinstance(answer, Exception):
        raise answer
    return answer
