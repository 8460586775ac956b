"""Keys that jobs share: `unique`, `fair_share` and those of `limits`, in which "{name}" stands for an argument.

"{order.customer}" is a member of an argument that is an object, "{task}" the task's name (unless an argument is called
so), "{{" and "}}" are braces. Texts stand as they are, other values as JSON; an argument that is not given has its
default. Templates are checked where a task is defined, and filled in where a job is submitted: a stored job has none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from heavylift.core import codec
from heavylift.core.errors import ConfigError, InvalidArguments, Problem, did_you_mean, pointer, shown
from heavylift.core.limits import MAX_KEY, Concurrency, Limit, is_text, pace
from heavylift.core.options import Options

if TYPE_CHECKING:
    from heavylift.core.task import Task

Path = tuple[str, ...]
"""The name of an argument, and of the members on the way into it."""
TASK: Path = ("task",)
_PIECES = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")


def check(task: Task, options: Options) -> None:
    """Raise ConfigError for a template that is malformed or names no argument of the task, for a key that is too long
    whatever the arguments are, and for two limits of one kind and key.
    """
    for option, text in _texts(options):
        for path in _paths(option, text):
            _check_path(task, option, text, path)
        fixed = _fixed(task, text)
        if fixed is not None and not is_text(fixed, MAX_KEY):
            message = f"{option}: {shown(text)} has over {MAX_KEY} characters when it is filled in; make it shorter."
            raise ConfigError(message)
    seen: set[tuple[type[Limit], str]] = set()
    for limit in options.limits:
        fixed = _fixed(task, limit.key)
        one = type(limit), limit.key if fixed is None else fixed
        if one in seen:
            message = f"limits: there are two of the kind {type(limit).__name__} with the key {one[1]!r}; give one."
            raise ConfigError(message)
        seen.add(one)


def check_agreement(task: Task, others: Iterable[Task]) -> None:
    """Raise ConfigError when another task gives a key of this one's limits another number; where a key depends on
    arguments, nobody can say.
    """
    own = _fixed_limits(task)
    for other in others if own else ():
        for one, theirs in _fixed_limits(other).items():
            if one in own and _number(own[one]) != _number(theirs):
                message = (
                    f"limits: tasks {other.name!r} and {task.name!r} share the key {one[1]!r} and give it different"
                    f" limits, {theirs} and {own[one]}; give them the same, or keys of their own."
                )
                raise ConfigError(message)


def arguments_named(task: Task, options: Options) -> set[str]:
    """The arguments of the task on which its keys depend."""
    paths = {path for option, text in _texts(options) for path in _paths(option, text)}
    return {path[0] for path in paths if not _means_task(task, path)}


def resolved(task: Task, args: bytes, options: Options) -> Options:
    """The options with their templates filled in from a job's arguments (JSON bytes): the very same object when there
    are none, and one object for all jobs with the same keys.

    Raises InvalidArguments, with the argument's pointer, when a key would be empty, too long, or has no value.
    """
    if options.unique is None and options.fair_share is None and not options.limits:
        return options
    given: Mapping[str, Any] | None = None
    filled: list[str] = []
    for option, text in _texts(options):
        fixed = _fixed(task, text)
        if fixed is None:
            if given is None:
                given = codec.decode(args)
            fixed = _filled_in(task, option, text, given)
        filled.append(fixed)
    if filled == [text for _, text in _texts(options)]:
        return options
    return _with_keys(_Same(options), tuple(filled))


class _Same:
    """Options as a key of a cache, by their identity: their labels have no hash."""

    __slots__ = ("options",)

    def __init__(self, options: Options) -> None:
        self.options = options

    def __hash__(self) -> int:
        return id(self.options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.options is self.options


@lru_cache(maxsize=512)
def _with_keys(given: _Same, filled: tuple[str, ...]) -> Options:
    options, keys = given.options, iter(filled)
    return replace(
        options,
        unique=None if options.unique is None else next(keys),
        fair_share=None if options.fair_share is None else next(keys),
        limits=tuple(replace(limit, key=next(keys)) for limit in options.limits),
    )


def _texts(options: Options) -> Iterator[tuple[str, str]]:
    """Each key, with the option that has it."""
    if options.unique is not None:
        yield "unique", options.unique
    if options.fair_share is not None:
        yield "fair_share", options.fair_share
    for limit in options.limits:
        yield "limits", limit.key


@lru_cache(maxsize=1024)
def _pieces(text: str) -> tuple[str | Path, ...]:
    """What a template is made of: texts, and paths. Raises ValueError that says what is malformed."""
    found: list[str | Path] = []
    for piece in _PIECES.findall(text):
        if piece in ("{{", "}}"):
            found.append(piece[0])
        elif piece in ("{", "}"):
            message = f"a {piece!r} stands alone; write '{piece * 2}' for a brace"
            raise ValueError(message)
        elif piece[0] == "{":
            path = tuple(piece[1:-1].split("."))
            if not path[0].isidentifier() or not all(path):
                message = f"{piece!r} is no name of an argument; write '{{{{' and '}}}}' for braces"
                raise ValueError(message)
            found.append(path)
        else:
            found.append(piece)
    return tuple(found)


def _paths(option: str, text: str) -> Iterator[Path]:
    try:
        pieces = _pieces(text)
    except ValueError as error:
        message = f"{option}: in the key {shown(text)} {error}, or give a name such as '{{customer}}'."
        raise ConfigError(message) from None
    yield from (piece for piece in pieces if isinstance(piece, tuple))


def _check_path(task: Task, option: str, text: str, path: Path) -> None:
    if _means_task(task, path):
        return
    if path[0] not in task.signature:
        known = ", ".join(task.signature) or "none"
        message = (
            f"{option}: in the key {shown(text)}, {path[0]!r} is no argument of task {task.name!r}."
            f"{did_you_mean(path[0], task.signature)} (arguments: {known}; give one of them, or {{task}})"
        )
        raise ConfigError(message)
    try:
        _default(task, path[0])
    except (PydanticSerializationError, ValueError) as error:
        message = f"{option}: the key {shown(text)} may need the default of {path[0]!r}, and that is no JSON: {error}"
        raise ConfigError(message) from None


def _means_task(task: Task, path: Path) -> bool:
    return path == TASK and TASK[0] not in task.signature


def _fixed(task: Task, text: str) -> str | None:
    """The key, if it does not depend on arguments."""
    if "{" not in text and "}" not in text:
        return text
    found = ""
    for piece in _pieces(text):
        if isinstance(piece, str):
            found += piece
        elif _means_task(task, piece):
            found += task.name
        else:
            return None
    return found


def _fixed_limits(task: Task) -> dict[tuple[type[Limit], str], Limit]:
    keys = [(limit, _fixed(task, limit.key)) for limit in task.options.limits]
    return {(type(limit), key): limit for limit, key in keys if key is not None}


def _number(limit: Limit) -> object:
    return limit.most if isinstance(limit, Concurrency) else pace(limit.rate)


def _filled_in(task: Task, option: str, text: str, given: Mapping[str, Any]) -> str:
    """The key that a template becomes; raises InvalidArguments."""
    found = ""
    values: list[tuple[int, Path]] = []
    for piece in _pieces(text):
        if isinstance(piece, str):
            found += piece
            continue
        value = task.name if _means_task(task, piece) else _value(task, option, text, piece, given)
        values.append((len(value), piece))
        found += value
    if not is_text(found, MAX_KEY) or not found:
        what = "would be empty" if not found else f"would have {len(found):,} characters, {MAX_KEY} are the most"
        if found and len(found) <= MAX_KEY:
            what = "would hold what is no text, such as a NUL"
        raise _refused(task, max(values)[1], f"the key {shown(text)} of the option {option} {what}")
    return found


def _value(task: Task, option: str, text: str, path: Path, given: Mapping[str, Any]) -> str:
    """What stands for a path."""
    value = given[path[0]] if path[0] in given else _default(task, path[0])
    for name in path[1:]:
        if not isinstance(value, dict) or name not in value:
            value = _MISSING
            break
        value = value[name]
    if value is _MISSING:
        raise _refused(task, path, f"the key {shown(text)} of the option {option} needs it, and it is not there")
    if isinstance(value, str):
        return value
    # The names of an object in order: equal values give equal keys.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _default(task: Task, name: str) -> Any:
    """The default of an argument as JSON; raises ValueError, and an error of the serialiser."""
    default = task.signature[name].default if name in task.signature else _MISSING
    if default is _MISSING or default is task.signature[name].empty:
        return _MISSING
    return to_jsonable_python(default, by_alias=False)


_MISSING: Any = object()


def _refused(task: Task, path: Path, detail: str) -> InvalidArguments:
    where = "" if _means_task(task, path) else pointer(*path)
    return InvalidArguments(task.name, [Problem(where, detail)])
