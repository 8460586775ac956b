"""Values as JSON bytes, strictly: what is no JSON (NaN, lone surrogates, unknown objects) is refused, never bent."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python


class NotJson(ValueError):
    """A value that JSON cannot hold, or bytes that are not JSON."""


def encode(value: Any) -> bytes:
    """`value` as compact JSON bytes; raises NotJson for what JSON cannot hold."""
    try:
        # By way of Python values: a model in it would turn its NaN into null without a word.
        return written(to_jsonable_python(value))
    except NotJson:
        raise
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None


def written(value: Any) -> bytes:
    """Plain values (dicts, lists, texts, numbers …) as compact JSON bytes; raises a ValueError, such as NotJson."""
    return checked(to_json(value))


def decode(data: bytes | str) -> Any:
    """The value of JSON bytes; raises NotJson."""
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise NotJson(str(error)) from None


def checked(data: bytes) -> bytes:
    """JSON bytes as they are; raises NotJson if they hold NaN or an infinity, which serialisers let pass."""
    if b"NaN" in data or b"Infinity" in data:
        try:
            decode(data)  # a string may hold the words: only the parser can tell
        except NotJson:
            message = "it holds NaN or an infinity, which JSON does not have; give null or a text."
            raise NotJson(message) from None
    return data
