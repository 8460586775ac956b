"""The routes. Every handler parses, calls the client, and renders; what it raises becomes a problem."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from heavylift.client import ID_BYTES, Receipt, job_error
from heavylift.core.errors import ConfigError, StoreUnavailable
from heavylift.core.job import State, new_id
from heavylift.core.options import NAME
from heavylift.http import openapi, params, problems, render, sse
from heavylift.http.problems import Refused, guarded
from heavylift.http.service import Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from heavylift.app import Heavylift
    from heavylift.bound_task import BoundTask
    from heavylift.core.job import Job
    from heavylift.core.options import Options
    from heavylift.http.problems import Handler
    from heavylift.http.service import Role

SHORT_LOOK = 0.1
"""Seconds that a cancel waits for its receipt when nobody asked for more."""
READY_TIME = 5.0
"""Seconds in which a store that is there answers."""


def build(lift: Heavylift, role: Role = "monolith") -> Starlette:
    """The application as an ASGI application, with a lifespan of its own."""
    api = Api(Service(lift, role))
    app = Starlette(
        routes=api.routes(),
        lifespan=api.service.lifespan,
        exception_handlers={HTTPException: problems.http_exception},
    )
    app.router.redirect_slashes = False
    app.state.service = api.service
    return app


class Api:
    """The handlers, on one service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.lift = service.lift
        self.client = service.client

    def routes(self) -> list[Route]:
        """Every path, with its method."""
        job = "/v1/jobs/{id}"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/", self.index),
            ("GET", "/v1/tasks", self.tasks),
            ("GET", "/v1/tasks/{task}", self.task),
            ("POST", "/v1/tasks/{task}/jobs", self.submit),
            ("GET", "/v1/jobs", self.jobs),
            ("GET", job, self.job),
            ("GET", f"{job}/result", self.result),
            ("GET", f"{job}/events", self.events),
            ("POST", f"{job}/cancel", self.cancel),
            ("POST", f"{job}/retry", self.retry),
            ("GET", "/v1/queues", self.queues),
            ("PATCH", "/v1/queues/{name}", self.queue),
            ("GET", "/readyz", self.ready),
            ("GET", "/openapi.json", self.openapi),
        ]
        checked = [Route(path, guarded(self._checked(call)), methods=[method]) for method, path, call in table]
        # A process that is alive says so whatever became of its store.
        return [*checked, Route("/healthz", guarded(self.health), methods=["GET"])]

    # --- tasks and their jobs ----------------------------------------------------------------------------------

    async def tasks(self, request: Request) -> Response:
        """All tasks, by name."""
        params.only(request)
        found = [render.task(task, _root(request)) for _, task in sorted(self.lift.registry.items())]
        return _json({"items": found, "next_page_token": None})

    async def task(self, request: Request) -> Response:
        """One task."""
        params.only(request)
        return _json(render.task(self._task(request).task, _root(request)))

    async def submit(self, request: Request) -> Response:
        """Queue a job: the body holds the arguments, the query its options."""
        self.service.accepting()
        bound = self._task(request)
        options = _options(bound, request)
        limit = self.client.max_payload
        arguments = bound.task.bind_json(await params.body(request, limit) or b"{}", limit)
        own = new_id(time.time(), os.urandom(ID_BYTES))
        [job] = await self.client.submit([(bound.name, arguments, options)], [own])
        # The holder of a taken unique key was there before: nothing was accepted.
        return self._accepted(request, job, 202 if job.id == own else 200)

    # --- jobs --------------------------------------------------------------------------------------------------

    async def jobs(self, request: Request) -> Response:
        """One page of jobs, newest first."""
        query = params.query(request)
        try:
            page = await self.client.page(query)
        except ConfigError as error:
            raise params.parameter(name="page_token", detail=str(error).removeprefix("page_token: ")) from None
        reasons = await self.service.reasons(page.jobs)
        found = [render.job(job, _root(request), reasons.get(job.id)) for job in page.jobs]
        return _json({"items": found, "next_page_token": page.next_page_token})

    async def job(self, request: Request) -> Response:
        """One job as it is now."""
        params.only(request)
        job = await self.client.get(_id(request))
        reason = (await self.service.reasons([job])).get(job.id)
        return _json(render.job(job, _root(request), reason), headers=_look_again(job))

    async def result(self, request: Request) -> Response:
        """The bare result."""
        params.only(request)
        job = await self.client.get(_id(request))
        if job.state is State.SUCCEEDED:
            return Response(job.result or b"null", media_type="application/json")
        if job.state.final:
            raise job_error(job)
        body = {"id": job.id, "state": job.state.value, "progress": render.progress(job.progress)}
        return _json(body, 202, _look_again(job))

    async def events(self, request: Request) -> Response:
        """What happens to a job, live."""
        after = params.after(request)
        job = await self.client.get(_id(request))
        if sse.over(job, after):
            return Response(status_code=204)  # tells a browser not to come again
        if request.method == "HEAD":
            return Response(headers=sse.HEADERS, media_type=sse.MEDIA_TYPE)
        stream = sse.stream(self.service, job, after, _root(request))
        return StreamingResponse(stream, headers=sse.HEADERS, media_type=sse.MEDIA_TYPE)

    async def cancel(self, request: Request) -> Response:
        """Stop a job, and say what really happened."""
        params.only(request)
        wait = params.wait(request)
        wishes = await params.fields(request, params.CANCEL)
        receipt = await self.client.cancel(_id(request), **wishes, wait=0)
        if not receipt.final:
            receipt = Receipt.of(await self.service.settled(receipt.job_id, SHORT_LOOK if wait is None else wait))
        headers = {} if wait is None else {"Preference-Applied": f"wait={wait:g}"}
        return _json(render.receipt(receipt, _root(request)), 200 if receipt.final else 202, headers)

    async def retry(self, request: Request) -> Response:
        """Start a job that is over anew."""
        self.service.accepting()
        params.only(request)
        await params.fields(request, {})
        return self._accepted(request, await self.client.retry(_id(request)))

    # --- queues ------------------------------------------------------------------------------------------------

    async def queues(self, request: Request) -> Response:
        """All queues, by name."""
        params.only(request)
        found = [render.queue(queue) for queue in await self.client.queues()]
        return _json({"items": found, "next_page_token": None})

    async def queue(self, request: Request) -> Response:
        """Change a queue's settings; null lifts a limit."""
        params.only(request)
        name = request.path_params["name"]
        if not NAME.fullmatch(name):
            detail = f"{name!r} cannot name a queue; give 1-128 letters, digits, '.', '_', ':' or '-'."
            raise Refused(400, "invalid-parameter", detail)
        given = await params.fields(request, params.QUEUE)
        await self.client.open()
        unlimited = [limit for limit, value in given.items() if value is None]
        return _json(render.queue(await self.client.store.set_queue(name, **given, unlimited=unlimited)))

    # --- the service itself ------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        """Where everything is."""
        root = _root(request)
        places = {"tasks": "/v1/tasks", "jobs": "/v1/jobs", "queues": "/v1/queues", "openapi": "/openapi.json"}
        return _json({"service": "heavylift", "links": {name: root + path for name, path in places.items()}})

    async def health(self, _request: Request) -> Response:
        """The process is alive; says nothing of the store."""
        return _json({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Jobs are accepted, and in `monolith` they are worked on."""
        self.service.accepting()
        try:
            async with asyncio.timeout(READY_TIME):
                working = await self.service.working()
        except TimeoutError:
            message = f"The store did not answer within {READY_TIME:g} s."
            raise StoreUnavailable(message) from None
        if self.service.role == "monolith" and not working:
            raise Refused(503, "no-worker", "No worker is alive, so jobs would wait. The log says why it ended.")
        return _json({"status": "ok", "worker": working})

    async def openapi(self, request: Request) -> Response:
        """This API, described."""
        return _json(openapi.document(self.lift.registry.values(), _root(request)))

    # --- parts of handlers -------------------------------------------------------------------------------------

    def _checked(self, handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            # The API has no password, so a web page that somebody looks at must not reach it through the browser.
            if request.method not in ("GET", "HEAD") and request.headers.get("sec-fetch-site") == "cross-site":
                raise Refused(403, "cross-site", "A browser sent this for another web site.")
            await self.service.look_around()
            try:
                return await handler(request)
            except asyncio.CancelledError:
                # The server's patience with its last requests is over; one whose body never came is told so.
                self.service.accepting()
                raise

        return checked

    def _task(self, request: Request) -> BoundTask[..., ..., Any, Any]:
        return self.lift.find_task(request.path_params["task"])

    def _accepted(self, request: Request, job: Job, status: int = 202) -> Response:
        body = render.job(job, _root(request), "scheduled" if job.run_at > time.time() else None)
        return _json(body, status, {"Location": body["links"]["self"]} | _look_again(job))


def _options(bound: BoundTask[..., ..., Any, Any], request: Request) -> Options:
    given = params.options(request)
    if not given:
        return bound.options
    try:
        return bound.using(**given).options
    except ConfigError as error:
        name = str(error).partition(":")[0]
        raise Refused(400, "invalid-parameter", str(error), parameter=name) from None


def _id(request: Request) -> str:
    return str(request.path_params["id"])


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))


def _look_again(job: Job) -> dict[str, str]:
    return {} if job.state.final else {"Retry-After": str(render.retry_after(job, time.time()))}


def _json(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(to_json(body), status, headers=headers, media_type="application/json")
