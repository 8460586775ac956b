"""A middleware that logs what is answered: path, status and the JSON body without its secrets."""

from __future__ import annotations

import json
import logging
import re
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_BODY = 64 * 1024
"""Bytes of a body that are kept until it is whole."""
HIDDEN = "[redacted]"
SECRET_NAMES = re.compile(r"passw|secret|token|apikey|authorization|credential|cookie|privatekey|sessionid")
SECRET_TEXTS = re.compile(r"(?i)\b(?:bearer|basic)\s+[^\s\"]+|(?<=://)[^/\s@]+(?=@)")

log = logging.getLogger("examples.tasks_in_parallel")


class ResponseLog:
    """Wraps a whole application. Every message is passed on at once: of a short JSON body a copy is kept until its
    end, and of anything else, such as a stream or a page, nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As every ASGI application is called."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = Answer(scope["path"])

        async def observed(message: Message) -> None:
            await send(message)
            answer.see(message)

        await self.app(scope, receive, observed)


class Answer:
    """One answer on its way: logged as soon as all is known that will be logged of it."""

    def __init__(self, path: str) -> None:
        # Quoted, since a line feed in a path would write a line of its own; without the query, which may hold secrets.
        self.path = quote(path)
        self.status = 0
        self.body: bytearray | None = None

    def see(self, message: Message) -> None:
        """The next message of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            marker = marker_of(self.status, Headers(raw=message["headers"]))
            if marker:
                self.write(marker)
            else:
                self.body = bytearray()
        elif message["type"] == "http.response.body" and self.body is not None:
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                self.write(shown(self.body))

    def write(self, what: str) -> None:
        """One line."""
        self.body = None
        log.info("%s %d ==> %s", self.path, self.status, what)


def marker_of(status: int, headers: Headers) -> str | None:
    """What stands for a body that is not kept."""
    if status in (204, 304):
        return "<no content>"
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    length = headers.get("content-length", "")
    if kind == "text/html":
        return "<a page of HTML>"
    if not length.isdecimal():
        return "<a stream>"
    if int(length) > LONGEST_BODY:
        return f"<{length} bytes>"
    if kind != "application/json" and not kind.endswith("+json"):
        return f"<{kind}>"
    return None


def shown(body: bytearray) -> str:
    """A JSON body as one line of ASCII, without its secrets."""
    try:
        return json.dumps(redacted(json.loads(body)))
    except (ValueError, RecursionError):
        return "<no JSON>"


def redacted(value: Any) -> Any:
    """The value with everything replaced that is named like a secret, or looks like one in a text."""
    match value:
        case dict():
            return {name: HIDDEN if is_secret(name) else redacted(item) for name, item in value.items()}
        case list():
            return [redacted(item) for item in value]
        case str():
            return SECRET_TEXTS.sub(HIDDEN, value)
    return value


def is_secret(name: str) -> bool:
    """Whether what has this name is not for a log: `api_key`, `X-Api-Key` and `apiKey` alike."""
    return SECRET_NAMES.search(re.sub(r"[^a-z]", "", name.lower())) is not None
