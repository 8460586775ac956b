"""Log records as lines: JSON for machines, or text for people. The fields have the names that structlog gives them."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "stack_info"}
"""What every record has; anything else was given as `extra`."""


FIELDS = "_heavylift_fields"
"""An attribute of records for fields whose names records have otherwise, such as `name` and `filename`."""

JOBS = "heavylift.jobs"
"""The logger of the lines that jobs wrote through their Contexts."""


class JsonFormatter(logging.Formatter):
    """A JSON object a line: timestamp, level, logger, event, pid, what is bound, and what the record was given."""

    def __init__(self, bound: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._bound = {} if bound is None else bound  # it may be filled later

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "pid": record.process,
            **self._bound,
        }
        fields |= apart(extras(record), {*fields, "exception"})
        exception = exception_text(self, record)
        if exception:
            fields["exception"] = exception
        try:
            return json.dumps(fields, ensure_ascii=False, allow_nan=False, default=str)
        except (ValueError, TypeError):  # what is no JSON at all: infinite, circular, keys that are no texts
            return json.dumps({str(key): str(value) for key, value in fields.items()}, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """Time, level, logger and text, then the fields: not those of our own lines, whose text says all of it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end; a traceback follows on lines of its own."""
        at = datetime.fromtimestamp(record.created, UTC).astimezone()
        text, _, more = record.getMessage().partition("\n")
        own = record.name.startswith("heavylift.") and record.name != JOBS
        said = "" if own else "".join(f"  {key}={value}" for key, value in extras(record).items())
        line = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} {record.levelname:<7} {record.name}: {text}{said}"
        return "\n".join(part for part in (line, more, exception_text(self, record)) if part)


def json_handler() -> logging.Handler:
    """In the place of `logging.lastResort`, for what no other handler takes: JSON, from WARNING on as Python has it."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(JsonFormatter())
    return handler


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """What a record was given beside its text."""
    given = record.__dict__
    found = {key: value for key, value in given.items() if key not in STANDARD and not key.startswith("_")}
    return {**given[FIELDS], **found} if FIELDS in given else found


def apart(fields: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """Fields under names that are not taken: whoever reads `timestamp` or `job` relies on what we say there."""
    return {f"{name}_" if name in taken else name: value for name, value in fields.items()}


def exception_text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback that a record carries, and the stack that it was asked to; empty without."""
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)
