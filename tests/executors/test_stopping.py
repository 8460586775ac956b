"""The guard: a stop is raised where the task's code can clean up, whatever else comes at that moment."""

import faulthandler
import os
import signal
import sys
import threading
import time

import pytest

from heavylift.core.errors import Cancelled
from heavylift.executors.sightings import Sightings
from heavylift.executors.stopping import Guard
from heavylift.executors.wire import (
    LOOK_SIGNAL,
    NUDGE_SIGNAL,
    SIGHTING,
    SIGHTING_AT,
    STACK_SIGNAL,
    STOP_SIGNAL,
    Page,
)

RUN = 7


class Signalling(Page):
    """Has a second signal come while the handler of the first one looks at the page."""

    again = 0

    @property
    def started(self):
        if self.again:
            self.again -= 1
            signal.raise_signal(STOP_SIGNAL)
        return super().started


@pytest.fixture
def page():
    before = signal.getsignal(STOP_SIGNAL), sys.unraisablehook
    page, memory = Signalling.create()
    os.close(memory)
    yield page
    signal.signal(STOP_SIGNAL, before[0])
    sys.unraisablehook = before[1]
    page.close()


def stop_when_at(page, frame, line):
    while frame.f_lineno != line:
        time.sleep(0)
    page.stop = RUN
    os.kill(os.getpid(), STOP_SIGNAL)


def spin(page, cleaned):
    frame = sys._getframe()
    line = frame.f_lineno + 3
    threading.Thread(target=stop_when_at, args=(page, frame, line), daemon=True).start()
    try:
        while True: pass  # fmt: skip  # noqa: E701  the loop is one instruction, and the first in the `try`
    finally:
        cleaned.append(True)


def run(guard, code, *arguments):
    guard.run = RUN
    code(*arguments)
    guard.run = 0


@pytest.mark.parametrize("again", [0, 1, 3])
def test_a_signal_that_meets_the_handler_of_another_costs_no_clean_up(page, again):
    guard = Guard(page)
    guard.install({run.__code__}, set())
    page.start(RUN, 0.0, 0.0)
    page.again, cleaned = again, []
    with pytest.raises(Cancelled):
        run(guard, spin, page, cleaned)
    guard.forget()
    assert cleaned == [True]
    assert page.again == 0


def look_and_stop(page, seen):
    """What the worker asks for while the run goes on; the stop comes in the middle of the answer."""
    page.ask(1, RUN)
    signal.raise_signal(LOOK_SIGNAL)
    seen.append(True)
    signal.raise_signal(STOP_SIGNAL)  # the worker says it again and again


def test_a_stop_that_comes_while_the_run_is_looked_at_is_not_lost(page, tmp_path):
    def describe(number, frame):
        page.stop = RUN
        signal.raise_signal(STOP_SIGNAL)
        return f"run {number} in {frame.f_code.co_name}"

    numbers = (LOOK_SIGNAL, NUDGE_SIGNAL)
    before = [signal.getsignal(number) for number in numbers]
    guard, seen = Guard(page), []
    with (tmp_path / "stacks").open("w+b") as file:
        sightings = Sightings(page, file.fileno(), describe)
        guard.install({run.__code__}, sightings.code())
        sightings.install(all_threads=False)
        try:
            page.start(RUN, 0.0, 0.0)
            with pytest.raises(Cancelled):
                run(guard, look_and_stop, page, seen)
            guard.forget()
        finally:
            faulthandler.unregister(STACK_SIGNAL)
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
        assert seen, "it was not raised in the handler"
        file.seek(SIGHTING_AT + SIGHTING.size)
        assert file.read() == b"run 7 in look_and_stop"


def test_a_look_that_fails_is_no_matter_of_the_jobs(page, tmp_path):
    def describe(_number, _frame):
        raise MemoryError

    before = signal.getsignal(LOOK_SIGNAL), signal.getsignal(NUDGE_SIGNAL)
    with (tmp_path / "stacks").open("w+b") as file:
        Sightings(page, file.fileno(), describe).install(all_threads=False)
        try:
            signal.raise_signal(LOOK_SIGNAL)
        finally:
            faulthandler.unregister(STACK_SIGNAL)
            signal.signal(LOOK_SIGNAL, before[0])
            signal.signal(NUDGE_SIGNAL, before[1])
        assert file.read() == b""
