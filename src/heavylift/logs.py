"""What worker and web process write to standard error: their log records, as lines of one format."""

from __future__ import annotations

import logging
import os
import select
import sys
from typing import TYPE_CHECKING, Any

from heavylift.core.errors import ConfigError
from heavylift.core.logline import ConsoleFormatter, JsonFormatter, json_handler
from heavylift.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

CHUNK = 4096
"""Not more than PIPE_BUF: a descriptor that polls writable takes so much without blocking."""
PATIENCE_MS = 100
"""Milliseconds that the rest of a long line may wait for its reader."""

bound: dict[str, Any] = {}
"""Fields of every JSON line of this process, such as the worker's id."""


def is_json(settings: Settings) -> bool:
    """Whether lines are JSON objects: if the settings say so, or leave it open and nobody sits at a terminal."""
    return settings.log_format == "json" or (settings.log_format == "auto" and not os.isatty(2))


def configure(settings: Settings) -> None:
    """Write the records of this process to standard error, unless its logging is configured already."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = Lines(2)
    handler.setFormatter(JsonFormatter(bound) if is_json(settings) else ConsoleFormatter())
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    # What hosts write to their standard output is a record only where each line has to be JSON.
    output = logging.getLogger("heavylift.output")
    output.setLevel(logging.INFO if is_json(settings) else logging.CRITICAL + 1)


def hold_standard_descriptors() -> None:
    """Open those that the process was started without (`2>&-`). Else a socket or a file that is opened next gets the
    number, and what is written to standard error goes into that.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003  it takes the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", closefd=False))


def before_import(environment: Mapping[str, str] | None = None) -> None:
    """What an application says while it is imported, before its settings are known, is to have the format, too."""
    try:
        chosen = Settings.load(environment)
    except ConfigError:
        return  # the application says so in a moment, or has a better value
    if is_json(chosen):
        logging.lastResort = json_handler()


class Lines(logging.Handler):
    """Writes lines to a descriptor; drops, and counts, what would have to wait for a reader that does not read."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.dropped = 0
        self._torn = False
        """The last line was cut off: its reader had no room for all of it."""
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            data = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            if not self._poll.poll(0):
                self.dropped += 1
                return
            if self.dropped:
                dropped, self.dropped = self.dropped, 0
                lost = logging.makeLogRecord({"name": "heavylift", "levelno": 30, "levelname": "WARNING"})
                lost.msg = f"{dropped} log lines were dropped, as nobody read them"
                data = (self.format(lost) + "\n").encode() + data
            self._write(b"\n" + data if self._torn else data)
        except OSError:
            self.dropped += 1  # nobody can read any more
        except Exception:  # noqa: BLE001  a record that cannot be formatted is its writer's fault
            self.handleError(record)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        self._torn = False
        while view:
            written = os.write(self._descriptor, view[:CHUNK])
            view = view[written:]
            if view and not self._poll.poll(PATIENCE_MS):
                self.dropped, self._torn = self.dropped + 1, True
                return
