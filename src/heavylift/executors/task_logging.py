"""In a host: what task code and its libraries say by `logging` goes into the log of the job that said it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any, Protocol

from heavylift.core.log import fitting
from heavylift.core.logline import exception_text, extras

OFF = "off"
STRUCTLOG = frozenset({"event", "level", "timestamp", "logger", "exception", "exc_info"})
"""Keys of structlog's event dict that a line has in places of its own."""


class Takes(Protocol):
    """Where lines of the current job go."""

    def log(self, level: str, message: str, extra: Mapping[str, Any] | None = None) -> None:
        """See `context.Reporter`."""


class JobHandler(logging.Handler):
    """Hands each record to the job that runs where it was made; `current` says which. It has no lock: a stop may be
    raised anywhere in the code of a job, and must not leave one taken.
    """

    def __init__(self, level: int, current: Callable[[], Takes | None], otherwise: logging.Handler | None) -> None:
        super().__init__(level)
        self._current, self._otherwise = current, otherwise
        self._formatter = logging.Formatter()

    def createLock(self) -> None:  # noqa: N802  logging's name
        """None: see above."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Into the log of the job; of a record that belongs to none, what Python does by itself."""
        job = self._current()
        if job is not None:
            try:
                message, extra = self._line(record)
            except Exception:  # noqa: BLE001  its format does not fit its arguments, or a value cannot be shown
                self.handleError(record)
                return True
            job.log(_level(record.levelno), message, extra)
        elif self._otherwise is not None and record.levelno >= self._otherwise.level:
            self._otherwise.handle(record)
        return True

    def _line(self, record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
        fields = extras(record)
        if isinstance(record.msg, dict) and "event" in record.msg:  # from structlog, by wrap_for_formatter
            message = str(record.msg["event"])
            fields = {key: value for key, value in record.msg.items() if key not in STRUCTLOG and key[:1] != "_"}
        else:
            message = record.getMessage()
            if fields.get("level") == record.levelname.lower():
                del fields["level"]  # structlog says it once more
        exception = exception_text(self._formatter, record)
        if exception:
            message = f"{message}\n{exception}"
        extra: dict[str, Any] = {"logger": record.name}
        if fields:
            extra["fields"] = {str(key): fitting(value) for key, value in fields.items()}
        return message, extra


def install(level: str, current: Callable[[], Takes | None]) -> Callable[[], None]:
    """Hand on what is said from now on, from this level on; "off": leave `logging` as it is.

    Where the application has not configured `logging`, the root logger lets so much pass; else its own levels hold.

    To be called before each job is what is returned: an earlier one may have configured `logging`, which removes what
    was there.
    """
    if level == OFF:
        return _nothing
    root, number = logging.getLogger(), logging.getLevelNamesMapping()[level.upper()]
    bare = not root.handlers
    if bare and root.level == logging.WARNING:
        root.setLevel(number)
    handler = JobHandler(number, current, logging.lastResort if bare else None)
    root.addHandler(handler)

    def again() -> None:
        if handler not in root.handlers:
            root.addHandler(handler)

    return again


def _nothing() -> None:
    """`logging` is left alone."""


def protected() -> set[CodeType]:
    """The code below which a stop is raised at its end only."""
    return {JobHandler._line.__code__}  # noqa: SLF001  its own module


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"
