"""The nanny: a process that has imported the application once, and forks, watches and reaps the hosts.

It is single-threaded and speaks JSON messages with its worker: it says hello (or why it cannot), forks a host for each
`fork`, and reports each end. When the worker is gone it kills everything and goes.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from heavylift.core.logline import json_handler
from heavylift.core.options import to_data
from heavylift.executors import host, processes, spawned
from heavylift.executors.wire import receive_message, send_message

SCRIPT = "__heavylift_main__"
"""The name under which an application that is a file is imported, so that `if __name__ == "__main__"` does not run."""
PATIENCE = 1.0
"""Seconds that the report of a host's end may wait for what the host left running to be gone."""


class Nanny:
    """The process's state: what it forked and has not reaped."""

    def __init__(self, control: socket.socket, application: Any, given: Mapping[str, Any]) -> None:
        self._control = control
        self._application = application
        self._given = given
        self._hosts: dict[int, int] = {}  # pid -> the worker's number for it
        self._ended: list[tuple[float, dict[str, Any]]] = []
        self._strays: set[int] = set()
        self._own_children = processes.children()  # what the import started
        self._forks = not threads()

    def hello(self, warnings: list[str]) -> dict[str, Any]:
        """What the worker has to know of the application."""
        application = self._application
        return {
            "kind": "hello",
            "tasks": {name: {"options": to_data(task.options)} for name, task in application.registry.items()},
            "store": application.store_url,
            "settings": application.given_settings,
            "warnings": warnings,
            "forks": self._forks,
        }

    def serve(self) -> NoReturn:
        """Until the worker's end of the control socket is closed."""
        wake, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, host.let_pass)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll(10 if self._ended or self._strays else None):
                if descriptor == wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake, 4096)
                else:
                    self._hear([wake, wake_in])
            self._reap()

    def _hear(self, close_in_child: list[int]) -> None:
        received = receive_message(self._control)
        if received is None:
            processes.kill_children(PATIENCE)
            os._exit(0)
        order, descriptors = received
        try:
            pid = self._start(order, descriptors, close_in_child)
        except OSError as error:
            self._say({"kind": "not-forked", "host": order["host"], "why": str(error)})
        else:
            self._hosts[pid] = order["host"]
            # Nobody but this thread reaps, so the pid cannot have been given to another process yet.
            pidfd = os.pidfd_open(pid)
            self._say({"kind": "forked", "host": order["host"], "pid": pid}, pidfd)
            os.close(pidfd)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _start(self, order: dict[str, Any], descriptors: list[int], close_in_child: list[int]) -> int:
        if not self._forks:
            return spawned.start(self._given, order["config"], descriptors)
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            for descriptor in close_in_child:
                os.close(descriptor)
            application = self._application
            hooks, overrides = application.host_start_hooks, application.dependency_overrides
            host.main(application.registry, hooks, descriptors, order["config"], overrides)
        except BaseException:  # noqa: BLE001  nothing may come back into the nanny's own loop
            traceback.print_exc()
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            number = self._hosts.pop(pid, None)
            if number is not None:
                cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
                end = {"kind": "ended", "host": number, "status": status, "cpu": cpu, "peak": peak}
                self._ended.append((time.monotonic(), end))
        if self._ended or self._strays:
            self._clean_up()

    def _clean_up(self) -> None:
        """Whoever was re-parented to us belonged to a host that is dead: kill it, and only then report that end."""
        self._strays = strays = processes.children() - self._hosts.keys() - self._own_children
        processes.kill_trees(strays)
        while self._ended and (not strays or time.monotonic() - self._ended[0][0] > PATIENCE):
            self._say(self._ended.pop(0)[1])

    def _say(self, message: dict[str, Any], *descriptors: int) -> None:
        with contextlib.suppress(OSError):  # the worker is gone: we hear of it in a moment
            send_message(self._control, message, descriptors)


