"""The application object: registers tasks, opens the store, builds the client. The one file that knows every part."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from heavylift.bound_task import BoundTask
from heavylift.context import Context
from heavylift.core import keys
from heavylift.core.dependency import Provide
from heavylift.core.errors import ConfigError, UnknownTask
from heavylift.core.options import Options, OptionValues
from heavylift.core.task import Task, define
from heavylift.definition import Definition, Handler
from heavylift.origin import application
from heavylift.settings import Settings
from heavylift.store import SystemClock
from heavylift.stores import open_store, resolved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime
    from os import PathLike
    from types import FrameType

    from fastapi import APIRouter
    from fastapi.params import Depends
    from starlette.applications import Starlette

    from heavylift.client import Client, Handle
    from heavylift.core.job import Job
    from heavylift.core.queue import Limits, Queue
    from heavylift.core.result import Receipt
    from heavylift.core.units import Duration
    from heavylift.executor import Application
    from heavylift.executors.command import CommandResult
    from heavylift.monolith import Monolith
    from heavylift.store import Clock, Store
    from heavylift.sync import Sync

P = ParamSpec("P")
R = TypeVar("R")
Hook = TypeVar("Hook", bound="Callable[[], None]")


class Heavylift:
    """An application: `lift = Heavylift("sqlite:///jobs.db")` at the top of a module, then `@lift.task`.

    `store` is the URL that says where jobs live (default: HEAVYLIFT_STORE, else sqlite:///heavylift.db);
    `imports` names further modules that define tasks; other keyword arguments are settings (see `Settings`).
    Raises ConfigError for a bad URL or setting.
    """

    def __init__(self, store: str | None = None, *, imports: Sequence[str] = (), **settings: Any) -> None:
        if isinstance(imports, str):
            message = f"imports: {imports!r} is one text; give a list of module names, such as ['{imports}']."
            raise ConfigError(message)
        self.given_settings = {name: value for name, value in settings.items() if value is not None}
        if store is not None:
            self.given_settings["store"] = store
        self.settings = Settings.load(**self.given_settings)
        self.imports = tuple(imports)
        self.registry: dict[str, Task] = {}
        self.host_start_hooks: list[Callable[[], None]] = []
        self.dependency_overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        """Functions that take the place of providers, for tests: `lift.dependency_overrides[open_session] = fake`."""
        self._made_in = _caller(sys._getframe(1))  # noqa: SLF001  as logging and namedtuple do, to find the caller's module
        self._clock: Clock = SystemClock()
        self._url = _resolved(self.settings)
        self._client: Client | None = None
        self._monolith: Monolith | None = None
        self._lends_worker = True
        """Whether a web process gets a worker beside it."""
        self._sync: Sync | None = None
        self._parts: dict[str, Any] = {}
        """The same, for threads that ask for one at the same moment: the first one made is everybody's."""

    @property
    def client(self) -> Client:
        """The verbs of callers, on the store."""
        if self._client is None:
            # Hosts import the application too, and most of them need neither a client nor an event loop.
            from heavylift.client import Client

            made = Client(open_store(self._url, self._clock), self._clock, self.settings.max_payload)
            self._client = self._parts.setdefault("client", made)
        return self._client

    @property
    def sync(self) -> Sync:
        """The verbs of callers for code without an event loop: `lift.sync.result(handle)`."""
        if self._sync is None:
            from heavylift.sync import Sync  # few processes need it

            def handle(job: Job) -> Handle[Any]:
                return self.client.handle(job, self.registry.get(job.task))

            made = Sync(self._second_client, handle, self.registry.get)
            self._sync = self._parts.setdefault("sync", made)
        return self._sync

    async def _second_client(self) -> Client:
        """A client for another event loop, on the same store."""
        from heavylift.client import Client

        if self._url.startswith("memory:"):
            await self.client.open()  # only then its URL leads to it
        client = Client(open_store(self.store_url, self._clock), self._clock, self.settings.max_payload)
        await client.open()
        return client

    @property
    def store(self) -> Store:
        """Where the jobs live."""
        return self.client.store

    @property
    def store_url(self) -> str:
        """The URL of the store, as other processes can open it."""
        return self._url if self._client is None else self.store.url

    def override(self, **settings: Any) -> None:
        """Settings that win over those in the code, as a command line gives them; before the store is opened.

        Raises ConfigError as the constructor does.
        """
        self.given_settings = self.given_settings | settings
        self.settings = Settings.load(**self.given_settings)
        self._url = _resolved(self.settings)
        if self._client is not None:
            self._client.use(open_store(self._url, self._clock), self._clock, self.settings.max_payload)

    @contextlib.contextmanager
    def overridden(self, *, clock: Clock | None = None, **settings: Any) -> Iterator[None]:
        """For tests: other settings, and another clock, until the block ends; meanwhile `lifespan` starts no worker.

        Raises ConfigError as `override` does, and when the store was opened before or is left open.
        """
        before = self.given_settings, self._clock, self._lends_worker
        self._clock = self._clock if clock is None else clock
        self._lends_worker = False
        try:
            self._close_sync()
            self.override(**settings)
            yield
        finally:
            self.given_settings, self._clock, self._lends_worker = before
            self._close_sync()
            self.override()

    def _close_sync(self) -> None:
        """Let code without a loop open the store anew, where it is by then."""
        if self._sync is not None:
            self._sync.close()

    # --- tasks -------------------------------------------------------------------------------------------------

    @overload
    def task(
        self, function: Callable[Concatenate[Context, P], Awaitable[R]], /
    ) -> BoundTask[Concatenate[Context, P], P, Awaitable[R], R]: ...
    @overload
    def task(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> BoundTask[Concatenate[Context, P], P, R, R]: ...
    @overload
    def task(self, function: Callable[P, Awaitable[R]], /) -> BoundTask[P, P, Awaitable[R], R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> BoundTask[P, P, R, R]: ...
    @overload
    def task(self, *, name: str | None = None, **options: Unpack[OptionValues]) -> Handler: ...
    def task(self, *function: Any, name: str | None = None, **options: Any) -> Any:
        """Make a function a task: `@lift.task` or `@lift.task(timeout="10m", queue="reports", …)`.

        The name is `name` or the function's own. Raises ConfigError for a name that is taken, an unknown option, and a
        function that cannot be called by name.
        """
        checked = Options().using(**options)
        if not function:
            return lambda decorated: self._register(decorated, name, checked, options)
        return self._register(function[0], name, checked, options)

    def command(  # noqa: PLR0913  a program's options are many, and all given by name
        self,
        name: str,
        argv: Sequence[str],
        args: Mapping[str, Any] | None = None,
        *,
        progress: str | None = None,
        ok_exit_codes: Collection[int] = (0,),
        give_up_exit_codes: Collection[int] = (),
        cwd: str | PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        **options: Unpack[OptionValues],
    ) -> BoundTask[..., ..., CommandResult, CommandResult]:
        """Make a program a task: `lift.command("transcode", ["ffmpeg", "-i", "{src}", "{dst}"])`. There is no shell.

        `{src}` stands for an argument of the job; `args` has their types (default: texts), and a list that stands alone
        becomes many. What the program writes is the job's log; `progress` is a regular expression with groups named
        done, total, percent, message or phase. Other exit codes than `ok_exit_codes` fail the attempt, and those of
        `give_up_exit_codes` the job. `env` is added to the worker's environment. Raises ConfigError as `task` does.
        """
        from heavylift.executors.command import Command, command_function  # few applications have commands

        program = Command(argv, progress, ok_exit_codes, give_up_exit_codes, cwd, env)
        function = command_function(name, program, args)
        found: BoundTask[..., ..., CommandResult, CommandResult] = self._register(
            function, name, Options().using(**options), options
        )
        return found

    def define(self, name: str) -> Definition:
        """Define a task step by step, of a function that is not to be decorated:
        `lift.define("download").options(timeout="30m").handler(function)`.
        """

        def register(function: Any, name: str, options: Mapping[str, Any], providers: Mapping[str, Provide]) -> Any:
            return self._register(function, name, Options().using(**options), options, providers)

        return Definition(name, register)

    def on_host_start(self, hook: Hook) -> Hook:
        """Run a function in each host when it starts, before its first job: seed, connect, warm up."""
        self.host_start_hooks.append(hook)
        return hook

    def find_task(self, name: str) -> BoundTask[..., ..., Any, Any]:
        """The task of that name; raises UnknownTask."""
        task = self.registry.get(name)
        if task is None:
            raise UnknownTask(name, self.registry)
        return BoundTask(task, lambda: self.client, sync=lambda: self.sync)

    def _register(
        self,
        function: Any,
        name: str | None,
        options: Options,
        given: Collection[str],
        providers: Mapping[str, Provide] | None = None,
    ) -> Any:
        if not callable(function):  # for callers without a type checker
            message = f"{function!r} is no function; use @lift.task or @lift.task(option=…)."
            raise ConfigError(message)
        task = define(function, name, options, Context, given, providers)
        if task.name in self.registry:
            message = f"There is a task {task.name!r} already; give this one another name=."
            raise ConfigError(message)
        keys.check_agreement(task, self.registry.values())
        following = task.options.on_exhausted
        if following is not None and following.task not in self.registry:
            message = (
                f"on_exhausted: task {following.task!r} is not of this application; define it here, and before"
                f" {task.name!r}."
            )
            raise ConfigError(message)
        self.registry[task.name] = task
        return BoundTask(task, lambda: self.client, sync=lambda: self.sync)

    # --- jobs --------------------------------------------------------------------------------------------------

    async def get(self, job_id: str) -> Handle[Any]:
        """The job's handle; raises JobNotFound."""
        job = await self.client.get(job_id)
        return self.client.handle(job, self.registry.get(job.task))

    def find(
        self,
        *,
        state: str | Sequence[str] = (),
        task: str | None = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Job]:
        """All matching jobs, newest first."""
        return self.client.find(state=state, task=task, queue=queue, labels=labels)

    async def cancel(
        self, job_id: str, *, grace: Duration | None = None, force: bool = False, reason: str | None = None
    ) -> Receipt:
        """Stop a job; the receipt says what really happened. Raises JobNotFound, JobFinished."""
        return await self.client.cancel(job_id, grace=grace, force=force, reason=reason)

    async def retry(self, job_id: str, *, from_checkpoint: bool = True) -> Handle[Any]:
        """Start a job that is over anew, from its checkpoint or from the start; raises JobNotFound, JobNotFinished,
        DuplicateJob.
        """
        job = await self.client.retry(job_id, from_checkpoint=from_checkpoint)
        return self.client.handle(job, self.registry.get(job.task))

    async def move(
        self,
        job_id: str,
        *,
        priority: int | None = None,
        run_at: datetime | str | float | None = None,
        delay: Duration | None = None,
    ) -> Handle[Any]:
        """Give a waiting job another place in the line: a priority, a time to run at or a delay from now. Raises
        JobNotFound, and JobNotWaiting when it has begun or is over.
        """
        job = await self.client.move(job_id, priority=priority, run_at=run_at, delay=delay)
        return self.client.handle(job, self.registry.get(job.task))

    # --- queues ------------------------------------------------------------------------------------------------

    async def queues(self) -> list[Queue]:
        """All queues, their settings and what stands in them."""
        return await self.client.queues()

    async def pause(self, queue: str, *, by: str | None = None, reason: str | None = None) -> Queue:
        """Start no more jobs of this queue; running ones go on. Who pauses it, and why, is shown to all who look."""
        return await self.client.pause(queue, by=by, reason=reason)

    async def resume(self, queue: str) -> Queue:
        """Start jobs of this queue again."""
        return await self.client.resume(queue)

    async def set_queue(self, queue: str, **limits: Unpack[Limits]) -> Queue:
        """Limit a queue: `concurrency`, `rate`, `max_size`, `keep`. None lifts a limit, and what is not given stays as
        it is. Raises ConfigError, also for a `max_size` below the number of jobs that wait.
        """
        return await self.client.set_queue(queue, **limits)

    # --- life --------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the store, creating an empty one's schema; first use does it too."""
        await self.client.open()

    async def close(self) -> None:
        """End streams and let go of the store."""
        if self._sync is not None:
            import asyncio

            await asyncio.to_thread(self._sync.close)
        await self.client.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """For a web application: `FastAPI(lifespan=lift.lifespan)`. Opens the store, and starts a worker beside the
        web process, as `with_worker` does; none with the role "api".
        """
        async with self if self.settings.role == "api" else self.with_worker():
            yield

    @contextlib.asynccontextmanager
    async def with_worker(self) -> AsyncIterator[None]:
        """The store is open, and a worker beside this process is warm; on the way out the worker drains.

        Raises ConfigError for the role "worker": a web process is none.
        """
        await self.open()
        try:
            async with self.worker() if self._lends_worker else contextlib.nullcontext():
                yield
        finally:
            await self.close()

    @contextlib.asynccontextmanager
    async def worker(self, origin: Application | None = None) -> AsyncIterator[None]:
        """A worker in a process of its own, warm when this yields; on the way out it drains. `origin` says where it
        finds this application: by default where this process made it.

        Raises ConfigError when it cannot start.
        """
        from heavylift.monolith import Monolith  # hosts import this module too, and have no use for it

        if self.settings.role == "worker":
            source = self.settings.origins["role"]
            message = f"{source} is 'worker', and this is a web process: run `heavylift worker APP` instead of it."
            raise ConfigError(message)
        worker = self._monolith = Monolith(origin or self.origin(), self.worker_settings(), self.store_url)
        try:
            await worker.start()
            yield
        finally:
            self._monolith = None
            await worker.close()

    def stopping(self) -> None:
        """This process was told to stop: it takes over no worker from another one any more."""
        if self._monolith is not None:
            self._monolith.resign()

    def asgi(self, role: Literal["monolith", "api"] | None = None) -> Starlette:
        """The HTTP API as an ASGI application. Served by itself, it starts a worker as `lifespan` does, unless `role`
        (by default the setting) is "api"; mounted into another application its lifespan never runs: give that one
        `lifespan=lift.lifespan`.
        """
        from heavylift.http.api import build

        return build(self, role or ("api" if self.settings.role == "api" else "monolith"))

    def router(
        self, prefix: str = "/v1", *, dependencies: Sequence[Depends] = (), tags: Sequence[str] = ()
    ) -> APIRouter:
        """The HTTP API for a FastAPI application: `app.include_router(lift.router())`, beside
        `FastAPI(lifespan=lift.lifespan)`. Each task that was defined before has its typed operation in the description
        of the application. `dependencies` (`[Depends(current_user)]`) are asked before each of its routes; `tags`
        stand in the place of its own. Raises ConfigError without FastAPI.
        """
        try:
            from heavylift.http.router import build
        except ModuleNotFoundError as error:
            message = f"A router needs FastAPI, and {error.name} is missing: pip install 'heavylift[web]'."
            raise ConfigError(message) from None

        return build(self, prefix, dependencies, tags)

    def worker_settings(self) -> dict[str, Any]:
        """What a worker of this application is to be told: the given settings, and the store as it was opened."""
        return self.given_settings | {"store": self.store_url}

    def origin(self) -> Application:
        """Where other processes find this object: its module, or file, and its name there.

        Raises ConfigError when it is no module-level name.
        """
        return application(self, *self._made_in, self.imports)


def _resolved(settings: Settings) -> str:
    """The URL of the store; raises ConfigError that says where a URL of no store came from."""
    try:
        return resolved(settings.store)
    except ConfigError as error:
        source = settings.origins.get("store", "store")
        if source == "store":
            raise
        message = f"{source}: {error} (HEAVYLIFT_STORE wins over deployment names and pyproject.toml.)"
        raise ConfigError(message) from None


def _caller(frame: FrameType) -> tuple[str, dict[str, Any]]:
    return frame.f_globals.get("__name__", "__main__"), frame.f_globals
