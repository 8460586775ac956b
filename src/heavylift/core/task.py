"""A task: a function with its default options, the binding of its arguments, and the encoding of its result.

pydantic is imported when a task is first bound, so that processes that only move jobs never pay for it.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from heavylift.core import codec
from heavylift.core.errors import ConfigError, InvalidArguments, PayloadTooLarge, Problem
from heavylift.core.options import NAME, Options

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter, ValidationError


@dataclass(frozen=True, eq=False)
class Task:
    """A registered function. `context_parameter` is the name of the parameter that receives the Context, if any."""

    name: str
    function: Callable[..., Any]
    options: Options
    context_parameter: str | None = None

    @property
    def description(self) -> str:
        """The function's docstring, cleaned, or an empty string."""
        return inspect.getdoc(self.function) or ""

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any], limit: int) -> bytes:
        """A call's arguments as JSON bytes, at most `limit` bytes.

        Raises InvalidArguments with one problem per argument, or PayloadTooLarge.
        """
        named, problems = self._named(args, kwargs)
        return self._checked(lambda: self.model.model_validate(named, by_alias=True), problems, limit)

    def bind_json(self, body: bytes, limit: int) -> bytes:
        """A JSON object of arguments, checked and re-encoded, at most `limit` bytes.

        Raises NotJson if `body` is not JSON, InvalidArguments or PayloadTooLarge.
        """
        value = codec.decode(body)
        if not isinstance(value, dict):
            detail = f"the arguments are a JSON object of names and values, not {_json_type(value)}."
            raise InvalidArguments(self.name, [Problem("", detail)])
        return self._checked(lambda: self.model.model_validate_json(body, by_alias=True), [], limit)

    def arguments(self, args: bytes) -> dict[str, Any]:
        """The keyword arguments of a stored job, as the function's own types; raises InvalidArguments.

        A job may have been stored by another version of the application, so they are checked again.
        """
        try:
            return self._values(self.model.model_validate_json(args, by_alias=True))
        except ValueError as error:
            raise InvalidArguments(self.name, _problems(error)) from None

    def encode_result(self, value: Any) -> bytes:
        """What the function returned, as JSON bytes; raises NotJson, naming what does not fit."""
        adapter = self.result_type
        if adapter is None:
            return codec.encode(value)
        from pydantic_core import PydanticSerializationError  # noqa: PLC0415  see the module's docstring

        try:
            # By way of Python values: dump_json would turn NaN into null without a word.
            return codec.encode(adapter.dump_python(adapter.validate_python(value, strict=True), mode="json"))
        except codec.NotJson:
            raise
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            details = "; ".join(f"{problem.pointer or '/'}: {problem.detail}" for problem in _problems(error))
            raise codec.NotJson(details) from None

    def decode_result(self, result: bytes) -> Any:
        """The inverse of `encode_result`."""
        adapter = self.result_type
        return codec.decode(result) if adapter is None else adapter.validate_json(result)

    def schema(self) -> dict[str, Any]:
        """The JSON schema (2020-12) of the arguments."""
        return self.model.model_json_schema(by_alias=True)

    def result_schema(self) -> dict[str, Any]:
        """The JSON schema of the result; empty when the function does not say."""
        return {} if self.result_type is None else self.result_type.json_schema(mode="serialization")

    @functools.cached_property
    def model(self) -> type[BaseModel]:
        """The arguments as a pydantic model: neutral field names with aliases, so that any parameter name works."""
        from pydantic import ConfigDict, Field, create_model  # noqa: PLC0415  see the module's docstring

        fields: dict[str, Any] = {}
        for index, (name, parameter) in enumerate(self.parameters.items()):
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[f"p{index}"] = (_lenient(parameter.annotation), Field(default, alias=name))
        config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, ser_json_inf_nan="constants")
        return create_model(f"{self.name}Arguments", __config__=config, **fields)

    @functools.cached_property
    def result_type(self) -> TypeAdapter[Any] | None:
        """The adapter of the annotated result; None when the function does not say."""
        from pydantic import TypeAdapter  # noqa: PLC0415  see the module's docstring

        annotation = self.hints.get("return", Any)
        return None if annotation is Any else TypeAdapter(annotation)

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """The function's annotations, resolved."""
        return typing.get_type_hints(self.function, include_extras=True)

    @functools.cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters that a caller gives, with resolved annotations."""
        found = {}
        for name, parameter in inspect.signature(self.function).parameters.items():
            if name != self.context_parameter:
                found[name] = parameter.replace(annotation=self.hints.get(name, Any))
        return found

    def _named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        names = [name for name, parameter in self.parameters.items() if parameter.kind is not parameter.KEYWORD_ONLY]
        problems = []
        if len(args) > len(names):
            detail = f"takes at most {len(names)} positional arguments, {len(args)} were given."
            problems.append(Problem("", detail))
        named = dict(zip(names, args, strict=False))
        for name in named.keys() & kwargs.keys():
            problems.append(Problem(f"/{_escape(name)}", "given twice: by position and by name."))
        return named | kwargs, problems

    def _checked(self, validate: Callable[[], BaseModel], problems: list[Problem], limit: int) -> bytes:
        from pydantic import ValidationError  # noqa: PLC0415  see the module's docstring

        try:
            model = validate()
        except ValidationError as error:
            raise InvalidArguments(self.name, [*problems, *_problems(error)]) from None
        if problems:
            raise InvalidArguments(self.name, problems)
        try:
            # Only what was given: defaults stay the function's own, and may change before the job runs.
            data = codec.checked(model.model_dump_json(include=model.model_fields_set, by_alias=True).encode())
        except (ValueError, RecursionError) as error:
            detail = f"cannot be written as JSON: {error}"
            raise InvalidArguments(self.name, [Problem("", detail)]) from None
        if len(data) > limit:
            raise PayloadTooLarge(len(data), limit)
        return data

    def _values(self, model: BaseModel) -> dict[str, Any]:
        names = list(self.parameters)
        return {names[int(field[1:])]: getattr(model, field) for field in model.model_fields_set}


def define(function: Callable[..., Any], name: str | None, options: Options, context_type: type) -> Task:
    """The task of a function, or ConfigError that says what cannot be a task and why."""
    name = name or getattr(function, "__name__", "")
    if not NAME.fullmatch(name):
        message = f"{name!r} cannot name a task; pass name= with letters, digits, '.', '_', ':' or '-'."
        raise ConfigError(message)
    task = Task(name, function, options, _context_parameter(function, context_type))
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            message = (
                f"Task {name!r}: parameter {parameter} has no name that a caller of the HTTP API could use;"
                " give it a name, or take a list or a dict."
            )
            raise ConfigError(message)
    return task


def _context_parameter(function: Callable[..., Any], context_type: type) -> str | None:
    try:
        hints = typing.get_type_hints(function)
    except NameError:
        # A forward reference to something defined later in the module: resolved at first use; the name decides now.
        hints = inspect.get_annotations(function)
    found = [name for name, hint in hints.items() if hint is context_type or hint in ("Context", "heavylift.Context")]
    if len(found) > 1:
        message = f"{function.__name__} has two Context parameters: {', '.join(found)}; keep one."
        raise ConfigError(message)
    return found[0] if found else None


def _integral(value: Any) -> Any:
    # JSON has one kind of number: 616.0 is an integer (JSON Schema 2020-12, section 6.1.1).
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _lenient(annotation: Any) -> Any:
    """The annotation with each `int` in it made to take 616.0 too."""
    if annotation is int:
        from pydantic import BeforeValidator  # noqa: PLC0415  see the module's docstring

        return Annotated[int, BeforeValidator(_integral, json_schema_input_type=int)]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = _lenient(arguments[0])
        return annotation if inner is arguments[0] else Annotated[(inner, *arguments[1:])]
    if origin in (Union, types.UnionType):
        return Union[tuple(_lenient(argument) for argument in arguments)]  # noqa: UP007  built at run time
    if origin in (list, dict, tuple, set, frozenset):
        return origin[tuple(_lenient(argument) for argument in arguments)]
    return annotation


def _problems(error: ValidationError | ValueError) -> list[Problem]:
    if not hasattr(error, "errors"):
        return [Problem("", str(error))]
    return [
        Problem("".join(f"/{_escape(str(part))}" for part in item["loc"]), item["msg"])
        for item in error.errors(include_url=False, include_context=False)
    ]


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _json_type(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
