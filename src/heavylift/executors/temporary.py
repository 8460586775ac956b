"""The worker's folder for what jobs keep for their own time alone: each host has one in it, removed when it is gone.

All workers of a user share a parent folder. In it each has its own, and beside that a file that it keeps locked: who
finds one unlocked removes what its dead owner left.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from heavylift.context import remove_folder
from heavylift.core.errors import ConfigError

_LOCK = ".lock"
log = logging.getLogger("heavylift.worker")


class Temporary:
    """The folder of one worker. Make one with `open`; its loop is that of the caller."""

    def __init__(self, folder: Path, owner: int) -> None:
        self._folder, self._owner = folder, owner
        self._numbers = 0
        # To remove a large folder takes its time, and the worker's loop has none.
        self._thread = ThreadPoolExecutor(1, "heavylift temporary")
        self._removing: set[asyncio.Future[bool]] = set()

    @classmethod
    def open(cls, place: str | None = None) -> Temporary:
        """A new folder below `place` (default: the system's folder for such); those of dead workers are removed.

        Raises ConfigError when it cannot be made.
        """
        parent = Path(place or tempfile.gettempdir()) / f"heavylift-{os.getuid()}"
        try:
            parent.mkdir(mode=0o700, exist_ok=True)
            _check_private(parent)
            with _turn(parent):
                for lock in parent.glob(f"*{_LOCK}"):
                    if lock.name != _LOCK:
                        _remove_abandoned(lock)
                folder = Path(tempfile.mkdtemp(dir=parent))
                owner = os.open(f"{folder}{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(owner, fcntl.LOCK_EX)
        except OSError as error:
            message = f"The folder for temporary files of jobs cannot be made: {error}. Set TMPDIR to another place."
            raise ConfigError(message) from error
        return cls(folder, owner)

    def next(self) -> str:
        """A name for the folder of a new host; the host makes it when it needs it."""
        self._numbers += 1
        return str(self._folder / str(self._numbers))

    def remove(self, folder: str) -> None:
        """The host of this folder is gone."""
        if os.path.lexists(folder):
            removal = asyncio.get_running_loop().run_in_executor(self._thread, _remove, folder)
            self._removing.add(removal)
            removal.add_done_callback(self._removing.discard)

    async def close(self) -> None:
        """Remove all of it."""
        while self._removing:
            await asyncio.wait(self._removing)
        await asyncio.get_running_loop().run_in_executor(self._thread, _remove, str(self._folder))
        with contextlib.suppress(OSError):
            os.unlink(f"{self._folder}{_LOCK}")  # noqa: PTH108  a few microseconds, on a loop that has nothing else to do
        os.close(self._owner)
        self._thread.shutdown()


def _check_private(parent: Path) -> None:
    found = parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        message = f"{parent} belongs to somebody else, or is no folder: remove it, or set TMPDIR to another place."
        raise ConfigError(message)
    if found.st_mode & 0o077:
        parent.chmod(0o700)


@contextlib.contextmanager
def _turn(parent: Path) -> Iterator[None]:
    """One worker at a time: a new folder is not taken for an abandoned one before its lock is held."""
    lock = os.open(parent / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_abandoned(lock: Path) -> None:
    try:
        owner = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # its owner has just closed it
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        if _remove(str(lock.with_suffix(""))):
            lock.unlink(missing_ok=True)
    finally:
        os.close(owner)


def _remove(folder: str) -> bool:
    gone = not os.path.lexists(folder) or remove_folder(folder)
    if not gone:
        log.warning("temporary files of jobs cannot be removed, look at them: %s", folder)
    return gone
