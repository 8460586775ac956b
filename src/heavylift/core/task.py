"""A task: a function with its default options, the binding of its arguments, and the encoding of its result.

pydantic is imported when a task is first bound, so that processes that only move jobs never pay for it.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import PydanticSerializationError, ValidationError

from heavylift.core import codec, dependency, keys
from heavylift.core.annotations import lenient
from heavylift.core.dependency import Plan, Provide
from heavylift.core.errors import ConfigError, InvalidArguments, PayloadTooLarge, Problem, did_you_mean, pointer, shown
from heavylift.core.options import LIMITS, NAME, Options

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

T = TypeVar("T")

MAX_PROBLEMS = 100
"""Problems of one submit that are named; a hostile one could have a million."""


@dataclass(frozen=True, eq=False)
class Task:
    """A registered function. `context_parameter` is the name of the parameter that receives the Context, if any, `plan`
    says what is provided for others: neither is among the arguments.
    """

    name: str
    function: Callable[..., Any]
    options: Options
    context_parameter: str | None = None
    plan: Plan = dependency.NOTHING

    @property
    def is_coroutine(self) -> bool:
        """Whether the function is `async def`."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def description(self) -> str:
        """The function's docstring, cleaned, or an empty string."""
        return inspect.getdoc(self.function) or ""

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any], limit: int) -> bytes:
        """A call's arguments as JSON bytes, at most `limit` bytes.

        Raises InvalidArguments with one problem per argument, or PayloadTooLarge.
        """
        named, problems = self._named(args, kwargs)
        return self._checked(named, named, problems, limit)

    def bind_json(self, body: bytes, limit: int) -> bytes:
        """A JSON object of arguments, checked and re-encoded, at most `limit` bytes.

        Raises NotJson if `body` is not JSON, InvalidArguments or PayloadTooLarge.
        """
        value = codec.decode(body)
        if not isinstance(value, dict):
            detail = f"the arguments are a JSON object of names and values, not {_json_type(value)}"
            raise InvalidArguments(self.name, [Problem("", detail)])
        named, problems = self._known(value)
        # As JSON, for pydantic's rules differ: there an array may be a set, and text a date.
        return self._checked(named, codec.encode(named) if problems else body, problems, limit)

    def arguments(self, args: bytes) -> dict[str, Any]:
        """The keyword arguments of a stored job, as the function's own types; raises InvalidArguments.

        A job may have been stored by another version of the application, so they are checked again.
        """
        try:
            return self._values(self.model.model_validate_json(args, by_alias=True, by_name=True))
        except ValueError as error:
            raise InvalidArguments(self.name, _problems(error, None)) from None

    def encode_result(self, value: Any) -> bytes:
        """What the function returned, as JSON bytes; raises NotJson, naming what does not fit.

        Its models are written under their aliases, with computed fields, as `result_schema` says.
        """
        adapter = self.result_type
        if adapter is None:
            return codec.encode(value)
        try:
            # By way of Python values: dump_json would turn NaN into null without a word.
            data = adapter.dump_python(adapter.validate_python(value, strict=True), mode="json", by_alias=True)
            return codec.written(data)
        except codec.NotJson:
            raise
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            details = "; ".join(f"{problem.pointer or '/'}: {problem.detail}" for problem in _problems(error, value))
            raise codec.NotJson(details) from None

    def decode_result(self, result: bytes) -> Any:
        """The inverse of `encode_result`."""
        adapter = self.result_type
        if adapter is None:
            return codec.decode(result)
        return adapter.validate_json(result, by_alias=True, by_name=True)

    def schema(self) -> dict[str, Any]:
        """The JSON schema (2020-12) of the arguments."""
        return self.model.model_json_schema(by_alias=True, schema_generator=_schema_generator())

    def result_schema(self) -> dict[str, Any]:
        """The JSON schema of the result; empty when the function does not say."""
        adapter = self.result_type
        if adapter is None:
            return {}
        return adapter.json_schema(mode="serialization", schema_generator=_schema_generator())

    def faults(self) -> dict[str, str]:
        """Why parts of the signature cannot be JSON, or have no schema: by parameter, and by "return" for the result.

        Raises ConfigError when an annotation cannot even be resolved.
        """
        from pydantic import PydanticUserError, TypeAdapter  # noqa: PLC0415  see the module's docstring
        from pydantic_core import SchemaError  # noqa: PLC0415

        found = {}
        annotations = {name: parameter.annotation for name, parameter in self.parameters.items()}
        for name, annotation in [*annotations.items(), ("return", self.hints.get("return", Any))]:
            result = name == "return"
            if result and annotation in (typing.NoReturn, typing.Never):
                continue
            try:
                adapter = TypeAdapter(annotation if result else lenient(annotation))
                mode: typing.Literal["validation", "serialization"] = "serialization" if result else "validation"
                adapter.json_schema(mode=mode, schema_generator=_schema_generator())
            except (PydanticUserError, SchemaError, TypeError, NameError) as error:
                reason = " ".join(str(getattr(error, "message", error)).split())
                if getattr(error, "code", None) == "class-not-fully-defined":
                    reason = "a type that one of its fields names is not there: define or import it in that module."
                # What pydantic advises then is about models of one's own.
                found[name] = reason.partition(" Set `arbitrary_types_allowed")[0]
        return found

    @functools.cached_property
    def model(self) -> type[BaseModel]:
        """The arguments as a pydantic model: the parameters are aliases of fields with numbers for names.

        So any parameter name works, and none can be taken for a field's. Raises ConfigError.
        """
        from pydantic import ConfigDict, Field, create_model  # noqa: PLC0415  see the module's docstring

        config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, ser_json_inf_nan="constants")

        def build() -> type[BaseModel]:
            fields: dict[str, Any] = {}
            for index, (name, parameter) in enumerate(self.parameters.items()):
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[str(index)] = (lenient(parameter.annotation), Field(default, alias=name))
            return create_model(f"{self.name}Arguments", __config__=config, **fields)

        return self._built(build)

    @functools.cached_property
    def result_type(self) -> TypeAdapter[Any] | None:
        """The adapter of the annotated result; None when the function does not say. Raises ConfigError."""
        from pydantic import TypeAdapter  # noqa: PLC0415  see the module's docstring

        annotation = self.hints.get("return", Any)
        if annotation in (Any, typing.NoReturn, typing.Never):
            return None
        return self._built(lambda: TypeAdapter(annotation))

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """The annotations of the arguments and the result, resolved. Raises ConfigError."""
        # The Context is known by its name, so that it may be imported for the type checker alone.
        annotations = inspect.get_annotations(self.function)
        for name in (self.context_parameter or "", *self.plan.parameters):
            annotations.pop(name, None)
        try:
            hints = typing.get_type_hints(
                types.SimpleNamespace(__annotations__=annotations),
                getattr(inspect.unwrap(self.function), "__globals__", {}),
                include_extras=True,
            )
        except (NameError, AttributeError, TypeError, SyntaxError) as error:
            message = (
                f"Task {self.name!r}: an annotation cannot be resolved: {error}."
                " Its types must be importable when the module runs: define them at the top of the module,"
                " and import them outside `if TYPE_CHECKING`."
            )
            raise ConfigError(message) from None
        dependency.check_known(self.name, hints)
        return hints

    @functools.cached_property
    def signature(self) -> dict[str, inspect.Parameter]:
        """The parameters that a caller gives, with annotations as they were written."""
        inner = {self.context_parameter, *self.plan.parameters}
        found = inspect.signature(self.function).parameters
        return {name: parameter for name, parameter in found.items() if name not in inner}

    @functools.cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters that a caller gives, with resolved annotations."""
        found = self.signature.items()
        return {name: parameter.replace(annotation=self.hints.get(name, Any)) for name, parameter in found}

    def _named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        names = [name for name, parameter in self.parameters.items() if parameter.kind is not parameter.KEYWORD_ONLY]
        known, problems = self._known(kwargs)
        if len(args) > len(names):
            detail = f"{len(args)} arguments were given by position, the task takes {len(names)} so"
            problems.insert(0, Problem("", detail))
        named = dict(zip(names, args, strict=False))
        twice = [name for name in named if name in known]
        problems += [Problem(pointer(name), "given twice: by position and by name") for name in twice]
        return {**named, **known}, problems

    def _known(self, given: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Problem]]:
        """What is given of the parameters, and a problem for each name that none has."""
        parameters = self.parameters
        if given.keys() <= parameters.keys():
            return given, []
        unknown = [name for name in given if name not in parameters]
        problems = []
        for name in unknown[:MAX_PROBLEMS]:
            hint = did_you_mean(str(name), parameters)
            problems.append(Problem(pointer(str(name)), f"there is no such argument{hint and '.' + hint}"))
        return {name: value for name, value in given.items() if name in parameters}, problems

    def _checked(
        self, named: Mapping[str, Any], source: Mapping[str, Any] | bytes, problems: list[Problem], limit: int
    ) -> bytes:
        try:
            # pydantic's own parts, without the methods of the model around them: each submit comes this way.
            validator, serializer = self.model.__pydantic_validator__, self.model.__pydantic_serializer__
            validate: Any = validator.validate_json if isinstance(source, bytes) else validator.validate_python
            model: BaseModel = validate(source, by_alias=True, by_name=True)
        except ValidationError as error:
            raise InvalidArguments(self.name, (problems + _problems(error, named))[:MAX_PROBLEMS]) from None
        if problems:
            raise InvalidArguments(self.name, problems)
        try:
            # Only what was given: defaults stay the function's own, and may change before the job runs. Field names,
            # not aliases, and no computed fields, because the host must be able to read all of it.
            dumped = serializer.to_python(model, mode="json", include=model.model_fields_set, round_trip=True)
            names = self._names
            data = codec.written({names[field]: value for field, value in dumped.items()})
        except (ValueError, RecursionError) as error:
            detail = f"cannot be written as JSON: {error}"
            raise InvalidArguments(self.name, [Problem("", detail)]) from None
        if len(data) > limit:
            raise PayloadTooLarge(len(data), limit)
        return data

    def _values(self, model: BaseModel) -> dict[str, Any]:
        return {self._names[field]: getattr(model, field) for field in model.model_fields_set}

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        """The parameter of each field of the model."""
        return {str(index): name for index, name in enumerate(self.parameters)}

    def _built(self, build: Callable[[], T]) -> T:
        from pydantic import PydanticUserError  # noqa: PLC0415  see the module's docstring

        try:
            return build()
        except (PydanticUserError, TypeError, NameError) as error:
            reason = str(error).partition("\n")[0]
            message = f"Task {self.name!r}: a type of its signature cannot be read from JSON: {reason}"
            raise ConfigError(message) from None


@functools.cache
def _schema_generator() -> type[GenerateJsonSchema]:
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415  see the module's docstring

    class Generator(GenerateJsonSchema):
        # A default that is no JSON is left out; nobody needs to be warned of that.
        ignored_warning_kinds = frozenset({"skipped-choice", "non-serializable-default"})  # type: ignore[assignment]

    return Generator


def define(
    function: Callable[..., Any],
    name: str | None,
    options: Options,
    context_type: type,
    given: Collection[str] = (),
    providers: Mapping[str, Provide] | None = None,
) -> Task:
    """The task of a function, or ConfigError that says what cannot be a task and why. `given`: the options that were
    not left to their defaults; `providers`: of parameters whose annotations do not name one.
    """
    if not inspect.isroutine(function):
        message = f"{shown(function)} is no function; define a task with `def`."
        raise ConfigError(message)
    if inspect.isasyncgenfunction(function):
        message = f"{shown(function)} yields; a task returns its result, and reports what comes before by its Context."
        raise ConfigError(message)
    if inspect.iscoroutinefunction(function) and "run_in" not in given:
        options = replace(options, run_in="loop")
    name = function.__name__ if name is None else name
    if not NAME.fullmatch(name):
        message = (
            f"{shown(name)} cannot name a task; pass name= with 1-128 letters, digits, '.', '_', ':' or '-',"
            " the first a letter or a digit."
        )
        raise ConfigError(message)
    try:
        signature = inspect.signature(function)
    except ValueError:
        message = f"Task {name!r}: {shown(function)} does not tell its parameters; call it from a function of your own."
        raise ConfigError(message) from None
    context = dependency.context_parameter(f"Task {name!r}", function, context_type)
    parameters = dependency.parameters_of(name, function, providers or {}, context)
    plan = dependency.plan(name, function, parameters, context_type) if parameters else dependency.NOTHING
    task = Task(name, function, options, context, plan)
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            message = (
                f"Task {name!r}: parameter {parameter} has no name that a caller of the HTTP API could use;"
                " give it a name, or take a list or a dict."
            )
            raise ConfigError(message)
    check_fit(task, options)
    return task


def check_fit(task: Task, options: Options) -> None:
    """Raise ConfigError for options that are right by themselves, and do not fit the task."""
    check_place(task, options)
    keys.check(task, options)


def check_place(task: Task, options: Options) -> None:
    """Raise ConfigError when the task cannot run where these options say, or not under these limits."""
    place = options.run_in
    if task.is_coroutine and place != "loop":
        message = (
            f"Task {task.name!r} is async and runs in a loop; leave out run_in={place!r}, or define it with `def`."
        )
        raise ConfigError(message)
    if place == "loop" and not task.is_coroutine:
        message = (
            f"Task {task.name!r} is no coroutine, so it cannot run in a loop; give run_in='thread', or define it with"
            " `async def`."
        )
        raise ConfigError(message)
    for name in LIMITS:
        if place != "process" and getattr(options, name):
            message = (
                f"{name}: it limits a process, which task {task.name!r} shares with others (run_in={place!r}); leave"
                " it out, or define the task with `def` and without run_in."
            )
            raise ConfigError(message)


def _problems(error: Exception, value: Any) -> list[Problem]:
    """The problems of a ValidationError, or of another error, with `value`."""
    if not hasattr(error, "errors"):
        return [Problem("", str(error))]
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        Problem(_pointer(item["loc"], value, missing=item["type"].startswith("missing")), item["msg"])
        for item in found[:MAX_PROBLEMS]
    ]


def _pointer(location: Sequence[str | int], value: Any, *, missing: bool) -> str:
    """The JSON pointer of an error's location, in which pydantic also names the members of unions that it tried."""
    if value is None:
        return pointer(*map(str, location))
    parts = []
    for index, part in enumerate(location):
        found, inner = _child(value, part)
        if found:
            value = inner
        elif not (missing and index == len(location) - 1):
            continue  # the name of a type, not of a part of the value
        parts.append(str(part))
    return pointer(*parts)


def _child(value: Any, part: str | int) -> tuple[bool, Any]:
    if isinstance(value, Mapping):
        return part in value, value.get(part)
    if isinstance(value, list | tuple) and isinstance(part, int):
        return part < len(value), value[part] if part < len(value) else None
    if isinstance(value, set | frozenset) and isinstance(part, int):
        return True, None
    fields = getattr(value, "__dict__", {})
    return part in fields, fields.get(part)


def _json_type(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
