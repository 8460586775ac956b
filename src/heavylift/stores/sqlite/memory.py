"""Folders for stores that live in memory: they go when the process that made them ends, however it ends."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "heavylift-"
OWNER = "owner"
"""A file that the process which made the folder keeps locked."""


def make_folder() -> str:
    """A private folder, in memory where the system has a place for that."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()  # noqa: S108  the folder in it is private
    _remove_abandoned(place)
    # It gets its name when it is locked: until then nobody takes it for one that was left behind.
    unnamed = tempfile.mkdtemp(prefix=f".{PREFIX}", dir=place)
    owner = os.open(f"{unnamed}/{OWNER}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(owner, fcntl.LOCK_EX)
    folder = f"{place}/{Path(unnamed).name[1:]}"
    Path(unnamed).rename(folder)
    atexit.register(_remove_own, folder, os.getpid())
    return folder


def _remove_own(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # a fork of it must not
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(place: str) -> None:
    """Remove what processes left that were killed: nobody holds the lock of their folder."""
    for folder in Path(place).glob(f"{PREFIX}*"):
        with suppress(OSError):
            owner = os.open(folder / OWNER, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(owner)
