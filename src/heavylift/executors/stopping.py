"""In a host: the news that the running job is to stop becomes a Cancelled in its code, there and nowhere else."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from opcode import opname
from types import CodeType, FrameType, FunctionType
from typing import Any

from heavylift.core.errors import Cancelled
from heavylift.executors.wire import STOP_SIGNAL, Page


class Guard:
    """Raises Cancelled in task code, once per run, when the page says that this very run is to stop.

    The worker sends its signal again and again until the run is over, so a signal that comes at a moment when nothing
    may be raised is simply let pass. A Cancelled that Python swallowed (raised in a `__del__`, say, it is reported as
    unraisable) is raised again, at the next instruction of what goes on; one that the task's code caught is not.
    """

    def __init__(self, page: Page) -> None:
        self.run = 0
        """The run whose task code runs now; 0: none does."""
        self.pending = False
        """A stop came while a report was being written; whoever wrote it calls `settle`."""
        self.shields = 0
        """While this is not 0, nothing is raised; who makes it 0 again calls `settle`."""
        self._page = page
        self._raised: Cancelled | None = None
        self._raised_in = 0
        self._trap: Trap | None = None
        self._runner: set[CodeType] = set()
        self._protected: set[CodeType] = set()

    def install(self, runner: set[CodeType], protected: set[CodeType]) -> None:
        """Listen. `runner` is our own code that calls the user's, tasks and providers: while its frame is the innermost
        one, that has not begun or is over. Nothing is raised anywhere below `protected` code.
        """
        # On a busy machine a second signal may meet the handler of the first one, which knows where to raise.
        self._runner, self._protected = runner, protected | _own_code()
        signal.signal(STOP_SIGNAL, self._on_signal)
        sys.unraisablehook = self._on_unraisable

    @property
    def asked(self) -> bool:
        """Whether the run whose task code runs now is to stop."""
        return self.run != 0 and self._page.stop == self.run

    def is_stopped(self, run: int) -> bool:
        """Whether this run is to stop, also when its code is over and its clean-ups run."""
        return run != 0 and self._page.stop == run

    def told(self) -> None:
        """The task's code asked, and knows: nothing is to be raised in this run."""
        self._raised_in = self.run

    def settle(self) -> None:
        """Raise what `pending` stands for, if it is still due."""
        self.pending = False
        if self.asked and self._raised_in != self.run and not self.shields:
            self._raise()

    def forget(self) -> None:
        """The run is over."""
        self.run = 0
        self._remove_trap()
        self.shields = 0
        self.pending = False
        self._raised = None

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        if not self.asked or self._page.started != self.run or self._raised_in == self.run or self.shields:
            return
        if frame is None or frame.f_code in self._runner:
            return
        if self._is_protected(frame):
            self.pending = True
        elif "JUMP" in opname[frame.f_code.co_code[frame.f_lasti]]:
            # Raised between a loop's jump and its first instruction, it would count as raised before the loop: where
            # that is the first thing in a `try`, neither `except` nor `finally` would see it.
            self._raise_next_in(frame)
        else:
            self._raise()

    def _is_protected(self, frame: FrameType) -> bool:
        below: FrameType | None = frame
        while below is not None and below.f_code not in self._runner:
            if below.f_code in self._protected:
                return True
            below = below.f_back
        return False

    def _raise(self) -> None:
        self._raised_in = self.run
        self._raised = Cancelled("the job was asked to stop")
        raise self._raised

    def _on_unraisable(self, unraisable: Any) -> None:
        if self._raised is not None and unraisable.exc_value is self._raised:
            self._raised_in = 0
            # In the code that dropped the object, and goes on. To wait for another signal is of little use where nearly
            # all the time is spent in such methods.
            self._raise_next_in(sys._getframe(1))  # noqa: SLF001
            return
        sys.__unraisablehook__(unraisable)

    def _raise_next_in(self, frame: FrameType) -> None:
        """Raise at this frame's next instruction."""
        if self.asked and not self.shields and frame.f_code not in self._runner and not self._is_protected(frame):
            self._remove_trap()
            self._trap = Trap(frame, self._sprung)

    def _sprung(self) -> None:
        self._trap = None
        if self.asked and self._raised_in != self.run and not self.shields:
            self._raise()

    def _remove_trap(self) -> None:
        if self._trap is not None:
            self._trap.remove()
            self._trap = None


class Trap:
    """Calls `spring` once, at the next instruction that a frame of this thread runs; what it raises is raised there."""

    def __init__(self, frame: FrameType, spring: Callable[[], None]) -> None:
        self._frame, self._spring, self._before = frame, spring, sys.gettrace()
        frame.f_trace = self._on_instruction
        frame.f_trace_opcodes = True  # a loop of one instruction has no line events
        sys.settrace(_trace_no_call)

    def remove(self) -> None:
        """Do not call it any more; in the thread that made this."""
        self._frame.f_trace, self._frame.f_trace_opcodes = None, False
        sys.settrace(self._before)

    def _on_instruction(self, _frame: FrameType, _event: str, _argument: object) -> None:
        self.remove()
        self._spring()


def was_led_to(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether this exception is one of that kind, or was led to by one."""
    return any(isinstance(cause, kind) for cause in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """This exception, and all that led to it."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        yield one
        seen.add(id(one))
        todo += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


def _own_code() -> set[CodeType]:
    members = [member.fget if isinstance(member, property) else member for member in vars(Guard).values()]
    return {member.__code__ for member in (*members, _trace_no_call) if isinstance(member, FunctionType)}


def _trace_no_call(_frame: FrameType, _event: str, _argument: object) -> None:
    """The interpreter asks it at each call whether to trace there."""
