"""Dependencies of tasks: parameters whose values are not a caller's, but made where the task runs.

`Annotated[Session, Provide(open_session)]` names the provider of a parameter: a function that returns the value, or a
generator function that yields it once and cleans up after that. Which providers a task needs, and in which order, is
planned when the task is defined, so that what cannot work is said then.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NamedTuple, NoReturn, Union, get_args, get_origin

from heavylift.core.errors import ConfigError, did_you_mean, shown

Scope = Literal["job", "host"]


@dataclass(frozen=True, slots=True)
class Provide:
    """The provider of a parameter, as metadata of its annotation: `Annotated[Session, Provide(open_session)]`.

    `function` is a function, or a generator function that yields once (what follows the `yield` is its clean-up); for
    a task that is `async def` also a coroutine function or an asynchronous generator function. It may have provided
    parameters of its own. With scope "job" it is called for each attempt, and may have a Context parameter; with scope
    "host" once in each host, which keeps the value until it goes.

    Raises ConfigError for what cannot be called, and for another scope.
    """

    function: Callable[..., Any]
    scope: Scope = field(default="job", kw_only=True)

    def __post_init__(self) -> None:
        function: object = self.function  # of a caller without a type checker
        if not callable(function):
            message = f"Provide({shown(self.function)}): that cannot be called; give a function that makes the value."
            raise ConfigError(message)
        try:
            hash(self.function)
        except TypeError:
            message = f"Provide({shown(self.function)}): that has no hash, so it cannot be told apart; give a function."
            raise ConfigError(message) from None
        if self.scope not in ("job", "host"):
            message = f"Provide({name_of(self.function)}): scope {shown(self.scope)} is unknown; give 'job' or 'host'."
            raise ConfigError(message)


class _Provided:
    """The default of provided parameters, see `provided`."""

    def __repr__(self) -> str:
        return "<provided where the task runs>"


provided: Any = _Provided()
"""A default for provided parameters: `db: Annotated[Session, Provide(open_session)] = provided`. No value, and never
used as one; it tells a type checker that a submit leaves this argument out.
"""


class Kind(Enum):
    """What a call of a provider gives."""

    VALUE = 1
    GENERATOR = 2
    COROUTINE = 3
    ASYNC_GENERATOR = 4

    @property
    def is_async(self) -> bool:
        """Whether it needs an event loop."""
        return self in (Kind.COROUTINE, Kind.ASYNC_GENERATOR)


class Provider(NamedTuple):
    """One provider of a plan. `function` is called, with the values of `needs` and the Context as `context`."""

    provide: Provide
    function: Callable[..., Any]
    kind: Kind
    needs: Mapping[str, Provide]
    context: str | None

    @property
    def name(self) -> str:
        """Its name, for people."""
        return name_of(self.function)


class Plan(NamedTuple):
    """What has to be provided for a task: the providers in the order in which they are called, each once, those of
    scope "host" first; and which of them each parameter gets.
    """

    providers: tuple[Provider, ...] = ()
    parameters: Mapping[str, Provide] = types.MappingProxyType({})


NOTHING = Plan()


class Place(NamedTuple):
    """Whose dependencies are planned, for messages."""

    task: str
    parameter: str

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error that says where."""
        message = f"Task {self.task!r}, parameter {self.parameter!r}: {reason}"
        raise ConfigError(message)


def plan(
    task: str,
    function: Callable[..., Any],
    parameters: Mapping[str, Provide],
    context_type: type,
    overrides: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
) -> Plan:
    """The plan of a task whose `parameters` are to be provided; `overrides` names functions that take the place of
    providers.

    Raises ConfigError that names the task, the parameter and the fix.
    """
    planner = _Planner(context_type, overrides or {}, is_async=inspect.iscoroutinefunction(function))
    for parameter, provide in parameters.items():
        planner.add(provide, Place(task, parameter), ())
    ordered = sorted(planner.found.values(), key=lambda provider: provider.provide.scope != "host")
    return Plan(tuple(ordered), types.MappingProxyType(dict(parameters)))


def parameters_of(
    task: str, function: Callable[..., Any], given: Mapping[str, Provide], context: str | None
) -> dict[str, Provide]:
    """The provided parameters of a task's function: those of its annotations, and those `given` beside it.

    Raises ConfigError.
    """
    found: dict[str, Provide] = {}
    parameters = inspect.signature(function).parameters
    for name in parameters:
        place = Place(task, name)
        provide = given[name] if name in given else _provide_of(_annotation(function, name), place)
        if provide is not None and name == context:
            place.refuse("the Context is not to be provided; leave out its provider.")
        if provide is not None:
            found[name] = provide
    for name in given:
        if name not in parameters:
            reason = f"the function has no parameter of that name.{did_you_mean(name, parameters)}"
            Place(task, name).refuse(reason)
    return found


def check_known(task: str, hints: Mapping[str, Any]) -> None:
    """Raise ConfigError if the resolved annotation of a parameter that is a caller's has a provider after all: it
    could not be resolved when the task was defined.
    """
    for name, hint in hints.items():
        place = Place(task, name)
        if name != "return" and _provide_of(hint, place) is not None:
            place.refuse(_TOO_LATE.format("it was not complete when the task was defined"))


def context_parameter(owner: str, function: Callable[..., Any], context_type: type) -> str | None:
    """The name of the parameter that receives the Context, if any; raises ConfigError for several."""
    found = [name for name in _names(function) if is_context(_annotation(function, name), context_type)]
    if len(found) > 1:
        message = f"{owner} has several Context parameters: {', '.join(found)}; keep one."
        raise ConfigError(message)
    return found[0] if found else None


