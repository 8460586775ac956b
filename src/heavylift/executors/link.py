"""The worker's side of its nanny: starts it, asks it for hosts, hears of their ends, and replaces it when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from heavylift.core.errors import ConfigError
from heavylift.core.options import from_data
from heavylift.core.tally import Fault, Tally
from heavylift.executor import Application, TaskInfo
from heavylift.executors import processes
from heavylift.executors.spawned import command
from heavylift.executors.wire import receive_message, send_message

TOKEN = "_HEAVYLIFT_NANNY"  # noqa: S105  the name of a variable
"""In the environment of the nanny and all that it starts: so that the worker knows which of its orphans are theirs."""
SILENCE = 2.0
"""A host is dead, and the nanny has not said so for this many seconds: then the nanny is replaced."""
BACKOFF = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Seconds before the first, second … start of a new nanny; the last one stands for all further ones."""

log = logging.getLogger("heavylift.worker")


@dataclass(frozen=True, slots=True)
class Ending:
    """A host's end: its wait status (None: nobody could tell), CPU seconds and peak resident bytes of its life."""

    status: int | None
    cpu: float = 0.0
    peak: int = 0


class Child(Protocol):
    """The worker's side of one host, as far as the nanny's is concerned with it."""

    def forked(self, pid: int, pidfd: int) -> None:
        """It lives; `pidfd` is its own to close."""

    def not_forked(self, why: str) -> None:
        """It could not be started."""

    def out_of_reach(self, why: str) -> None:
        """It lives, but no `pidfd` was to be had for it: it is to die, and `ended` follows."""

    def ended(self, ending: Ending) -> None:
        """It is dead and reaped, and so is whatever it left running."""


@dataclass(slots=True)
class _Known:
    child: Child
    pid: int = 0
    pidfd: int = -1
    adopted: bool = False


