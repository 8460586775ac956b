"""The API as a FastAPI router, for an application that has routes, dependencies and a description of its own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import create_model
from starlette.requests import Request
from starlette.responses import Response

from heavylift.http import openapi, resources
from heavylift.http.api import endpoint
from heavylift.http.operation import Operation
from heavylift.http.operations import RESOURCES, SUBMIT
from heavylift.http.problems import Refused, guarded
from heavylift.http.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastapi.params import Depends
    from pydantic import BaseModel

    from heavylift.app import Heavylift
    from heavylift.http.problems import Handler

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def build(lift: Heavylift, prefix: str, dependencies: Sequence[Depends], tags: Sequence[str]) -> APIRouter:
    """A router with the resources under `prefix`. Its routes answer problems; the application's stay as they are.

    The handlers read requests themselves; FastAPI runs the dependencies and describes the routes.
    """
    service = Service(lift, "monolith")
    router = APIRouter(prefix=prefix, dependencies=dependencies)
    for item in RESOURCES:
        handler = endpoint(service, item)
        if item is SUBMIT:
            for task in lift.registry.values():
                arguments, result = openapi.inlined(task.schema()), openapi.inlined(task.result_schema())
                described = openapi.submit(task, arguments, result, _refer)
                _add(router, openapi.submit_path(task), [item.method], _fixed(handler, task.name), described, tags)
            # A task that was defined later is served, though not described.
            _add(router, item.path, [item.method], handler, None, tags)
            continue
        _add(router, item.path, [item.method], handler, openapi.operation(item, _refer), tags)
        if item.method == "GET":
            _add(router, item.path, ["HEAD"], handler, None, tags)
    for path, methods in _methods(RESOURCES).items():
        _add(router, path, sorted(METHODS - methods), _not_allowed(methods), None, tags)
    return router


def _add(
    router: APIRouter,
    path: str,
    methods: list[str],
    handler: Handler,
    described: Mapping[str, Any] | None,
    tags: Sequence[str],
) -> None:
    described = dict(described or {})
    name = described.get("operationId")
    own = described.pop("tags", [])
    router.add_api_route(
        path,
        handler,
        methods=methods,
        name=name or handler.__name__,
        operation_id=name,
        summary=described.get("summary"),
        description=described.get("description"),
        tags=[*(tags or own)],
        response_class=Response,
        response_model=None,
        status_code=int(min(described.get("responses", {"200": None}))),
        response_description="",
        # One route brings the schemas that all refer to into the description of the application.
        responses={200: {"model": _schemas()}} if name == RESOURCES[0].name else None,
        openapi_extra=described,
        include_in_schema=bool(described),
    )


def _fixed(handler: Handler, task: str) -> Handler:
    """The handler of all submits for one task, whose name stands in the path itself."""

    async def submit(request: Request) -> Response:
        request.path_params["task"] = task
        return await handler(request)

    return submit


def _methods(table: Iterable[Operation]) -> dict[str, frozenset[str]]:
    """The methods of each path."""
    found: dict[str, frozenset[str]] = {}
    for item in table:
        own = {"GET", "HEAD"} if item.method == "GET" else {item.method}
        found[item.path] = found.get(item.path, frozenset()) | own
    return found


def _not_allowed(allowed: frozenset[str]) -> Handler:
    names = ", ".join(sorted(allowed))

    async def not_allowed(request: Request) -> Response:
        detail = f"{request.method} is not possible here; allowed: {names}."
        raise Refused(405, "method-not-allowed", detail, headers={"Allow": names})

    return guarded(not_allowed)


def _refer(name: str) -> dict[str, Any]:
    return openapi.reference(resources.PREFIX + name)


@cache
def _schemas() -> type[BaseModel]:
    """A model that has a field of each resource: FastAPI describes what it finds in models, and nothing else."""
    fields: dict[str, Any] = {kind.__name__: (kind, ...) for kind in resources.RESOURCES}
    return create_model("HeavyliftSchemas", __doc__="What the operations of Heavylift take and answer.", **fields)
