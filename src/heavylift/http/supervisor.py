"""Several web processes on one socket: started together, replaced when one dies, stopped together.

Each of them is a child in a session of its own, with three descriptors: the listening socket, a pipe to say that it is
ready (or why it is not), and a pipe that tells by its end of file that this process is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from heavylift.core.errors import ConfigError
from heavylift.http.server import SAME_SIGNAL, address, bind

if TYPE_CHECKING:
    import socket
    from asyncio.subprocess import Process
    from collections.abc import Callable, Mapping, Sequence

BACKOFF = (0.2, 30.0)
"""Seconds before a dead process is replaced: at first, and at most; doubled each time that it lived shortly."""
STEADY = 5.0
"""A process that lived for so many seconds was fine: the backoff begins anew."""
READY = b"ready\n"

log = logging.getLogger("heavylift.http")


def supervise(
    command: Sequence[str],
    config: Mapping[str, Any],
    *,
    host: str,
    port: int,
    processes: int,
    announce: Callable[[str], None],
) -> int:
    """Run so many web processes until SIGTERM or SIGINT; the exit code: 0 when all of them ended well.

    Each is started as `command` with one more argument: `config` as JSON, with the descriptors `listener`, `ready` and
    `alive`. `announce` gets the address, once, when all of them answer. Raises ConfigError for an address that cannot
    be used, and with what the first of them said that could not start.
    """
    with contextlib.closing(bind(host, port)) as listener:
        return asyncio.run(_Supervisor(command, config, listener).run(processes, announce))


class _Supervisor:
    def __init__(self, command: Sequence[str], config: Mapping[str, Any], listener: socket.socket) -> None:
        self._command = command
        self._config = config
        self._listener = listener
        self._running: set[Process] = set()
        self._stopping = asyncio.Event()
        self._last_signal = float("-inf")
        self._codes: list[int] = []

    async def run(self, processes: int, announce: Callable[[str], None]) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        alive, self._alive = os.pipe()
        try:
            async with asyncio.TaskGroup() as group:
                started = [group.create_task(self._start(alive)) for _ in range(processes)]
                for child in [await task for task in started]:
                    group.create_task(self._keep(child, alive))
                if not self._stopping.is_set():
                    announce(address(self._listener))
        except* ConfigError as errors:
            self._stop()
            await asyncio.gather(*(child.wait() for child in self._running))
            raise errors.exceptions[0] from None
        finally:
            os.close(alive)
            os.close(self._alive)
        return max(map(abs, self._codes), default=0) and 1

    async def _keep(self, child: Process, alive: int) -> None:
        """Replace a process whenever it dies, until the stop."""
        delay, began = BACKOFF[0], time.monotonic()
        while True:
            code = await child.wait()
            self._running.discard(child)
            if self._stopping.is_set():
                # One that was only just started ends by the signal itself.
                self._codes.append(0 if code == -signal.SIGTERM else code)
                return
            delay = BACKOFF[0] if time.monotonic() - began > STEADY else min(delay * 2, BACKOFF[1])
            log.warning("a web process ended with exit code %d; another one is started in %.1f s", code, delay)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
                return
            began = time.monotonic()
            try:
                child = await self._start(alive)
            except ConfigError as error:
                log.error("a web process does not start: %s", error)  # noqa: TRY400  the message says it all

    async def _start(self, alive: int) -> Process:
        """A process that answers, or that was told to stop before it did."""
        ready, told = os.pipe()
        listener = self._listener.fileno()
        config = json.dumps({**self._config, "listener": listener, "ready": told, "alive": alive})
        try:
            child = await asyncio.create_subprocess_exec(
                *self._command, config, pass_fds=(listener, told, alive), start_new_session=True
            )
        finally:
            os.close(told)
        self._running.add(child)
        if self._stopping.is_set():
            child.terminate()
        said = await asyncio.to_thread(_read_all, ready)
        if said != READY and not self._stopping.is_set():
            await child.wait()
            self._running.discard(child)
            raise ConfigError(said.decode(errors="replace") or "a web process ended before it was ready.")
        return child

    def _signalled(self) -> None:
        # A second one, a second later or more, is passed on like the first, and makes them end at once.
        if time.monotonic() - self._last_signal > SAME_SIGNAL:
            self._last_signal = time.monotonic()
            self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        for child in self._running:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()


def _read_all(pipe: int) -> bytes:
    """What comes through a pipe until its other end is closed."""
    with open(pipe, "rb") as file:
        return file.read()
