"""What running task code is given: progress, checkpoints, steps, a log, clean-ups, and the news that it is to stop."""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sized
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar, overload

from heavylift.core import checkpoint as checkpoints
from heavylift.core import codec
from heavylift.core.ending import Exit, chained, refuse_awaitable
from heavylift.core.errors import Cancelled, ConfigError, shown
from heavylift.core.log import Log, number, text
from heavylift.core.options import Options
from heavylift.core.task import Task
from heavylift.core.units import Duration, seconds
from heavylift.reporter import Limited, Recorder, Reporter, await_turn, checked_rate, turn_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator
    from types import TracebackType

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")


class Submittable(Protocol[P, T_co]):
    """A task that can submit itself."""

    @property
    def options(self) -> Options:
        """How its jobs are to be run."""

    def using(self, *, labels: Mapping[str, str]) -> Submittable[P, T_co]:
        """The same with other labels."""

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T_co]:
        """Queue a job."""

    def submit_sync(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Queue a job, without an event loop."""


class Context:
    """One attempt, seen from inside. Tasks get it by annotating a parameter: `def build(ctx: Context, …)`.

    Whoever makes one ends it: first `leave`, then `close`. `labels` are the job's; `temporary` is the folder in which
    `tempdir` is made, the system's own by default.
    """

    def __init__(  # noqa: PLR0913  what there is to know of an attempt, each by its name
        self,
        reporter: Reporter,
        *,
        job_id: str,
        task: str,
        attempt: int,
        failures: int = 0,
        checkpoint: bytes | None = None,
        max_checkpoint: int = 2**20,
        labels: Mapping[str, str] | None = None,
        temporary: str | None = None,
    ) -> None:
        self.job_id = job_id
        self.task = task
        self.attempt = attempt
        """The number of this start of the job, from 1; grows at each start and is never reused."""
        self.failures = failures
        self.log = Log(reporter)
        self.labels: Mapping[str, str] = labels or {}
        """The job's labels."""
        self.exits: list[Exit] = []
        """What `leave` does, the last one first."""
        self._reporter = reporter
        self._saved = checkpoints.read(checkpoint)
        self._max_checkpoint = max_checkpoint
        self._saved_at = float("-inf")
        self._begun_steps: set[str] = set()
        self._shields = 0
        self._temporary, self._tempdir = temporary, ""

    @classmethod
    def fake(cls, *, checkpoint: Any = None, attempt: int = 1) -> Context:
        """A context for calling a task as a plain function: its reports go to `ctx.reports`. `with Context.fake() as
        ctx` also does at its end what is done at that of an attempt.
        """
        reporter = Recorder()
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
        """A cancel point: raises Cancelled when the job was asked to stop (not under a shield, and not at the end)."""
        if not self._shields and self.cancelled:
            raise Cancelled

    def shield(self, name: str) -> Shield:
        """`with ctx.shield("publish"):` keeps together what must not be torn: a stop that comes meanwhile is raised at
        its end. The job is killed all the same when the grace is over.
        """
        return Shield(self, self._reporter, name)

    def limit(self, key: str, rate: str) -> Limited:
        """Wait for the next free place in a rate that is shared by all jobs, workers and machines of the store, and a
        cancel point: `with ctx.limit("crm", "10/s"):`, or the call alone. Where an event loop runs, `async with
        ctx.limit(…):`, or `await ctx.limit(…)`.

        It is the rate of `limits=[Rate("10/s", key="crm")]`; who gives another one changes it for all. Raises
        ConfigError for what is no rate or no key.
        """
        wanted = checked_rate(key, rate)
        if is_loop_running():
            return Limited(turn_of(lambda: self._reporter.reserve(wanted), self.raise_if_cancelled))
        self.raise_if_cancelled()
        await_turn(self._reporter.reserve(wanted), self.raise_if_cancelled)
        return Limited()

    def idempotency_key(self, name: str = "") -> str:
        """A text of 36 characters for other systems, by which they know a request again: the same in every attempt of
        this job, another one for each `name`.
        """
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"heavylift:{self.job_id}/{name}"))

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
        done, total = number(done), number(total)
        percent = None
        if done is not None and total:
            percent = min(100.0, max(0.0, 100.0 * done / total))
        value = {
            "done": done,
            "total": total,
            "percent": percent,
            "message": text(message),
            "phase": text(phase),
            "unit": text(unit),
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
        self._save(replace(self._saved, value=data), "The checkpoint")
        self._saved_at = now

    def resume(self, default: Any = None) -> Any:
        """The last checkpoint of this job, from this or an earlier attempt, or `default`."""
        return default if self._saved.value is None else codec.decode(self._saved.value)

    @overload
    def step(
        self, name: str, function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]: ...
    @overload
    def step(self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """What the function returns. It is kept with the checkpoint, as JSON: a later attempt gets it from there, and
        does not call the function again. For a coroutine function it is an awaitable.

        A function that was interrupted is called again. Raises ConfigError for a name that this attempt has used
        before, and for a result that is no JSON, does not fit the function's annotation, or is too large.
        """
        if name in self._begun_steps:
            message = f"This attempt has begun a step {shown(name)} before; give each step a name of its own."
            raise ConfigError(message)
        self._begun_steps.add(name)
        results = Task(f"step {name}", function, _NO_OPTIONS)
        kept = self._saved.steps.get(name)
        if inspect.iscoroutinefunction(function):
            return self._awaited_step(name, kept, results, args, kwargs)
        if kept is None:
            value = function(*args, **kwargs)
            kept = self._keep_step(name, results, value)
        return _result_of_step(name, results, kept)

    async def _awaited_step(self, name: str, kept: bytes | None, results: Task, args: Any, kwargs: Any) -> Any:
        if kept is None:
            kept = self._keep_step(name, results, await results.function(*args, **kwargs))
        return _result_of_step(name, results, kept)

    def _keep_step(self, name: str, results: Task, value: Any) -> bytes:
        # A stop between the function's end and here would have it called again.
        self._reporter.shield()
        try:
            try:
                data = results.encode_result(value)
            except codec.NotJson as error:
                message = f"The result of step {shown(name)} cannot be kept as JSON: {error}"
                raise ConfigError(message) from None
            steps = {**self._saved.steps, name: data}
            self._save(replace(self._saved, steps=steps), f"The checkpoint with the result of step {shown(name)}")
        except BaseException:
            self._reporter.unshield(name, quiet=True)
            raise
        self._reporter.unshield(name, quiet=False)
        return data

    def _save(self, saved: checkpoints.Saved, what: str) -> None:
        data = checkpoints.written(saved)
        if len(data) > self._max_checkpoint:
            message = (
                f"{what} takes {len(data):,} bytes, the limit is {self._max_checkpoint:,}."
                " Store the data elsewhere and save a reference to it, or raise max_result."
            )
            raise ConfigError(message)
        self._saved = saved
        self._reporter.checkpoint(data)

    def submit(self, task: Submittable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Queue a job of another task (or of this one) with these arguments: its handle, or where an event loop runs,
        an awaitable of it. The job gets this one's labels, the label `parent` with this job's id, and the task's own.

        A job that is tried again submits again: `task.using(unique=ctx.idempotency_key("…"))` gets the first one
        back. Raises as `BoundTask.submit` does.
        """
        bound = task.using(labels={**self.labels, **task.options.labels, "parent": self.job_id})
        if is_loop_running():
            return bound.submit(*args, **kwargs)
        return bound.submit_sync(*args, **kwargs)

    # --- the end of the attempt --------------------------------------------------------------------------------------

    def on_exit(self, function: Callable[[], Any]) -> None:
        """Call a function when the attempt ends, also when it fails or is stopped: the last one registered first. In
        an `async def` task it may be a coroutine function.

        It is not interrupted by a stop. What it raises fails the job.
        """
        self.exits.append(lambda _error: function())

    @property
    def has_folder(self) -> bool:
        """Whether `tempdir` was made, for `close` to remove."""
        return bool(self._tempdir)

    @property
    def tempdir(self) -> Path:
        """A folder of this attempt's own, for this user alone; it goes when the attempt is over, however it ends."""
        if not self._tempdir:
            if self._temporary is not None:
                Path(self._temporary).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._tempdir = tempfile.mkdtemp(prefix=f"heavylift-{self.task[:40]}-", dir=self._temporary)
        return Path(self._tempdir)

    def leave(self, error: BaseException | None) -> BaseException | None:
        """The code has ended, with `error` or without: do what is to be done at the end, the last one first. Returns
        the error that remains: what was raised last, with what was there before as its context.
        """
        self.hold()
        while self.exits:
            try:
                refuse_awaitable(self.exits.pop()(error))
            except BaseException as raised:  # noqa: BLE001  clean-ups are user code
                error = chained(raised, error)
        return error

    def hold(self) -> None:
        """From now on no cancel point raises."""
        self._shields += 1

    def release(self) -> None:
        """The end of `hold`."""
        self._shields -= 1

    def close(self) -> None:
        """Remove the temporary folder, as far as that can be done."""
        folder, self._tempdir = self._tempdir, ""
        if folder:
            remove_folder(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        left = self.leave(error)
        self.close()
        if left is not None and left is not error:
            raise left


class Shield:
    """See `Context.shield`."""

    def __init__(self, context: Context, reporter: Reporter, name: str) -> None:
        self._context, self._reporter, self._name = context, reporter, name

    def __enter__(self) -> None:
        self._reporter.shield()
        self._context.hold()

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._context.release()
        self._reporter.unshield(self._name, quiet=error is not None)


def _result_of_step(name: str, results: Task, kept: bytes) -> Any:
    try:
        return results.decode_result(kept)
    except ValueError as error:
        message = (
            f"The kept result of step {shown(name)} does not fit the annotation of its function (any more): {error};"
            " give the step another name when its result changes."
        )
        raise ConfigError(message) from None


def is_loop_running() -> bool:
    """Whether an event loop runs on this thread."""
    asyncio = sys.modules.get("asyncio")  # most hosts need none, and do not pay for it
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def remove_folder(folder: str) -> bool:
    """Remove a folder with all that is in it; whether it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        # Nothing can be removed from a folder that must not be written, or not be read.
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o700)
        for here, folders, _ in os.walk(folder):
            for name in folders:
                with contextlib.suppress(OSError):
                    if not (inner := Path(here, name)).is_symlink():
                        inner.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)


_NO_OPTIONS = Options()

OWN_CODE = frozenset({Context.step.__code__, Context._keep_step.__code__})  # noqa: SLF001  its own module
"""Code that must not be stopped between the end of a step and the note of it."""
