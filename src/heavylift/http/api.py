"""The API as an ASGI application: routes that parse, call the client, and render; what they raise becomes a problem."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from heavylift.http import docs, problems, tasks
from heavylift.http.call import Call, base_of
from heavylift.http.operations import RESOURCES, SITE, SUBMIT
from heavylift.http.plain import PlainSubmits
from heavylift.http.problems import Refused, guarded
from heavylift.http.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from heavylift.app import Heavylift
    from heavylift.http.operation import Operation
    from heavylift.http.problems import Handler
    from heavylift.http.service import Role


def build(lift: Heavylift, role: Role = "monolith") -> Starlette:
    """The application as an ASGI application, with a lifespan of its own."""
    service = Service(lift, role)
    table = [("/v1", item) for item in RESOURCES] + [("", item) for item in (*SITE, *docs.OPERATIONS)]
    app = Starlette(
        routes=[Route(prefix + item.path, endpoint(service, item), methods=[item.method]) for prefix, item in table],
        middleware=[Middleware(PlainSubmits, endpoint(service, replace(SUBMIT, handler=tasks.submit_plain)))],
        lifespan=service.lifespan,
        exception_handlers={HTTPException: problems.http_exception},
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


def endpoint(service: Service, item: Operation) -> Handler:
    """An operation as a handler of requests that answers in any case."""

    async def handle(request: Request) -> Response:
        # The API has no password, so a web page that somebody looks at must not reach it through the browser.
        if item.method != "GET" and _is_cross_site(request.scope["headers"]):
            raise Refused(403, "cross-site", "A browser sent this for another web site.")
        if item.name != "health":  # a process that is alive says so whatever became of its store
            await service.look_around()
        try:
            return await item.handler(Call(service, request, base_of(request, item.path)))
        except asyncio.CancelledError:
            # The server's patience with its last requests is over; one whose body never came is told so.
            service.accepting()
            raise

    return guarded(handle)


def _is_cross_site(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return b"cross-site" in [value for name, value in headers if name == b"sec-fetch-site"]
