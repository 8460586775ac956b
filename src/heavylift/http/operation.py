"""What an operation of the API is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from heavylift.http.call import Call
from heavylift.http.parameters import Parameter

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers: by media type the name of a resource or a schema; `headers` are names of `HEADERS`."""

    description: str
    content: Mapping[str, str | Mapping[str, Any]] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation. `body` and `problems` name a resource and the codes of problems."""

    name: str
    method: str
    path: str
    handler: Callable[[Call], Awaitable[Response]]
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    tag: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: str | None = None
    needs_body: bool = False
    problems: tuple[str, ...] = ()
