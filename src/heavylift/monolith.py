"""The worker as a child of the web process: started, restarted with backoff, and taken along when it ends.

Of several web processes of one application on one store only one has the worker: the one that holds their lock file.
When it goes, however it goes, the kernel frees the lock and the next one takes over.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavylift.core.errors import ConfigError

if TYPE_CHECKING:
    from heavylift.executor import Application

TAKEOVER = 1.0
"""Seconds between two tries to get the lock that another web process holds."""
BACKOFF = (0.2, 30.0)
"""Seconds before a dead worker is started again: at first, and at most; doubled each time that it lived shortly."""
STEADY = 5.0
"""A worker that lived for so many seconds was fine: the backoff begins anew."""

log = logging.getLogger("heavylift")


class Monolith:
    """Owns the worker process of this web process."""

    def __init__(self, application: Application, settings: dict[str, Any], store_url: str) -> None:
        self._config = {"application": asdict(application), "settings": settings}
        # Another application on the same store needs a worker of its own: this one's does not have its tasks.
        shared = f"{store_url}\n{application.target}\n{application.attribute}"
        name = hashlib.sha256(shared.encode()).hexdigest()[:16]
        self._lock_path = Path(tempfile.gettempdir()) / f"heavylift-{os.getuid()}-{name}.lock"
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._alive: int | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the worker and wait until it is warm; return at once when another web process has it.

        Raises ConfigError when the worker cannot start at all.
        """
        if self._take_lock():
            await self._launch()
        self._keeper = asyncio.create_task(self._keep(), name="heavylift monolith")

    def resign(self) -> None:
        """Take over no worker any more; one that this process has stays until `close`."""
        if self._keeper is not None and self._process is None:
            self._keeper.cancel()

    async def close(self) -> None:
        """Let the worker drain, and wait for its end."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(self._process.wait)
        self._forget()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _keep(self) -> None:
        delay = BACKOFF[0]
        while True:
            if self._process is None:
                await asyncio.sleep(TAKEOVER)
                if self._take_lock():
                    log.info("this web process takes over the worker")
                    await self._relaunch()
                continue
            began = time.monotonic()
            # In a thread: some event loops lose the news of a descriptor whose number was used before.
            code = await asyncio.to_thread(self._process.wait)
            if time.monotonic() - began > STEADY:
                delay = BACKOFF[0]
            log.warning("the worker ended with exit code %d; it is started again in %.1f s", code, delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, BACKOFF[1])
            await self._relaunch()

    async def _relaunch(self) -> None:
        try:
            await self._launch()
        except ConfigError as error:
            # Its process is gone, so the next turn of the loop waits longer and tries again.
            log.error("the worker does not start: %s", error)  # noqa: TRY400  the message says it all

    async def _launch(self) -> None:
        self._forget()
        ready_read, ready_write = os.pipe()
        alive_read, self._alive = os.pipe()
        config = json.dumps(self._config | {"alive": alive_read, "ready": ready_write})
        try:
            # The child gets the read end of a pipe that only this process holds open: its end of file tells the
            # worker that the web process is gone, even after SIGKILL.
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603  our own module, no shell; it only forks
                [sys.executable, "-m", "heavylift.process", config],
                pass_fds=(alive_read, ready_write),
                start_new_session=True,
            )
        finally:
            os.close(alive_read)
            os.close(ready_write)
        answer = await asyncio.to_thread(_read_all, ready_read)
        if answer != b"ready\n":
            await asyncio.to_thread(self._process.wait)
            raise ConfigError(answer.decode(errors="replace") or "the worker ended before it was ready (see its log).")

    def _take_lock(self) -> bool:
        if self._lock is None:
            self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _forget(self) -> None:
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None
        self._process = None


def _read_all(fd: int) -> bytes:
    """What comes through a pipe until its other end is closed."""
    with open(fd, "rb") as pipe:
        return pipe.read()
