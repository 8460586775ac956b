"""In a host: where the code of a run is, written down between two instructions of the main thread when the worker asks.

Nothing is sent, and no lock is taken: whatever code the signal meets, also our own that sends frames, goes on as if
nothing had happened.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from heavylift.executors.hygiene import OWN_THREADS
from heavylift.executors.wire import LOOK_SIGNAL, NUDGE_SIGNAL, SIGHTING, SIGHTING_AT, SIGHTING_ROOM, STACK_SIGNAL, Page

MOST = 20
"""Threads, or tasks of a loop, that are described beside the run's own."""
_OWN_FOLDER = str(Path(__file__).parent)
_COMMAND = str(Path(__file__).with_name("command.py"))

Describe = Callable[[int, FrameType | None], str]
"""Says where a run (by its number) is; the frame is the main thread's."""


class Sightings:
    """Answers the worker: with what `describe` says, and when the interpreter does not come to that, with what the
    signal's handler in C writes, of the main thread alone or of all.

    That handler reads the frames of other threads while they may run on, so it is to be asked for them only when the
    interpreter does not answer.
    """

    def __init__(self, page: Page, file: int, describe: Describe) -> None:
        self._page, self._file, self._describe = page, file, describe

    def install(self, *, all_threads: bool) -> None:
        """Listen."""
        faulthandler.register(STACK_SIGNAL, self._file, all_threads=all_threads, chain=False)
        for number in (LOOK_SIGNAL, NUDGE_SIGNAL):
            signal.signal(number, self._on_signal)
        # Calls into the kernel that code in C has made are begun anew, as if there had been no signal.
        signal.siginterrupt(LOOK_SIGNAL, False)  # noqa: FBT003  the function's only form

    def code(self) -> set[CodeType]:
        """The code below which no stop must be raised: it would be lost."""
        return {Sightings._on_signal.__code__}

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        try:
            serial, run = self._page.question
            text = self._describe(run, frame).encode("utf-8", "backslashreplace")[-SIGHTING_ROOM:]
            os.pwrite(self._file, SIGHTING.pack(serial, len(text)) + text, SIGHTING_AT)
        except BaseException:  # noqa: BLE001  no memory, no stack left, no descriptor: the job must not hear of that
            return  # the worker asks the handler in C


def of_frames(innermost: FrameType | None, is_border: Callable[[FrameType], bool]) -> str:
    """The calls that the user's code has made, the most recent one last: those inside of `is_border`."""
    frames: list[FrameType] = []
    frame = innermost
    while frame is not None and not is_border(frame):
        frames.append(frame)
        frame = frame.f_back
    if frame is None:
        return ""  # the user's code does not run
    return _text((one, one.f_lineno) for one in reversed(frames))


def of_awaits(awaitable: Any) -> str:
    """Where a coroutine waits: its own frame, that of what it awaits, and so on."""
    return _text((frame, frame.f_lineno) for frame in _awaiting(awaitable))


def other_threads(spare: int) -> str:
    """Where the threads are that the job has started; `spare` is the one that is described already."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  there is no other way to ask
        name = names.get(ident, "?")
        if ident != spare and not name.startswith(OWN_THREADS):
            calls = [one for one in traceback.walk_stack(frame) if not one[0].f_code.co_name.startswith("_bootstrap")]
            stack = _text(reversed(calls))
            parts.append(f"\nThread {name}:\n{stack}")
    return some(parts)


def some(parts: list[str]) -> str:
    """The first of many descriptions, and how many there are besides."""
    more = f"\n… and {len(parts) - MOST} more\n" if len(parts) > MOST else ""
    return "".join(parts[:MOST]) + more


def _awaiting(awaitable: Any) -> Iterator[FrameType]:
    while awaitable is not None:
        for kind, following in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame = getattr(awaitable, f"{kind}_frame", None)
            if frame is not None:
                yield frame
                awaitable = getattr(awaitable, following)
                break
        else:
            return


def _text(frames: Any) -> str:
    """Frames with their line numbers as text, without our own that stand before the user's. The code of a command is
    ours; what runs is its program.
    """
    summary = traceback.StackSummary.extract(frames)
    if any(one.filename == _COMMAND for one in summary):
        return ""
    first = next((at for at, one in enumerate(summary) if not one.filename.startswith(_OWN_FOLDER)), len(summary))
    return "".join(traceback.StackSummary.from_list(summary[first:]).format())
