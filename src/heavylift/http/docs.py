"""Handlers of the API's description: the OpenAPI document, and a page to read and try it. No other server is asked."""

from __future__ import annotations

import asyncio
import gzip
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.responses import HTMLResponse, Response

from heavylift.http import openapi, params
from heavylift.http.call import Call
from heavylift.http.operation import Operation
from heavylift.http.problems import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heavylift.core.task import Task

ASSETS: Mapping[str, str] = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
"""Of the documentation page, with their media types; web/vendor.py fetches them."""
CACHED = {"Cache-Control": "max-age=86400", "Vary": "Accept-Encoding"}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Heavylift</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({url: "openapi.json", dom_id: "#docs", deepLinking: true, tryItOutEnabled: true});
</script>
</body>
</html>
"""


async def description(call: Call) -> Response:
    """This API, described."""
    params.only(call.request)
    # A hundred tasks take a while: once, and not on the loop.
    data = await asyncio.to_thread(_document, tuple(call.service.lift.registry.values()), call.base)
    return Response(data, media_type="application/json")


async def docs(call: Call) -> Response:
    """The description as a page to read and to try."""
    params.only(call.request)
    return HTMLResponse(PAGE)


async def asset(call: Call) -> Response:
    """A part of that page. Nothing of it comes from another server."""
    name = call.part("file")
    if name not in ASSETS:
        raise Refused(404, "not-found", f"The page has no part {name!r}.")
    data, headers = _packed(name), CACHED
    if "gzip" in call.request.headers.get("accept-encoding", ""):
        headers = CACHED | {"Content-Encoding": "gzip"}
    else:
        data = gzip.decompress(data)
    return Response(data, headers=headers, media_type=ASSETS[name])


@lru_cache(maxsize=8)
def _document(tasks: tuple[Task, ...], base: str) -> bytes:
    return to_json(openapi.document(tasks, base))


@cache
def _packed(name: str) -> bytes:
    return resources.files("heavylift.http").joinpath("assets", f"{name}.gz").read_bytes()


OPERATIONS = (
    Operation(name="openapi", method="GET", path="/openapi.json", handler=description, summary="", answers={}),
    Operation(name="docs", method="GET", path="/docs", handler=docs, summary="", answers={}),
    Operation(name="asset", method="GET", path="/docs/{file}", handler=asset, summary="", answers={}),
)
"""These describe the others, and not themselves."""
