"""A stop that comes while a thread of the job reports is raised in the main thread, not there."""

import socket
import threading

import pytest

from heavylift.core.errors import Cancelled
from heavylift.executors.reporting import HostReporter, Wire
from heavylift.executors.stopping import Guard
from heavylift.executors.wire import Page


def test_a_report_of_another_thread_raises_nothing_there():
    page, _memory = Page.create()
    here, there = socket.socketpair()
    guard = Guard(page)
    reporter = HostReporter(Wire(here), page, guard, 2**20)
    page.start(7, 0.0, 0.0)
    reporter.begin(7, 0)
    guard.run = page.stop = 7
    guard.pending = True  # its signal came while the main thread wrote a report
    raised = []

    def report():
        try:
            reporter.log("info", "from a thread")
        except Cancelled as error:
            raised.append(error)

    thread = threading.Thread(target=report)
    thread.start()
    thread.join()
    assert raised == []
    with pytest.raises(Cancelled):
        reporter.log("info", "from the main one")
    here.close()
    there.close()
    page.close()
