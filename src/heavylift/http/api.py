"""The API as an ASGI application: routes that parse, call the client, and render; what they raise becomes a problem."""

from __future__ import annotations

import asyncio
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
    from starlette.requests import Request
    from starlette.responses import Response

    from heavylift.app import Heavylift
    from heavylift.http.call import Answering
    from heavylift.http.operations import Operation
    from heavylift.http.problems import Handler
    from heavylift.http.service import Role


def build(lift: Heavylift, role: Role = "monolith") -> Starlette:
    """The application as an ASGI application, with a lifespan of its own."""
    service = Service(lift, role)
    table = [("/v1", item) for item in RESOURCES] + [("", item) for item in (*SITE, *docs.OPERATIONS)]
    app = Starlette(
        routes=[Route(prefix + item.path, endpoint(service, item), methods=[item.method]) for prefix, item in table],
        middleware=[Middleware(PlainSubmits, _plain_submit(service))],
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
        if item.method != "GET" and request.headers.get("sec-fetch-site") == "cross-site":
            raise Refused(403, "cross-site", "A browser sent this for another web site.")
        if item.name != "health":  # a process that is alive says so whatever became of its store
            await service.look_around()
        return await _answered(service, request, item.path, item.handler)

    return guarded(handle)


def _plain_submit(service: Service) -> Handler:
    """The handler of the submits that say nothing but the arguments."""

    async def submit(request: Request) -> Response:
        await service.look_around()
        return await _answered(service, request, SUBMIT.path, tasks.submit_plain)

    return guarded(submit)


async def _answered(service: Service, request: Request, path: str, handler: Answering) -> Response:
    try:
        return await handler(Call(service, request, base_of(request, path)))
    except asyncio.CancelledError:
        # The server's patience with its last requests is over; one whose body never came is told so.
        service.accepting()
        raise