def main(control: int) -> NoReturn:
    """Be the nanny of the worker at the other end of the socket `control`."""
    os.set_inheritable(control, False)  # noqa: FBT003  the function's only form
    connection = socket.socket(fileno=control)
    processes.set_name("heavylift-nanny")
    processes.adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, host.let_pass)
    received = receive_message(connection)
    if received is None:
        os._exit(0)
    given, (alive,) = received
    if given["log_json"]:
        logging.lastResort = json_handler()
    processes.die_when_closed(alive)  # an import may take for ever, and hear nothing
    sockets = set(open_sockets())
    try:
        application = load(given)
    except BaseException as error:  # noqa: BLE001  an application may raise anything when imported
        failure = {"kind": "failed", "why": why(error, given)}
        send_message(connection, failure)
        os._exit(1)
    os.close(alive)
    nanny = Nanny(connection, application, given)
    warnings = prepare(application) + [
        f"The import of the application opened a connection ({name}), which every host inherits;"
        " open it in a start hook instead."
        for name in open_sockets()
        if name not in sockets
    ]
    processes.settle_memory()
    with contextlib.suppress(OSError):  # a worker that was stopped meanwhile is gone, which is seen at once
        send_message(connection, nanny.hello(warnings))
    nanny.serve()


def load(given: Mapping[str, Any]) -> Any:
    """Import the application as `Application` describes it; raises whatever the import raises."""
    for entry in reversed(given["path"]):
        sys.path.insert(0, entry)
    target = given["target"]
    module: Any = _load_file(target) if target.endswith(".py") else importlib.import_module(target)
    for name in given["imports"]:
        importlib.import_module(name)
    found = module
    for part in given["attribute"].split("."):
        if not hasattr(found, part):
            message = f"{target} has no attribute {given['attribute']!r}"
            raise NotAnApplication(message)
        found = getattr(found, part)
    if not all(hasattr(found, name) for name in _PARTS):
        message = f"{target}:{given['attribute']} is a {type(found).__name__}, not a Heavylift"
        raise NotAnApplication(message)
    if given["store"] is not None:
        found.override(store=given["store"])  # what jobs submit goes to where they came from
    return found


_PARTS = ("registry", "store_url", "given_settings", "host_start_hooks", "dependency_overrides")


class NotAnApplication(Exception):
    """What was found is no Heavylift object."""


def why(error: BaseException, given: Mapping[str, Any]) -> str:
    """Why the application cannot be used, for people."""
    where = f"{given['target']}:{given['attribute']}"
    if isinstance(error, NotAnApplication):
        return f"The application {where} cannot be used: {error}."
    text = "".join(traceback.format_exception(error)).rstrip()
    looked = "\n".join(f"  {entry}" for entry in sys.path)
    return f"The application {where} cannot be imported:\n{text}\nIt was looked for in:\n{looked}"


def prepare(application: Any) -> list[str]:
    """Build what every host needs, so that they share it; the warnings that came up."""
    warnings = []
    for task in application.registry.values():
        try:
            _ = task.model, task.result_type
        except Exception as error:  # noqa: BLE001  an annotation that cannot be resolved must not stop the other tasks
            warnings.append(f"Task {task.name!r} cannot be run: {type(error).__name__}: {error}")
    if any(task.options.run_in != "process" for task in application.registry.values()):
        importlib.import_module("heavylift.executors.shared")  # once, for all of them
    names = threads()
    if names:
        warnings.append(
            f"The import of the application started threads ({', '.join(names)}), and a process with threads cannot be"
            " forked safely: hosts start afresh, which takes more time and memory. Start them in a start hook instead."
        )
    return warnings


def threads() -> list[str]:
    """The names of the Python threads beside the main one."""
    return sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())


def open_sockets() -> Iterator[str]:
    """The open sockets of this process, as text: where they lead to as far as that can be told."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            name = str(entry.readlink())
            if name.startswith("socket:"):
                yield _peer(int(entry.name)) or name


def _peer(descriptor: int) -> str:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        address = copy.getpeername()
        return f"{copy.family.name} to {address}" if address else ""
    return ""


def _load_file(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(SCRIPT, Path(path))
    if spec is None or spec.loader is None:
        message = f"{path} is no Python file"
        raise NotAnApplication(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT] = module
    spec.loader.exec_module(module)
    return module
