"""Wake-ups between processes: each waiter binds a datagram socket in a folder, writers send a byte after their commit.

A hint that is lost costs time and nothing else, so all errors of sending are ignored; who does not answer any more is
removed from the folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2s
from types import TracebackType
from typing import Self

log = logging.getLogger("heavylift.store")

SETTLED = 50_000_000
"""Nanoseconds after which a folder's time of change is believed: the kernel counts it in steps of some milliseconds."""
LOOK = 1.0
"""Seconds after which the store is looked at although no hint came."""
FOLLOWER, ENDS = "follower", "ends"
"""The roles of those who follow jobs, and of those who only wait for their ends: a process that waits for a result is
not woken by each of its job's events."""
_WORKER = "worker-"


def role(worker: str) -> str:
    """The role of a worker."""
    return f"{_WORKER}{blake2s(worker.encode(), digest_size=8).hexdigest()}"


class Sender:
    """Sends hints to the sockets in a folder. Used by one thread at a time."""

    def __init__(self, folder: str) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._roles: dict[str, list[str]] = {}
        self._listed = 0
        self._sure = False

    def send(self, name: str) -> int:
        """Wake all that wait in this role; how many were there."""
        return sum(self._send(waiter) for waiter in tuple(self._waiters().get(name, ())))

    def send_to_workers(self) -> None:
        """Wake all workers."""
        for name in [name for name in self._waiters() if name.startswith(_WORKER)]:
            self.send(name)

    def close(self) -> None:
        """Let go of the folder."""
        self._socket.close()
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def _send(self, waiter: str) -> bool:
        try:
            self._socket.sendto(b"!", _address(self._folder, waiter))
        except BlockingIOError:
            return True  # it has hints waiting that it did not read yet
        except (ConnectionRefusedError, FileNotFoundError):
            self._sure = False
            with suppress(OSError):
                os.unlink(waiter, dir_fd=self._folder)
            return False
        except OSError:
            return False
        return True

    def _waiters(self) -> dict[str, list[str]]:
        changed = os.fstat(self._folder).st_mtime_ns
        if changed != self._listed or not self._sure:
            self._roles = {}
            for entry in os.listdir(self._folder):  # noqa: PTH208  by its descriptor
                name, dot, _ = entry.partition(".")
                if dot:
                    self._roles.setdefault(name, []).append(entry)
            self._listed = changed
            self._sure = time.time_ns() - changed > SETTLED
        return self._roles


class Waiter:
    """The hints of one waiter: an async context manager, as the contract's `Hints`."""

    def __init__(self, folder: Callable[[], str], version: Callable[[], int | None], name: str) -> None:
        self._folder_name = folder
        self._version = version
        # The folder's listing tells senders the role, people the process.
        self._name = f"{name}.{os.getpid()}.{os.urandom(4).hex()}"
        self._hinted = asyncio.Event()
        self._folder = -1
        self._seen: int | None = None
        self._socket: socket.socket | None = None

    async def __aenter__(self) -> Self:
        try:
            self._listen()
        except OSError as error:  # no descriptor left, or the folder was removed
            log.warning("no hints, so the store is looked at every %g s: %s", LOOK, error)
            self._forget()
        self._seen = self._version()
        return self

    def _listen(self) -> None:
        self._folder = os.open(self._folder_name(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.bind(_address(self._folder, self._name))
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._receive)

    def _forget(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        with suppress(OSError):
            os.unlink(self._name, dir_fd=self._folder)
        self._forget()

    async def wait(self, timeout: float) -> bool:
        """True when a hint came since the last call, or comes within `timeout` seconds; several count as one."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        self._receive()  # what came while the loop was busy counts
        while not self._hinted.is_set():
            left = end - loop.time()
            if left <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK)):
                    await self._hinted.wait()
            if not self._hinted.is_set() and self._version() != self._seen:
                break  # somebody wrote, and the hint was lost
        self._hinted.clear()
        self._seen = self._version()
        return True

    def _receive(self) -> None:
        if self._socket is None:
            return
        with suppress(OSError):
            while self._socket.recv(64):
                self._hinted.set()


def _address(folder: int, name: str) -> str:
    """A path to a socket that is short enough whatever the folder is called (the kernel takes 107 bytes)."""
    return f"/proc/self/fd/{folder}/{name}"
