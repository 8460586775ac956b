"""What `@lift.task` makes of a function: still callable, and able to submit itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, Unpack, overload

from heavylift.context import is_loop_running
from heavylift.core import codec, keys
from heavylift.core.errors import ConfigError, InvalidArguments, SubmitError, shown
from heavylift.core.job import check_id
from heavylift.core.options import FollowUp
from heavylift.core.task import check_fit
from heavylift.store import Added
from heavylift.submission import accepted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from heavylift.client import Client, Handle
    from heavylift.core.errors import HeavyliftError
    from heavylift.core.job import Job
    from heavylift.core.options import Options, OptionValues
    from heavylift.core.task import Task
    from heavylift.submission import Request
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
        job_id: str | None = None,
    ) -> None:
        self.task = task
        self.options = task.options if options is None else options
        self.job_id = job_id
        """The id of the next job, None for one that is made."""
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

    def using(self, *, id: str | None = None, **options: Unpack[OptionValues]) -> BoundTask[F, P, C, R]:
        """The same task with other options for what is submitted next: `using(priority=5, delay="10m")`.

        `id` is the job's: to submit it again, with the same arguments, gives the job that is there. Raises ConfigError
        for an unknown option or value, for one that does not fit the task or the others, and for an id that is none.
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
        check_fit(self.task, changed)
        job_id = self.job_id if id is None else check_id(id)
        return BoundTask(self.task, self._client, changed, sync=self._sync, job_id=job_id)

    def follow_up(self) -> FollowUp:
        """This task as what follows a job that has failed: `on_exhausted=alert`. Its options are filled in now, as its
        one argument is not known yet.

        Raises ConfigError when it does not take `job_id` alone, or its keys depend on that.
        """
        try:
            args = self.task.bind_json(codec.encode({"job_id": "order-7"}), _ANY_SIZE)
            options = keys.resolved(self.task, args, self.options)
        except InvalidArguments as error:
            details = "; ".join(f"{problem.pointer or '/'}: {problem.detail}" for problem in error.problems)
            message = (
                f"on_exhausted: task {self.name!r} is submitted with `job_id` alone, the id of the job that has failed,"
                f" and does not take it so: {details}. Define it as `def {self.name}(job_id: str)`."
            )
            raise ConfigError(message) from None
        if "job_id" in keys.arguments_named(self.task, self.options):
            message = (
                f"on_exhausted: a key of task {self.name!r} depends on its job_id, which is known only when a job has"
                " failed; give it another one, or none."
            )
            raise ConfigError(message)
        if self.job_id is not None:
            message = f"on_exhausted: many jobs of task {self.name!r} may follow, and {shown(self.job_id)} names one."
            raise ConfigError(message)
        return FollowUp(self.name, options)

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Queue a job with these arguments; it is durable when this returns.

        Raises InvalidArguments (also for a key that it gives no value), PayloadTooLarge, QueueFull or DuplicateJob, and
        JobPruned for an id whose job is gone: then nothing was queued.
        """
        [job] = await self._client().submit([self._request(args, kwargs)], self._own_id())
        return self._handle(job)

    @overload
    async def submit_many(
        self,
        args: Sequence[Sequence[Any]] = ...,
        *,
        kwargs: Sequence[Mapping[str, Any]] = ...,
        ids: Sequence[str] = ...,
        return_exceptions: Literal[False] = ...,
    ) -> list[Handle[R]]: ...

    @overload
    async def submit_many(
        self,
        args: Sequence[Sequence[Any]] = ...,
        *,
        kwargs: Sequence[Mapping[str, Any]] = ...,
        ids: Sequence[str] = ...,
        return_exceptions: bool,
    ) -> list[Handle[R] | HeavyliftError]: ...

    async def submit_many(
        self,
        args: Sequence[Sequence[Any]] = (),
        *,
        kwargs: Sequence[Mapping[str, Any]] = (),
        ids: Sequence[str] = (),
        return_exceptions: bool = False,
    ) -> list[Handle[R]] | list[Handle[R] | HeavyliftError]:
        """Queue a job for each tuple of positional arguments, then for each mapping of named ones: one write, or one
        for about 200 of them where they are more. `ids` names all of them, in this order, or none.

        All arguments are checked before anything is queued. What is refused then (QueueFull, DuplicateJob, JobPruned)
        is the only one refused: the first such error is raised, or with `return_exceptions` stands in the list, in the
        place of its handle. After StoreUnavailable some may have been queued; with `ids` it is safe to submit again.
        """
        requests, names = self._requests(args, kwargs, ids)
        return self._handles(await self._client().add(requests, names), return_exceptions=return_exceptions)

    def submit_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Like `submit`, for code without an event loop: blocks until the job is durable.

        Raises ConfigError where an event loop runs, which it would hold up.
        """
        [job] = accepted(self._verbs("submit").add([self._request(args, kwargs)], self._own_id()))
        return self._handle(job)

    @overload
    def submit_many_sync(
        self,
        args: Sequence[Sequence[Any]] = ...,
        *,
        kwargs: Sequence[Mapping[str, Any]] = ...,
        ids: Sequence[str] = ...,
        return_exceptions: Literal[False] = ...,
    ) -> list[Handle[R]]: ...

    @overload
    def submit_many_sync(
        self,
        args: Sequence[Sequence[Any]] = ...,
        *,
        kwargs: Sequence[Mapping[str, Any]] = ...,
        ids: Sequence[str] = ...,
        return_exceptions: bool,
    ) -> list[Handle[R] | HeavyliftError]: ...

    def submit_many_sync(
        self,
        args: Sequence[Sequence[Any]] = (),
        *,
        kwargs: Sequence[Mapping[str, Any]] = (),
        ids: Sequence[str] = (),
        return_exceptions: bool = False,
    ) -> list[Handle[R]] | list[Handle[R] | HeavyliftError]:
        """Like `submit_many`, for code without an event loop. Raises ConfigError where one runs."""
        requests, names = self._requests(args, kwargs, ids)
        return self._handles(self._verbs("submit_many").add(requests, names), return_exceptions=return_exceptions)

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

    def request(self, args: bytes) -> Request:
        """A job to be submitted, of arguments that were bound: its options have no templates any more. Raises
        InvalidArguments when they give a key no value.
        """
        return self.name, args, keys.resolved(self.task, args, self.options)

    def _request(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Request:
        return self.request(self.task.bind(args, kwargs, self._client().max_payload))

    def _requests(
        self, args: Sequence[Sequence[Any]], kwargs: Sequence[Mapping[str, Any]], ids: Sequence[str]
    ) -> tuple[list[Request], list[str]]:
        calls: list[tuple[Sequence[Any], Mapping[str, Any]]] = [(item, {}) for item in args]
        calls += [((), item) for item in kwargs]
        names = [check_id(name) for name in ids]
        if self.job_id is not None or (names and len(names) != len(calls)) or len(set(names)) != len(names):
            message = f"ids: {len(calls)} jobs have as many different ids, or none; give a list, and no using(id=…)."
            raise ConfigError(message)
        return [self._one_of_many(place, *call) for place, call in enumerate(calls)], names

    def _one_of_many(self, place: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Request:
        try:
            return self._request(args, kwargs)
        except SubmitError as error:
            error.add_note(f"These are the arguments of number {place}, counted from 0; nothing was queued.")
            raise

    def _own_id(self) -> list[str]:
        return [] if self.job_id is None else [self.job_id]

    def _handles(
        self, answers: Sequence[Added | HeavyliftError], *, return_exceptions: bool
    ) -> list[Handle[R]] | list[Handle[R] | HeavyliftError]:
        if not return_exceptions:
            return [self._handle(job) for job in accepted(answers)]
        return [self._handle(answer.job) if isinstance(answer, Added) else answer for answer in answers]

    def _handle(self, job: Job) -> Handle[R]:
        return self._client().handle(job, self.task)


_ANY_SIZE = 2**20
_RETRIES = {((Exception,), ())}
