"""Where task code runs: the values of a task's dependencies, from their opening to their clean-up.

`Kept` lives as long as the host and holds the values of scope "host". `Scope` is one attempt on this thread: it opens
what the task needs, calls the function, and closes everything again; `providing_async.AsyncScope` does the same for
`async def`. While code of the user's runs that may be stopped, and only then, `Stops.run` is the number of the run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import CodeType
from typing import Any, Protocol

from heavylift.context import Context
from heavylift.core import dependency
from heavylift.core.dependency import Kind, Plan, Provide, Provider
from heavylift.core.ending import ENDED, Exit, chained, finish, never_yielded
from heavylift.core.task import Task

Overrides = Mapping[Callable[..., Any], Callable[..., Any]]
Finish = Callable[[Any], Any]
"""Makes of what the function returned what the attempt gives; may raise. It is called before anything is closed."""


class Stops(Protocol):
    """Who stops runs: does so only while `run` is the run's number."""

    run: int


class Kept:
    """What a host keeps: the values of scope "host". `opened` is called after each opening."""

    def __init__(self, overrides: Overrides | None = None, opened: Callable[[], None] | None = None) -> None:
        self.values: dict[Provide, Any] = {}
        self.exits: list[Exit] = []
        self.lock = threading.Lock()
        """Held while one is opened by a thread."""
        self._overrides = overrides
        self._opened = opened

    def plan(self, task: Task) -> Plan:
        """What the task needs, as it was defined or with the overrides; raises ConfigError."""
        if not self._overrides or not task.plan.providers:
            return task.plan
        return dependency.plan(task.name, task.function, task.plan.parameters, Context, self._overrides)

    def open(self, provider: Provider, arguments: Mapping[str, Any]) -> Any:
        """The value of a provider that is not async, opened on this thread unless another one has done so; where
        nothing stops this thread.
        """
        with self.lock:
            if provider.provide not in self.values:
                value, leave = opened(provider, arguments)
                self.keep(provider, value, leave)
        return self.values[provider.provide]

    def keep(self, provider: Provider, value: Any, leave: Exit | None) -> None:
        """Keep a value that was opened."""
        if leave is not None:
            self.exits.append(leave)
        self.values[provider.provide] = value
        if self._opened is not None:
            self._opened()

    def close(self) -> BaseException | None:
        """Clean up, the last one first; the errors of that, chained."""
        self.values.clear()
        error = None
        while self.exits:
            try:
                self.exits.pop()(None)
            except BaseException as raised:  # noqa: BLE001  clean-ups are user code
                error = chained(raised, error)
        return error


class Scope:
    """One attempt on this thread. `returned` is called when code of the user's has come back; it may end the process
    (in a fork that this code has made, say).

    A stop may be raised in the user's code at any time while `stops.run` is set, but not in the frames of `OWN_CODE`:
    what was opened is known here. They call nothing in between but what cannot be interrupted.
    """

    def __init__(self, kept: Kept, task: Task, context: Context, stops: Stops, number: int) -> None:
        self._kept, self._task, self._context, self._stops, self._number = kept, task, context, stops, number
        self._values: dict[Provide, Any] = {}

    def run(self, arguments: dict[str, Any], finish_with: Finish, returned: Callable[[], None]) -> Any:
        """What `finish_with` makes of what the function returns; raises what the function, a provider or a clean-up
        raises, the clean-ups' after and above the others.
        """
        stops, result, error = self._stops, None, None
        try:
            plan = self._kept.plan(self._task)
            for provider in plan.providers:
                if provider.provide.scope == "host":
                    self._open_for_host(provider)
                else:
                    self._open(provider, self._values, self._context.exits)
                returned()
            arguments.update(self._arguments(plan.parameters))
            function = self._task.function
            stops.run = self._number
            result = function(**arguments)
            stops.run = 0
            returned()
            result = finish_with(result)
        except BaseException as raised:  # noqa: BLE001  whatever it is, it is raised when all is closed
            stops.run = 0
            returned()
            error = raised
        error = self._context.leave(error)
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # its traceback holds this frame, which would hold it

    def _open(self, provider: Provider, values: dict[Provide, Any], exits: list[Exit]) -> None:
        stops, function, arguments = self._stops, provider.function, self._arguments(provider.needs)
        if provider.context is not None:
            arguments[provider.context] = self._context
        if provider.kind is Kind.VALUE:
            stops.run = self._number
            value = function(**arguments)
            stops.run = 0
        else:
            generator = function(**arguments)
            stops.run = self._number
            value = next(generator, ENDED)
            stops.run = 0
            if value is ENDED:
                raise never_yielded(provider.name)
            exits.append(partial(finish, generator, provider.name))
        values[provider.provide] = value

    def _open_for_host(self, provider: Provider) -> None:
        kept, provide = self._kept, provider.provide
        if provide not in kept.values:
            kept.lock.acquire()
            try:
                if provide not in kept.values:
                    exits: list[Exit] = []
                    self._open(provider, self._values, exits)
                    kept.keep(provider, self._values[provide], exits[0] if exits else None)
            finally:
                self._stops.run = 0
                kept.lock.release()
        self._values[provide] = kept.values[provide]

    def _arguments(self, needs: Mapping[str, Provide]) -> dict[str, Any]:
        return {name: self._values[need] for name, need in needs.items()}


OWN_CODE: frozenset[CodeType] = frozenset(
    function.__code__
    for function in (Scope.run, Scope._open, Scope._open_for_host)  # noqa: SLF001  its own module
)


def opened(provider: Provider, arguments: Mapping[str, Any]) -> tuple[Any, Exit | None]:
    """The value of a provider that is not async, and how it is closed; where nothing stops this thread."""
    made = provider.function(**arguments)
    if provider.kind is Kind.VALUE:
        return made, None
    value = next(made, ENDED)
    if value is ENDED:
        raise never_yielded(provider.name)
    return value, partial(finish, made, provider.name)
