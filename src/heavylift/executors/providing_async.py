"""In a shared host: the dependencies of `async def` tasks. Apart from `providing`, which needs no event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from heavylift.context import Context
from heavylift.core.dependency import Kind, Provide, Provider
from heavylift.core.ending import ENDED, Exit, chained, is_same, never_yielded, yielded_twice
from heavylift.core.task import Task
from heavylift.executors.providing import Finish, Kept, Stops, opened

T = TypeVar("T")


class AsyncKept(Kept):
    """A `Kept` that coroutines share, too; made and closed on their loop."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.turn = asyncio.Lock()
        """Held while a coroutine opens one."""

    async def aclose(self) -> BaseException | None:
        """Like `close`, where it may await."""
        self.values.clear()
        return await leave(self.exits, None)


class AsyncScope:
    """One attempt of an `async def` task, in the asyncio task that calls `run`. Providers that are not async are called
    in threads.

    That task may be cancelled while `stops.run` is the run's number, and is not to be cancelled else: not during its
    clean-ups. A cancel that meets a provider in a thread waits for its end, so that what it opens is closed.
    """

    def __init__(self, kept: AsyncKept, task: Task, context: Context, stops: Stops, number: int) -> None:
        self._kept, self._task, self._context, self._stops, self._number = kept, task, context, stops, number
        self._values: dict[Provide, Any] = {}

    async def run(self, arguments: dict[str, Any], finish_with: Finish) -> Any:
        """See `Scope.run`."""
        stops, result, error = self._stops, None, None
        stops.run = self._number
        try:
            plan = self._kept.plan(self._task)
            for provider in plan.providers:
                if provider.provide.scope == "host":
                    await self._open_for_host(provider)
                else:
                    await self._open(provider)
            arguments.update(self._arguments(plan.parameters))
            result = await self._task.function(**arguments)
            stops.run = 0
            result = finish_with(result)
        except BaseException as raised:  # noqa: BLE001  whatever it is, it is raised when all is closed
            stops.run = 0
            error = raised
        self._context.hold()
        error = await leave(self._context.exits, error)
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # its traceback holds this frame, which would hold it

    async def _open(self, provider: Provider) -> None:
        arguments = self._arguments(provider.needs)
        if provider.context is not None:
            arguments[provider.context] = self._context
        if provider.kind.is_async:
            value, close = await _opened_async(provider, arguments)
            cancelled = None
        else:
            (value, close), cancelled = await unbroken(asyncio.to_thread(opened, provider, arguments))
        if close is not None:
            self._context.exits.append(close)
        self._values[provider.provide] = value
        if cancelled is not None:
            raise cancelled

    async def _open_for_host(self, provider: Provider) -> None:
        kept, provide, cancelled = self._kept, provider.provide, None
        if provide not in kept.values:
            async with kept.turn:
                arguments = self._arguments(provider.needs)
                if provide in kept.values:
                    pass
                elif provider.kind.is_async:
                    kept.keep(provider, *await _opened_async(provider, arguments))
                else:
                    _, cancelled = await unbroken(asyncio.to_thread(kept.open, provider, arguments))
        if cancelled is not None:
            raise cancelled
        self._values[provide] = kept.values[provide]

    def _arguments(self, needs: Mapping[str, Provide]) -> dict[str, Any]:
        return {name: self._values[need] for name, need in needs.items()}


async def _opened_async(provider: Provider, arguments: Mapping[str, Any]) -> tuple[Any, Exit | None]:
    made = provider.function(**arguments)
    if provider.kind is Kind.COROUTINE:
        return await made, None
    # Between its `yield` and our note of it nothing is awaited, so no cancel comes between.
    value = await anext(made, ENDED)
    if value is ENDED:
        raise never_yielded(provider.name)
    return value, partial(_finish, made, provider.name)


async def _finish(generator: AsyncGenerator[Any, None], name: str, error: BaseException | None) -> None:
    """See `ending.finish`."""
    if error is None:
        if await anext(generator, ENDED) is not ENDED:
            await generator.aclose()
            raise yielded_twice(name)
        return
    traceback = error.__traceback__
    try:
        await generator.athrow(error)
    except StopAsyncIteration:
        error.__traceback__ = traceback
        return
    except BaseException as raised:
        if not is_same(raised, error):
            raise
        error.__traceback__ = traceback
        return
    await generator.aclose()
    raise yielded_twice(name)


async def leave(exits: list[Exit], error: BaseException | None) -> BaseException | None:
    """See `Context.leave`: what is async is awaited, clean-ups of providers that are not are called in threads."""
    while exits:
        close = exits.pop()
        try:
            result = await asyncio.to_thread(close, error) if _is_of_thread(close) else close(error)
            if inspect.isawaitable(result):
                await result
        except BaseException as raised:  # noqa: BLE001  clean-ups are user code
            error = chained(raised, error)
    return error


def _is_of_thread(close: Callable[..., Any]) -> bool:
    return isinstance(close, partial) and close.func is not _finish


async def unbroken(coroutine: Coroutine[Any, Any, T]) -> tuple[T, asyncio.CancelledError | None]:
    """What a coroutine returns; if this task is cancelled meanwhile, the coroutine goes on to its end, and the
    CancelledError that was held back comes with the result.
    """
    inner = asyncio.ensure_future(coroutine)
    held: asyncio.CancelledError | None = None
    while not inner.done():
        try:
            await asyncio.wait([inner])
        except asyncio.CancelledError as error:
            held = error
    return inner.result(), held
