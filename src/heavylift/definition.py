"""Defining a task of a function that is not to be decorated: `lift.define("download").options(…).handler(function)`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack, overload

from heavylift.bound_task import BoundTask
from heavylift.context import Context
from heavylift.core.dependency import Provide
from heavylift.core.options import OptionValues, cleaned

P = ParamSpec("P")
R = TypeVar("R")


class Handler(Protocol):
    """The type of `lift.task(…)` and of `define(…).handler`: what it makes of a function."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Awaitable[R]], /
    ) -> BoundTask[Concatenate[Context, P], P, Awaitable[R], R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> BoundTask[Concatenate[Context, P], P, R, R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> BoundTask[P, P, Awaitable[R], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> BoundTask[P, P, R, R]: ...


@dataclass(frozen=True, slots=True)
class Definition:
    """A task that has no function yet. Each method gives a new one; `handler` ends it. `register` makes the task, of a
    function, its name, its options as given, and the providers.
    """

    name: str
    register: Callable[[Any, str, Mapping[str, Any], Mapping[str, Provide]], Any]
    given: Mapping[str, Any] = field(default_factory=dict)
    providers: Mapping[str, Provide] = field(default_factory=dict)

    def options(self, **options: Unpack[OptionValues]) -> Definition:
        """With these options, as `@lift.task` takes them. Raises ConfigError for an unknown option or value."""
        cleaned(options)  # what they say together, `handler` checks
        return replace(self, given={**self.given, **options})

    def provide(self, **parameters: Provide | Callable[..., Any]) -> Definition:
        """With providers of parameters, for a function whose annotations do not name them: a Provide, or the provider
        itself. They win over annotations. Raises ConfigError for what cannot be called.
        """
        added = {name: one if isinstance(one, Provide) else Provide(one) for name, one in parameters.items()}
        return replace(self, providers={**self.providers, **added})

    @property
    def handler(self) -> Handler:
        """`handler(function)` makes the function the task, as `@lift.task` does; the function's signature is the
        contract. Raises ConfigError as that does.
        """
        register: Handler = self._register
        return register

    def _register(self, function: Any, /) -> Any:
        return self.register(function, self.name, self.given, self.providers)
