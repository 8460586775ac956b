"""The short way for plain submits, which are most of what an API is asked for: arguments as JSON, and no wishes.

It passes by the routes and the layers around them. Whatever says more takes the long way, to the same end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from heavylift.http.problems import Handler

BEFORE, AFTER = "/v1/tasks/", "/jobs"
WISHES = frozenset({b"prefer", b"idempotency-key", b"content-type", b"content-encoding", b"sec-fetch-site"})
"""Headers that change what is done with a submit, or that have to be looked at …"""
PLAIN = (b"content-type", b"application/json")
"""… unless they say this."""
DIGITS = 4
"""Of the length of a small body, which is read before it is judged."""


class PlainSubmits:
    """A middleware: plain submits go to `handler`, which answers in any case, all other requests to `app`."""

    def __init__(self, app: ASGIApp, handler: Handler) -> None:
        self._app = app
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        task = _task(scope)
        if task is None:
            await self._app(scope, receive, send)
            return
        scope["path_params"] = {**scope.get("path_params", {}), "task": task}
        response = await self._handler(Request(scope, receive, send))
        await response(scope, receive, send)


def _task(scope: Scope) -> str | None:
    """The name of the task to which a plain submit goes; None for any other request."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"]:
        return None
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    task = path[len(BEFORE) : -len(AFTER)]
    if not path.startswith(BEFORE) or not path.endswith(AFTER) or not task or "/" in task or "\n" in task:
        return None
    size = None
    for name, value in scope["headers"]:
        if name == b"content-length":
            size = len(value)
        elif name in WISHES and (name, value) != PLAIN:
            return None
    return task if size is not None and size <= DIGITS else None