class Nanny:
    """The nanny process and its successors. Make one with `start`."""

    def __init__(self, application: Application) -> None:
        self.tasks: Mapping[str, TaskInfo] = {}
        self.store_url = ""
        self.settings: Mapping[str, Any] = {}
        """What the application was given, its store included; later nannies do not change it."""
        self.warnings: tuple[str, ...] = ()
        self.forks = True
        """Whether hosts are forked, in milliseconds; else they start afresh, which takes as long as the import."""
        self.ready = False
        self.tally = Tally()
        """What its hosts' pools count, and its own deaths."""
        self.pid = 0
        self.on_ready: list[Callable[[], None]] = []
        """Called when a new nanny has taken over."""
        self._application = application
        self._token = os.urandom(8).hex()
        self._loop = asyncio.get_running_loop()
        self._known: dict[int, _Known] = {}
        self._numbers = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._hello: asyncio.Future[dict[str, Any]] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._spared: set[int] = set()
        self._condemned: set[int] = set()
        self._sessions: set[int] = set()
        self._closing = False

    @classmethod
    async def start(cls, application: Application) -> Nanny:
        """A nanny that has imported the application.

        Raises ConfigError with the traceback and the import path when it cannot be imported, or is no Heavylift.
        """
        processes.adopt_orphans()
        nanny = cls(application)
        try:
            hello = await nanny._launch()
        except BaseException:
            await nanny.close()
            raise
        nanny.store_url = hello["store"]
        nanny.settings = hello["settings"] | {"store": hello["store"]}
        return nanny

    def start_host(self, child: Child, descriptors: tuple[int, ...], config: Mapping[str, Any]) -> None:
        """Ask for a host; `child` hears what becomes of it."""
        if not self.ready or self._control is None:
            child.not_forked("the nanny is being replaced")
            return
        self._numbers += 1
        order = {"kind": "fork", "host": self._numbers, "config": dict(config)}
        self._known[self._numbers] = _Known(child)
        try:
            send_message(self._control, order, descriptors)
        except OSError as error:
            del self._known[self._numbers]
            child.not_forked(str(error))

    async def close(self) -> None:
        """End the nanny and everything that it or a host has started."""
        self._closing = True
        self.ready = False
        if self._restarting is not None:
            self._restarting.cancel()
        process = self._process
        if process is not None:
            self._disconnect()
            if not await self._wait(lambda: process.poll() is not None, 3.0):
                process.kill()
                await self._wait(lambda: process.poll() is not None, 3.0)
            self._lost(process)
        for known in self._known.values():
            if known.pidfd >= 0:
                _signal(known.pidfd)
        if not await self._wait(lambda: not self._known and not self._sweep(everything=True), 5.0):
            log.error("processes of jobs are left and cannot be killed: %s", sorted(self._sweep(everything=True)))

    # --- the process -------------------------------------------------------------------------------------------

    async def _launch(self) -> dict[str, Any]:
        """Start a nanny process and wait for its hello."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        alive_there, alive = os.pipe()
        environment = os.environ | {TOKEN: self._token}
        module = command("heavylift.executors.nanny", str(theirs.fileno()))
        try:
            with theirs, os.fdopen(alive_there):
                self._process = subprocess.Popen(  # noqa: ASYNC220, S603  this very interpreter; a millisecond
                    module,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    env=environment,
                )
                send_message(ours, asdict(self._application), (alive_there,))
            ours.setblocking(False)  # noqa: FBT003  the method's only form
            self._control = ours
            self._hello = self._loop.create_future()
            self._loop.add_reader(ours, self._hear, self._process, ours)
            hello = await self._hello
        finally:
            os.close(alive)
            self._hello = None
            if self._control is not ours:  # nobody listens to it
                ours.close()
        if hello["kind"] == "failed":
            if self._process is not None:
                self._lost(self._process)
            raise ConfigError(hello["why"])
        self.pid = self._process.pid
        self.tasks = {name: TaskInfo(name, from_data(task["options"])) for name, task in hello["tasks"].items()}
        self.warnings = tuple(hello["warnings"])
        self.forks = hello["forks"]
        self.ready = True
        return hello

    def _hear(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        """Read what the nanny says."""
        while True:
            try:
                received = receive_message(control)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                self._lost(process)
                return
            message, descriptors = received
            match message["kind"]:
                case "hello" | "failed":
                    if self._hello is not None and not self._hello.done():
                        self._hello.set_result(message)
                case "forked":
                    self._forked(message["host"], message["pid"], descriptors)
                case "not-forked":
                    self._known.pop(message["host"]).child.not_forked(message["why"])
                case "ended":
                    self._ended(message["host"], Ending(message["status"], message["cpu"], message["peak"]))

    def _lost(self, process: subprocess.Popen[bytes]) -> None:
        """The nanny is gone: its hosts are ours now, their jobs go on, and a new nanny is started."""
        if self._process is not process:
            return
        self._process = None
        self._disconnect()
        was_ready, self.ready = self.ready, False
        process.kill()
        status = process.wait()
        if self._hello is not None and not self._hello.done():
            why = f"The process that imports the application ended (exit code {status}) before it was done."
            self._hello.set_result({"kind": "failed", "why": why})
        self._sessions |= {process.pid, *(known.pid for known in self._known.values())}
        self._spared = self._orphans()
        for number, known in list(self._known.items()):
            known.adopted = True
            if known.pid == 0:
                del self._known[number]
                known.child.not_forked("the nanny died")
            else:
                self._spared.discard(known.pid)
                self._reap(number)
        if was_ready and not self._closing:
            self.tally.fault(Fault.NANNY_DEATH)
            fields = {"fault": Fault.NANNY_DEATH.value, "nanny": process.pid}
            meaning = processes.ending(status)
            log.warning("the nanny died (%s); running jobs go on, and a new one is started", meaning, extra=fields)
            self._restarting = self._loop.create_task(self._restart())

    async def _restart(self) -> None:
        attempt = 0
        while not self.ready:
            await asyncio.sleep(BACKOFF[min(attempt, len(BACKOFF) - 1)])
            attempt += 1
            try:
                await self._launch()
            except (ConfigError, OSError) as error:
                log.error("the application cannot be imported any more; trying again: %s", error)  # noqa: TRY400
        log.info("a new nanny has imported the application", extra={"nanny": self.pid})
        for call in self.on_ready:
            call()

    def _disconnect(self) -> None:
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._control.close()
            self._control = None

    # --- the hosts ---------------------------------------------------------------------------------------------

    def _forked(self, number: int, pid: int, descriptors: list[int]) -> None:
        known = self._known[number]
        known.pid = pid
        if not descriptors:
            known.child.out_of_reach("the worker has no descriptor left to reach it by")
            return
        try:
            known.pidfd = os.dup(descriptors[0])
        except OSError as error:
            os.close(descriptors[0])
            known.child.out_of_reach(str(error))
            return
        self._loop.add_reader(known.pidfd, self._exited, number)
        known.child.forked(pid, descriptors[0])

    def _exited(self, number: int) -> None:
        """A host is dead: the nanny's report follows, unless it was adopted by us."""
        known = self._known[number]
        self._loop.remove_reader(known.pidfd)
        if known.adopted:
            self._reap(number)
        else:
            self._loop.call_later(SILENCE, self._is_silent, number, self._process)

    def _is_silent(self, number: int, process: subprocess.Popen[bytes] | None) -> None:
        if number in self._known and process is not None and process is self._process:
            log.error("the nanny does not report a host's end; it is replaced")
            self._lost(process)

    def _reap(self, number: int) -> None:
        """Ask for an adopted host's status, if it is dead."""
        known = self._known[number]
        try:
            pid, status, usage = os.wait4(known.pid, os.WNOHANG)
        except ChildProcessError:
            # The nanny reaped it and died before it could tell.
            self._ended(number, Ending(None))
            return
        if pid:
            ending = Ending(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
            self._end_when_swept(number, ending, self._loop.time() + SILENCE)

    def _end_when_swept(self, number: int, ending: Ending, deadline: float) -> None:
        if self._sweep() and self._loop.time() < deadline:
            self._loop.call_later(0.002, self._end_when_swept, number, ending, deadline)
        elif number in self._known:
            self._ended(number, ending)

    def _ended(self, number: int, ending: Ending) -> None:
        known = self._known.pop(number)
        if known.pidfd >= 0:
            self._loop.remove_reader(known.pidfd)
            os.close(known.pidfd)
        known.child.ended(ending)

    # --- orphans -----------------------------------------------------------------------------------------------

    def _orphans(self) -> set[int]:
        """Children of this process that a nanny or a host started, without the hosts and the nanny of today."""
        ours = {known.pid for known in self._known.values()}
        if self._process is not None:
            ours.add(self._process.pid)
        entry = f"{TOKEN}={self._token}".encode()
        return {
            pid
            for pid in processes.children() - ours
            if processes.environment_has(pid, entry) or processes.session_of_dead(pid) in self._sessions
        }

    def _sweep(self, *, everything: bool = False) -> set[int]:
        """Kill what dead hosts left to us; what there was of it. What an old nanny's import started is spared as long
        as one of its hosts lives.
        """
        if everything or not any(known.adopted for known in self._known.values()):
            self._spared = set()
        orphans = self._orphans() - self._spared
        processes.kill_trees(orphans)
        self._condemned |= orphans
        found = set(self._condemned)
        for pid in found:
            try:
                reaped = os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:
                reaped = True
            if reaped:
                self._condemned.discard(pid)
        return found  # those gone by now too: they may have left us children of their own

    async def _wait(self, condition: Callable[[], bool], patience: float) -> bool:
        deadline = self._loop.time() + patience
        while not condition():
            if self._loop.time() > deadline:
                return False
            await asyncio.sleep(0.002)
        return True


def _signal(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
