"""The guard: a stop is raised where the task's code can clean up, whatever else comes at that moment."""

import os
import signal
import sys
import threading
import time

import pytest

from heavylift.core.errors import Cancelled
from heavylift.executors.stopping import Guard
from heavylift.executors.wire import STOP_SIGNAL, Page

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
