"""How an attempt ends: what is cleaned up then, in which order, and which error remains."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import Any

from heavylift.core.errors import ConfigError

Exit = Callable[[BaseException | None], Any]
"""What is done at the end of an attempt: it is given the error so far, and what it raises takes its place."""
ENDED: Any = object()
"""In place of what a generator yields: nothing came."""


def finish(generator: Generator[Any, None, None], name: str, error: BaseException | None) -> None:
    """Have a provider that has yielded clean up: it goes on behind its `yield`, where it sees the attempt's error.

    Raises what it raises, but not the error that it was given: to let that pass or to swallow it changes nothing.
    """
    if error is None:
        if next(generator, ENDED) is not ENDED:
            generator.close()
            raise yielded_twice(name)
        return
    traceback = error.__traceback__
    try:
        generator.throw(error)
    except StopIteration:
        error.__traceback__ = traceback
        return
    except BaseException as raised:
        if not is_same(raised, error):
            raise
        error.__traceback__ = traceback
        return
    generator.close()
    raise yielded_twice(name)


def is_same(raised: BaseException, error: BaseException) -> bool:
    """Whether what a generator raised is what was thrown into it; the end of an iteration comes out in disguise."""
    disguised = isinstance(raised, RuntimeError) and isinstance(error, StopIteration | StopAsyncIteration)
    return raised is error or (disguised and raised.__cause__ is error)


def yielded_twice(name: str) -> ConfigError:
    """The error of a provider that goes on yielding."""
    return ConfigError(f"Provider {name} yielded a second value; it is to yield one, and to clean up after that.")


def never_yielded(name: str) -> ConfigError:
    """The error of a provider that gives no value."""
    return ConfigError(f"Provider {name} ended and yielded nothing; it is to yield its value once.")


def refuse_awaitable(result: Any) -> None:
    """Raise ConfigError for what a coroutine function gave where nobody can await it."""
    if inspect.iscoroutine(result):
        result.close()
        message = f"{result.__qualname__} is a coroutine function, and the task is a plain one; define it with `def`."
        raise ConfigError(message)


def chained(raised: BaseException, before: BaseException | None) -> BaseException:
    """What was raised, with what was there before at the end of its context."""
    known: set[int] = set()
    one = before
    while one is not None and id(one) not in known:
        known.add(id(one))
        one = one.__context__
    if before is None or id(raised) in known:
        return raised if before is None else before
    last = raised
    while last.__context__ is not None and id(last.__context__) not in known:
        known.add(id(last))
        last = last.__context__
    if last.__context__ is None:
        last.__context__ = before
    return raised