def is_context(hint: Any, context_type: type) -> bool:
    """Whether an annotation, or its text, is that of a Context."""
    if isinstance(hint, str):
        words = [word.strip(" '\"") for word in hint.replace("Optional[", "").replace("]", "").split("|")]
        return any(word == "Context" or word.endswith(".Context") for word in words)
    return hint is context_type or (get_origin(hint) in (Union, types.UnionType) and context_type in get_args(hint))


def name_of(function: Callable[..., Any]) -> str:
    """A function's name, for people."""
    return getattr(function, "__qualname__", None) or shown(function)


def kind_of(function: Callable[..., Any]) -> Kind:
    """What a call of it gives."""
    # An object is called by its class; a class makes an object, whatever its `__call__` is.
    called = function if inspect.isroutine(function) or inspect.isclass(function) else _unwrapped(function)
    if inspect.isasyncgenfunction(called):
        return Kind.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(called):
        return Kind.COROUTINE
    return Kind.GENERATOR if inspect.isgeneratorfunction(called) else Kind.VALUE


class _Planner:
    """Finds the providers, dependencies before dependents."""

    def __init__(
        self, context_type: type, overrides: Mapping[Callable[..., Any], Callable[..., Any]], *, is_async: bool
    ) -> None:
        self.found: dict[Provide, Provider] = {}
        self._context_type, self._overrides, self._is_async = context_type, overrides, is_async

    def add(self, provide: Provide, place: Place, path: tuple[Provide, ...]) -> None:
        """Add a provider and all that it needs; `path` led to it."""
        if provide in self.found:
            return
        if provide in path:
            names = " → ".join(name_of(one.function) for one in (*path[path.index(provide) :], provide))
            place.refuse(f"its providers need each other: {names}. Take one of them out of the circle.")
        function = self._overrides.get(provide.function, provide.function)
        name, kind = name_of(function), kind_of(function)
        if kind.is_async and not self._is_async:
            place.refuse(
                f"provider {name} is async, and the task is a plain function; define the task with `async def`, or"
                " the provider with `def`."
            )
        needs, context = self._parameters(function, provide.scope, place)
        for need in needs.values():
            if provide.scope == "host" and need.scope == "job":
                place.refuse(
                    f"provider {name} lives as long as its host, and needs {name_of(need.function)}, which lives as"
                    f' long as a job; give that scope="host", or {name} scope="job".'
                )
            self.add(need, place, (*path, provide))
        self.found[provide] = Provider(provide, function, kind, needs, context)

    def _parameters(
        self, function: Callable[..., Any], scope: Scope, place: Place
    ) -> tuple[dict[str, Provide], str | None]:
        """Which of a provider's parameters are provided, and which is the Context."""
        name = name_of(function)
        needs: dict[str, Provide] = {}
        try:
            signature = inspect.signature(function)
        except ValueError:
            reason = f"provider {name} does not tell its parameters; call it from a function of your own."
            place.refuse(reason)
        context = context_parameter(f"Provider {name} of task {place.task!r}", function, self._context_type)
        if context is not None and scope == "host":
            place.refuse(
                f"provider {name} lives as long as its host, and a Context is a job's; take the parameter"
                f' {context!r} out, or give it scope="job".'
            )
        for parameter in signature.parameters.values():
            variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if variable or parameter.name == context:
                continue
            provide = _provide_of(_annotation(function, parameter.name), place)
            if provide is not None and parameter.kind is not parameter.POSITIONAL_ONLY:
                needs[parameter.name] = provide
            elif parameter.default is parameter.empty:
                place.refuse(
                    f"nobody provides {parameter.name!r} of its provider {name}; give it a default, or annotate it"
                    " with Annotated[…, Provide(…)]."
                )
        return needs, context


_TOO_LATE = (
    "its annotation has a provider, but {}; define what it names above the task, and import it outside"
    " `if TYPE_CHECKING`."
)


def _provide_of(hint: Any, place: Place) -> Provide | None:
    if isinstance(hint, str):
        if "Provide(" in hint:
            place.refuse(_TOO_LATE.format(f"{hint!r} cannot be resolved"))
        return None
    found = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Provide)]
    if len(found) > 1:
        place.refuse("its annotation has several providers; keep one.")
    if not found and any(map(_has_provide, get_args(hint))):
        place.refuse("its provider stands inside its type; make Annotated[…, Provide(…)] the whole annotation.")
    return found[0] if found else None


def _has_provide(hint: Any) -> bool:
    if any(isinstance(one, Provide) for one in getattr(hint, "__metadata__", ())):
        return True
    return any(map(_has_provide, get_args(hint)))


def _names(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except ValueError:
        return []


def _annotation(function: Callable[..., Any], name: str) -> Any:
    """The annotation of one parameter, its text if that cannot be resolved; each alone, for others may be foreign."""
    hint = inspect.signature(function).parameters[name].annotation
    if hint is inspect.Parameter.empty:
        return Any
    try:
        holder = types.SimpleNamespace(__annotations__={name: hint})
        return typing.get_type_hints(holder, _globals(function), include_extras=True)[name]
    except Exception:  # noqa: BLE001  evaluating what a user wrote
        return hint


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    if inspect.isclass(function):
        return vars(sys.modules.get(function.__module__, types))
    found: dict[str, Any] = getattr(inspect.unwrap(_unwrapped(function)), "__globals__", {})
    return found


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that is called in the end: that of a partial, or of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__
