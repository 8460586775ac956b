"""The types of a task's arguments as pydantic is to read them: as JSON has them, and no more than can be kept."""

from __future__ import annotations

import collections.abc
import types
from typing import Annotated, Any, NewType, Union, get_args, get_origin


def _integral(value: Any) -> Any:
    # JSON has one kind of number: 616.0 is an integer (JSON Schema 2020-12, section 6.1.1).
    return int(value) if isinstance(value, float) and value.is_integer() else value


def lenient(annotation: Any) -> Any:
    """The annotation with each `int` in it made to take 616.0 too."""
    if isinstance(annotation, NewType):
        return lenient(annotation.__supertype__)
    if annotation is int:
        from pydantic import BeforeValidator  # noqa: PLC0415  only who binds a task pays for it

        return Annotated[int, BeforeValidator(_integral)]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = lenient(arguments[0])
        if arguments[0] is int:  # bounds are of the integer itself, else its schema would not have them
            return Annotated[(int, *arguments[1:], *inner.__metadata__)]
        return annotation if inner is arguments[0] else Annotated[(inner, *arguments[1:])]
    if origin in (Union, types.UnionType):
        return Union[tuple(lenient(argument) for argument in arguments)]  # noqa: UP007  built at run time
    if origin in _CONTAINERS and arguments:
        if issubclass(origin, collections.abc.Mapping):  # its keys are texts in JSON, which pydantic reads as integers
            return origin[arguments[0], lenient(arguments[1])]
        return _failing_fast(origin[tuple(lenient(argument) for argument in arguments)])
    _refuse_secret(annotation)
    return annotation


_CONTAINERS = (
    *(list, dict, tuple, set, frozenset),
    *(collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Set, collections.abc.MutableSet),
    *(collections.abc.Mapping, collections.abc.MutableMapping),
)


def _failing_fast(annotation: Any) -> Any:
    """Of a million wrong elements the first one is named: to collect all would hold up the submitter for seconds."""
    if get_origin(annotation) not in (list, tuple, set, frozenset):
        return annotation
    from pydantic import FailFast  # noqa: PLC0415  only who binds a task pays for it

    return Annotated[annotation, FailFast()]


def _refuse_secret(annotation: Any) -> None:
    from pydantic import SecretBytes, SecretStr  # noqa: PLC0415  only who binds a task pays for it

    if annotation in (SecretStr, SecretBytes):
        message = f"a {annotation.__name__} would be stored as '**********'; submit a reference to the secret instead."
        raise TypeError(message)
