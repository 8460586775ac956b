"""What running task code is given: progress, checkpoints, a log, and the news that it is to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from heavylift.core import codec
from heavylift.core.errors import Cancelled, ConfigError
from heavylift.core.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


_EXACT = 2**53  # integers beyond are no exact numbers to JavaScript


class Reporter(Protocol):
    """Where a context's reports go: the host's wire to the worker, or a list in tests."""

    def progress(self, value: dict[str, Any]) -> None:
        """The fields of Progress; may be coalesced, the last one is always delivered."""

    def checkpoint(self, value: bytes) -> None:
        """A value to resume from, JSON bytes; delivered before the outcome, in order."""

    def log(self, level: str, message: str) -> None:
        """One line of the job's log."""

    def cancelled(self) -> bool:
        """Whether the job was asked to stop."""


class Context:
    """One attempt, seen from inside. Tasks get it by annotating a parameter: `def build(ctx: Context, …)`."""

    def __init__(
        self,
        reporter: Reporter,
        *,
        job_id: str,
        task: str,
        attempt: int,
        failures: int = 0,
        checkpoint: bytes | None = None,
        max_checkpoint: int = 2**20,
    ) -> None:
        self.job_id = job_id
        self.task = task
        self.attempt = attempt
        """The number of this start of the job, from 1; grows at each start and is never reused."""
        self.failures = failures
        self.log = Log(reporter)
        self._reporter = reporter
        self._checkpoint = checkpoint
        self._max_checkpoint = max_checkpoint
        self._saved_at = float("-inf")

    @classmethod
    def fake(cls, *, checkpoint: Any = None, attempt: int = 1) -> Context:
        """A context for calling a task as a plain function: its reports go to `ctx.reports`."""
        reporter = _Recorder()
        saved = None if checkpoint is None else codec.encode(checkpoint)
        context = cls(reporter, job_id="fake", task="fake", attempt=attempt, checkpoint=saved)
        context.reports = reporter.reports
        return context

    reports: list[tuple[str, Any]]
    """What a fake context was told, in order: (kind, value)."""

    @property
    def fence(self) -> tuple[str, int]:
        """(job id, attempt): give it to other systems, which refuse a lower attempt of the same job."""
        return self.job_id, self.attempt

    @property
    def cancelled(self) -> bool:
        """Whether this job was asked to stop; code that cannot be interrupted may poll it."""
        return self._reporter.cancelled()

    def raise_if_cancelled(self) -> None:
        """A cancel point: raises Cancelled when the job was asked to stop."""
        if self.cancelled:
            raise Cancelled

    def progress(
        self,
        done: float | None = None,
        total: float | None = None,
        message: str | None = None,
        *,
        phase: str | None = None,
        unit: str | None = None,
    ) -> None:
        """Say how far the job is: `done` of `total` `unit`s, a message, a phase. Call it as often as you like.

        It never fails the job: numbers that are not finite are left out, and texts are cleaned.
        """
        done, total = _number(done), _number(total)
        percent = None
        if done is not None and total:
            percent = min(100.0, max(0.0, 100.0 * done / total))
        value = {
            "done": done,
            "total": total,
            "percent": percent,
            "message": _text(message),
            "phase": _text(phase),
            "unit": _text(unit),
            "at": time.time(),
        }
        self._reporter.progress(value)

    def track(
        self,
        items: Iterable[T],
        total: int | None = None,
        message: str | None = None,
        *,
        start: int = 0,
        unit: str | None = None,
    ) -> Iterator[T]:
        """Iterate over `items` while reporting progress; a cancel point at each step.

        `start` items were done before; without a `total`, it is `start` and the length of `items`, if they have one.
        """
        if total is None and isinstance(items, Sized):
            total = start + len(items)
        done = start
        self.progress(done, total, message, unit=unit)
        for item in items:
            self.raise_if_cancelled()
            yield item
            done += 1
            self.progress(done, total, message, unit=unit)

    def checkpoint(self, value: Any, *, every: Duration | None = None) -> None:
        """Save a JSON value from which the next attempt resumes; with `every`, at most that often.

        Raises ConfigError when it is no JSON or larger than the limit.
        """
        now = time.monotonic()
        if every is not None and now - self._saved_at < seconds(every, "every"):
            return
        try:
            data = codec.encode(value)
        except codec.NotJson as error:
            message = f"The checkpoint cannot be written as JSON: {error}"
            raise ConfigError(message) from None
        if len(data) > self._max_checkpoint:
            message = (
                f"The checkpoint takes {len(data):,} bytes, the limit is {self._max_checkpoint:,}."
                " Store the data elsewhere and save a reference to it, or raise max_result."
            )
            raise ConfigError(message)
        self._checkpoint = data
        self._saved_at = now
        self._reporter.checkpoint(data)

    def resume(self, default: Any = None) -> Any:
        """The last checkpoint of this job, from this or an earlier attempt, or `default`."""
        return default if self._checkpoint is None else codec.decode(self._checkpoint)


class Log:
    """The job's own log: its lines are kept with the job and streamed to whoever follows it."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def debug(self, message: object, *args: object) -> None:
        """A line for whoever looks for a fault; `args` are %-formatted into `message`, as in `logging`."""
        self._write("debug", message, args)

    def info(self, message: object, *args: object) -> None:
        """A line that says what happens."""
        self._write("info", message, args)

    def warning(self, message: object, *args: object) -> None:
        """A line that somebody should read."""
        self._write("warning", message, args)

    def error(self, message: object, *args: object) -> None:
        """A line about what went wrong."""
        self._write("error", message, args)

    def _write(self, level: str, message: object, args: tuple[object, ...]) -> None:
        self._reporter.log(level, _clean(_formatted(str(message), args)))


def _formatted(message: str, args: tuple[object, ...]) -> str:
    if not args:
        return message
    values = args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args
    try:
        return message % values
    except (TypeError, ValueError, KeyError):  # as with `logging`, a wrong format costs no job
        return f"{message} {args!r}"


def _number(value: Any) -> float | None:
    """A finite number as Python's own (numpy's are no JSON), else None."""
    if value is None or (type(value) is int and abs(value) < _EXACT):
        return value
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str | None:
    return None if value is None else _clean(str(value))


def _clean(text: str) -> str:
    # File names may hold lone surrogates, which JSON cannot.
    return text.encode("utf-8", "backslashreplace").decode()


class _Recorder:
    """The reporter of a fake context."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, Any]] = []

    def progress(self, value: dict[str, Any]) -> None:
        self.reports.append(("progress", value))

    def checkpoint(self, value: bytes) -> None:
        self.reports.append(("checkpoint", codec.decode(value)))

    def log(self, level: str, message: str) -> None:
        self.reports.append(("log", (level, message)))

    def cancelled(self) -> bool:
        return False
