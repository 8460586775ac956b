"""What running code says of itself, made fit for JSON: lines of a log, numbers and texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from heavylift.core import codec

if TYPE_CHECKING:
    from heavylift.core.job import Job


class Lines(Protocol):
    """Where lines go."""

    def log(self, level: str, message: str, extra: Mapping[str, Any] | None = None) -> None:
        """One line; `extra` has its `fields`, and the name of the `logger` that it came from."""


class Log:
    """The job's own log: its lines are kept with the job and streamed to whoever follows it.

    Keywords become fields of the line: `ctx.log.info("uploaded", bucket="eu", size=1024)`.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def debug(self, message: object, /, *args: object, **fields: object) -> None:
        """A line for whoever looks for a fault; `args` are %-formatted into `message`, as in `logging`."""
        self._write("debug", message, args, fields)

    def info(self, message: object, /, *args: object, **fields: object) -> None:
        """A line that says what happens."""
        self._write("info", message, args, fields)

    def warning(self, message: object, /, *args: object, **fields: object) -> None:
        """A line that somebody should read."""
        self._write("warning", message, args, fields)

    def error(self, message: object, /, *args: object, **fields: object) -> None:
        """A line about what went wrong."""
        self._write("error", message, args, fields)

    def _write(self, level: str, message: object, args: tuple[object, ...], fields: Mapping[str, object]) -> None:
        line = _clean(_formatted(str(message), args))
        if fields:
            self._lines.log(level, line, {"fields": {key: fitting(value) for key, value in fields.items()}})
        else:
            self._lines.log(level, line)


def fitting(value: Any) -> Any:
    """A value as JSON can hold it: as it is if that is possible, else as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _clean(value)
    try:
        codec.encode(value)
    except codec.NotJson:
        return _clean(str(value))
    return value


def _formatted(message: str, args: tuple[object, ...]) -> str:
    if not args:
        return message
    values = args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args
    try:
        return message % values
    except (TypeError, ValueError, KeyError):  # as with `logging`, a wrong format costs no job
        return f"{message} {args!r}"


def about(job: Job) -> dict[str, Any]:
    """What a log line about an attempt carries beside its text."""
    fields: dict[str, Any] = {"job": job.id, "attempt": job.attempt, "task": job.task, "queue": job.queue}
    if job.options.labels:
        fields["labels"] = dict(job.options.labels)
    return fields


def number(value: Any) -> float | None:
    """A finite number as Python's own (numpy's are no JSON), else None."""
    if value is None or (type(value) is int and abs(value) < _EXACT):
        return value
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def text(value: object) -> str | None:
    """A value as text that JSON can hold; None stays None."""
    return None if value is None else _clean(str(value))


def _clean(message: str) -> str:
    # File names may hold lone surrogates, which JSON cannot.
    return message.encode("utf-8", "backslashreplace").decode()


_EXACT = 2**53  # integers beyond are no exact numbers to JavaScript
