"""The application object: registers tasks, opens the store, builds the client. The one file that knows every part."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from heavylift.bound_task import BoundTask
from heavylift.context import Context
from heavylift.core.dependency import Provide
from heavylift.core.errors import ConfigError, UnknownTask
from heavylift.core.options import Options, OptionValues
from heavylift.core.task import Task, define
from heavylift.definition import Definition, Handler
from heavylift.executor import Application
from heavylift.settings import Settings
from heavylift.store import SystemClock
from heavylift.stores import open_store, resolved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
    from types import FrameType

    from starlette.applications import Starlette

    from heavylift.client import Client, Handle, Receipt
    from heavylift.core.job import Job
    from heavylift.core.units import Duration
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
        self._url = resolved(self.settings.store)
        self._client: Client | None = None
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
        self.given_settings |= settings
        self.settings = Settings.load(**self.given_settings)
        self._url = resolved(self.settings.store)
        if self._client is not None:
            self._client.use(open_store(self._url, self._clock), self.settings.max_payload)

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

    def define(self, name: str) -> Definition:
        """Define a task step by step, of a function that is not to be decorated:
        `lift.define("download").options(timeout="30m").handler(function)`.
        """

        def register(
            function: Any, name: str, options: Mapping[str, Any], providers: Mapping[str, Provide]
        ) -> Any:
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

    async def retry(self, job_id: str) -> Handle[Any]:
        """Start a job that is over anew; raises JobNotFound, JobNotFinished."""
        job = await self.client.retry(job_id)
        return self.client.handle(job, self.registry.get(job.task))

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
        web process, which is warm when this yields; on the way out the worker drains.
        """
        from heavylift.monolith import Monolith  # hosts import this module too, and have no use for it

        await self.open()
        worker = Monolith(self.origin(), self.worker_settings(), self.store_url)
        try:
            await worker.start()
            yield
        finally:
            # Streams first: an open one must not hold up the drain of the worker.
            await worker.close()
            await self.close()

    def asgi(self, role: Literal["monolith", "api"] = "monolith") -> Starlette:
        """The HTTP API as an ASGI application. Served by itself, it starts a worker as `lifespan` does, unless `role`
        is "api"; mounted into another application its lifespan never runs: give that one `lifespan=lift.lifespan`.
        """
        from heavylift.http.api import build

        return build(self, role)

    def worker_settings(self) -> dict[str, Any]:
        """What a worker of this application is to be told: the given settings, and the store as it was opened."""
        return self.given_settings | {"store": self.store_url}

    def origin(self) -> Application:
        """Where other processes find this object: its module, or file, and its name there.

        Raises ConfigError when it is no module-level name.
        """
        module, namespace = self._made_in
        attribute = next((name for name, value in namespace.items() if value is self), None)
        if attribute is None:
            message = (
                f"The Heavylift object made in {module!r} has no name there; its worker could not find it."
                " Assign it to a module-level variable: lift = Heavylift(…)."
            )
            raise ConfigError(message)
        return Application(_target(module, namespace), attribute, self.imports, (str(Path.cwd()),))


def _caller(frame: FrameType) -> tuple[str, dict[str, Any]]:
    return frame.f_globals.get("__name__", "__main__"), frame.f_globals


def _target(module: str, namespace: dict[str, Any]) -> str:
    """The module's name, or for a program that was run, what it was run from (as multiprocessing does it)."""
    if module != "__main__":
        return module
    spec = namespace.get("__spec__")
    if spec is not None and spec.name:
        return str(spec.name)
    path = namespace.get("__file__")
    if path is None:
        message = "A Heavylift object made in an interactive session cannot have a worker; put it into a file."
        raise ConfigError(message)
    return str(Path(path).absolute())
