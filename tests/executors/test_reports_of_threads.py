"""Reports of a job's threads, of its children, and in the middle of other reports."""

import json
import os
import signal
import socket
import threading
from types import SimpleNamespace

import pytest

from heavylift.core.errors import Cancelled
from heavylift.executors.reporting import HostReporter, Wire
from heavylift.executors.shared_reporting import Sender, SharedReporter
from heavylift.executors.stopping import Guard
from heavylift.executors.wire import HEADER, NUMBERED, Kind, Page


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


def test_a_report_of_a_shared_host_is_on_its_way_when_its_code_goes_on():
    """On a busy machine the thread that sends may get no CPU for a while; what the code does next may keep it."""
    here, there = socket.socketpair()
    sender = Sender(Wire(here))
    reporter = SharedReporter(sender, SimpleNamespace(number=7, loop=None), 2**20)
    sender.start()
    sender.lock.acquire()
    threading.Timer(0.2, sender.lock.release).start()
    reporter.log("info", "what comes next holds the interpreter")
    there.setblocking(False)
    assert lines_of(there) == [(0, ["what comes next holds the interpreter"])]
    there.close()


class Interrupted(socket.socket):
    """A signal comes at the end of the next `send`, before its caller goes on."""

    handler = None

    def send(self, data):
        sent = super().send(data)
        handler, self.handler = self.handler, None
        if handler is not None:
            handler()
        return sent


def lines_of(stream):
    """The numbers and the lines of each frame that came."""
    found, data = [], stream.recv(2**20)
    while data:
        size, kind, _, _ = HEADER.unpack_from(data)
        body, data = data[HEADER.size : HEADER.size + size], data[HEADER.size + size :]
        assert kind == Kind.LOG
        messages = [json.loads(line)["message"] for line in body[2 * NUMBERED.size :].split(b"\n")]
        found.append((NUMBERED.unpack_from(body)[0], messages))
    return found


def test_a_signals_handler_reports_in_the_middle_of_a_report():
    page, _memory = Page.create()
    here, there = socket.socketpair()
    stream = Interrupted(fileno=here.detach())
    reporter = HostReporter(Wire(stream), page, Guard(page), 2**20)

    def report():
        reporter.begin(7, 0)
        stream.handler = lambda: reporter.log("info", "from the handler")
        reporter.log("info", "first")
        reporter.log("info", "second")
        reporter.end()

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert lines_of(there) == [(0, ["first"]), (1, ["from the handler"]), (2, ["second"])]
    stream.close()
    there.close()
    page.close()


def test_a_child_says_nothing_and_waits_for_nobody():
    """Another thread was in the middle of a report when this one forked."""
    page, _memory = Page.create()
    here, there = socket.socketpair()
    stream = Interrupted(fileno=here.detach())
    reporter = HostReporter(Wire(stream), page, Guard(page), 2**20)
    reporter.begin(7, 0)
    sending, go_on = threading.Event(), threading.Event()

    def hold():
        sending.set()
        go_on.wait(10)

    stream.handler = hold
    thread = threading.Thread(target=reporter.log, args=("info", "from a thread"))
    thread.start()
    assert sending.wait(10)
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        reporter.abandon()
        reporter.log("info", "from the child")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    go_on.set()
    thread.join()
    assert status == 0
    assert lines_of(there) == [(0, ["from a thread"])]
    stream.close()
    there.close()
    page.close()
