"""Turns: which process may write. First come first served, woken by the kernel, freed by death.

SQLite's own busy handler sleeps and tries again, so that a writer that comes often starves the others for seconds.
"""

from __future__ import annotations

import fcntl
import os


class Turn:
    """The right to write, of this process. Two locks make a line: whoever holds `gate` is the next to get `data`."""

    def __init__(self, folder: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._gate = os.open(f"{folder}/gate", flags, 0o600)
        self._data = os.open(f"{folder}/data", flags, 0o600)

    def take(self) -> None:
        """Wait for the turn, and have it."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._data, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def take_now(self) -> bool:
        """Have the turn if nobody has it or waits for it."""
        try:
            fcntl.flock(self._gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            fcntl.flock(self._data, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        return True

    def give_back(self) -> None:
        """Let the next one write."""
        fcntl.flock(self._data, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the files; a turn that is held goes with them."""
        for name in ("_gate", "_data"):
            descriptor, gone = getattr(self, name), -1
            setattr(self, name, gone)
            if descriptor != gone:
                os.close(descriptor)
