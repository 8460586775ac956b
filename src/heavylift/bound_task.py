"""What `@lift.task` makes of a function: still callable, and able to submit itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

from heavylift.context import is_loop_running
from heavylift.core.errors import ConfigError
from heavylift.core.task import check_place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from heavylift.client import Client, Handle
    from heavylift.core.job import Job
    from heavylift.core.options import Options, OptionValues
    from heavylift.core.task import Task
    from heavylift.sync import Sync

F = ParamSpec("F")
P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")


class BoundTask(Generic[F, P, C, R]):
    """A task and the client that submits it (asked for when it is needed). `F` are the function's parameters, `P` those
    without the Context; a call returns `C`, a job's result is `R`.
    """

    def __init__(
        self,
        task: Task,
        client: Callable[[], Client],
        options: Options | None = None,
        *,
        sync: Callable[[], Sync] | None = None,
    ) -> None:
        self.task = task
        self.options = task.options if options is None else options
        self._client = client
        self._sync = sync
        self.__doc__ = task.function.__doc__
        self.__wrapped__ = task.function

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        return self.task.name

    def __call__(self, *args: F.args, **kwargs: F.kwargs) -> C:
        """Call the function itself, here and now, without any job."""
        result: C = self.task.function(*args, **kwargs)
        return result

    def using(self, **options: Unpack[OptionValues]) -> BoundTask[F, P, C, R]:
        """The same task with other options for what is submitted next: `using(priority=5, delay="10m")`.

        Raises ConfigError for an unknown option or value, and for one that does not fit the task.
        """
        changed = self.options.using(**options)
        mine, default = changed.retry, self.task.options.retry
        if mine is not default and (
            callable(mine.delay) or (mine.on, mine.but) not in _RETRIES | {(default.on, default.but)}
        ):
            message = (
                f"Task {self.name!r}: exception classes and functions cannot travel with a job;"
                " give them to @task(retry=…), and here only attempts and a backoff."
            )
            raise ConfigError(message)
        check_place(self.task, changed)
        return BoundTask(self.task, self._client, changed, sync=self._sync)

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Queue a job with these arguments; it is durable when this returns.

        Raises InvalidArguments, PayloadTooLarge, QueueFull or DuplicateJob: then nothing was queued.
        """
        [job] = await self._client().submit([(self.name, self._bind(args, kwargs), self.options)])
        return self._handle(job)

    async def submit_many(
        self, args: Sequence[Sequence[Any]] = (), *, kwargs: Sequence[Mapping[str, Any]] = ()
    ) -> list[Handle[R]]:
        """Queue a job for each tuple of positional arguments, then for each mapping of named ones: one write.

        Everything is checked before anything is queued.
        """
        return [self._handle(job) for job in await self._client().submit(self._requests(args, kwargs))]

    def submit_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Like `submit`, for code without an event loop: blocks until the job is durable.

        Raises ConfigError where an event loop runs, which it would hold up.
        """
        [job] = self._verbs("submit").submit([(self.name, self._bind(args, kwargs), self.options)])
        return self._handle(job)

    def submit_many_sync(
        self, args: Sequence[Sequence[Any]] = (), *, kwargs: Sequence[Mapping[str, Any]] = ()
    ) -> list[Handle[R]]:
        """Like `submit_many`, for code without an event loop. Raises ConfigError where one runs."""
        return [self._handle(job) for job in self._verbs("submit_many").submit(self._requests(args, kwargs))]

    def _verbs(self, name: str) -> Sync:
        if is_loop_running():
            message = (
                f"{self.name}.{name}_sync(…) would block the event loop that runs on this thread:"
                f" use `await {self.name}.{name}(…)`."
            )
            raise ConfigError(message)
        if self._sync is None:
            message = f"Task {self.name!r} was bound to a client alone; use the one of your Heavylift object."
            raise ConfigError(message)
        return self._sync()

    def _requests(
        self, args: Sequence[Sequence[Any]], kwargs: Sequence[Mapping[str, Any]]
    ) -> list[tuple[str, bytes, Options]]:
        calls: list[tuple[Sequence[Any], Mapping[str, Any]]] = [(item, {}) for item in args]
        calls += [((), item) for item in kwargs]
        return [(self.name, self._bind(positional, named), self.options) for positional, named in calls]

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        return self.task.bind(args, kwargs, self._client().max_payload)

    def _handle(self, job: Job) -> Handle[R]:
        return self._client().handle(job, self.task)


_RETRIES = {((Exception,), ())}
