"""Connections, and what their errors mean to a caller."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Callable

from heavylift.core.errors import ConfigError, HeavyliftError, StoreUnavailable
from heavylift.stores.sqlite.url import Location

CACHE_KIB = 16 * 1024
LOG_BYTES = 64 * 2**20
"""The size to which the log's file shrinks again after a burst."""
STATEMENTS = 512
"""Prepared statements that a connection keeps."""
BUSY = 5.0
"""Seconds for which a lock of another program is waited for …"""
PAUSE = 0.01
"""… and between two looks whether it is gone."""

FIXES = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space; nothing is lost.",
    sqlite3.SQLITE_READONLY: "it cannot be written: let this user write the file and its folder.",
    sqlite3.SQLITE_BUSY: "another program holds it locked: end its transaction (a database shell, a backup?).",
    sqlite3.SQLITE_LOCKED: "another program holds it locked: end its transaction (a database shell, a backup?).",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: create its folder, and let this user read and write there.",
    sqlite3.SQLITE_PERM: "it cannot be opened: let this user read and write the file and its folder.",
    sqlite3.SQLITE_IOERR: "reading or writing it failed: look at the disk (dmesg), and that nobody removed the file.",
    sqlite3.SQLITE_CORRUPT: "it is damaged: stop all that use it, and restore a backup or run sqlite3 FILE .recover.",
    sqlite3.SQLITE_TOOBIG: "a value is too large for SQLite: store it elsewhere and submit a reference to it.",
}

OUTSIDE = frozenset(FIXES) - {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_FULL}


def connect(location: Location) -> sqlite3.Connection:
    """A connection as every part of the store uses it: transactions are begun and ended by hand, other programs are
    waited for. The file is created for this user alone.
    """
    # Only a file that is not there is opened here: closing any descriptor of the file would drop the locks that other
    # connections of this process have on it (sqlite.org/howtocorrupt.html, section 2.2).
    with contextlib.suppress(FileExistsError):
        os.close(os.open(location.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if not os.access(location.path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # SQLite would open it for reading alone
    connection = sqlite3.connect(
        location.path, timeout=BUSY, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS
    )
    for pragma in (
        f"synchronous={location.synchronous}",
        f"cache_size=-{CACHE_KIB}",
        f"journal_size_limit={LOG_BYTES}",
        "temp_store=MEMORY",
        "secure_delete=OFF",
    ):
        patiently(lambda pragma=pragma: connection.execute(f"PRAGMA {pragma}").close())  # type: ignore[misc]
    return connection


def patiently(step: Callable[[], None]) -> None:
    """A step for which SQLite itself does not always wait while another connection begins or ends the file."""
    end = time.monotonic() + BUSY
    while True:
        try:
            step()
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() > end:
                raise
            time.sleep(PAUSE)
        else:
            return


def never_wait(connection: sqlite3.Connection) -> None:
    """Have a connection fail at once when another program has the file locked: for those that an event loop uses."""
    connection.execute("PRAGMA busy_timeout=0").close()


def is_busy(error: Exception) -> bool:
    """Whether it failed because somebody else has the file now."""
    return isinstance(error, sqlite3.Error) and _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_outside(error: sqlite3.Error) -> bool:
    """Whether the file, the disk or another program is the cause, so that the same would happen to every write."""
    return _code(error) in OUTSIDE


def translated(error: Exception, path: str) -> HeavyliftError:
    """The error of the contract for one of the driver or of the system, with its cause and its fix."""
    if isinstance(error, HeavyliftError):
        return error
    answer = _translated(error, path)
    answer.__cause__ = error
    return answer


def _translated(error: Exception, path: str) -> HeavyliftError:
    if isinstance(error, sqlite3.Error):
        code = _code(error)
        if code == sqlite3.SQLITE_NOTADB:
            return ConfigError(f"{path} is no SQLite database: name another file in the store's URL.")
        fix = FIXES.get(code, f"SQLite says: {error}.")
        return StoreUnavailable(f"The store {path} failed ({error}): {fix}")
    if isinstance(error, OSError):
        fix = "create its folder, and let this user read and write there."
        return StoreUnavailable(f"The store {path} failed ({error.strerror or error}): {fix}")
    return StoreUnavailable(f"The store {path} failed: {type(error).__name__}: {error}")


def _code(error: sqlite3.Error) -> int:
    """The primary result code; the driver's own errors have none."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else sqlite3.SQLITE_ERROR
