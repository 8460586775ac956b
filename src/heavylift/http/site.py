"""Handlers about the service itself: where everything is, and how it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from heavylift.core.errors import StoreUnavailable
from heavylift.http import params
from heavylift.http.call import Call, answer
from heavylift.http.problems import Refused

if TYPE_CHECKING:
    from starlette.responses import Response

READY_TIME = 5.0
"""Seconds in which a store that is there answers."""
PLACES = {
    **{name: f"/v1/{name}" for name in ("tasks", "jobs", "queues", "workers")},
    "openapi": "/openapi.json",
    "docs": "/docs",
}


async def index(call: Call) -> Response:
    """Where everything is."""
    params.only(call.request)
    return answer({"service": "heavylift", "links": {name: call.base + path for name, path in PLACES.items()}})


async def health(_call: Call) -> Response:
    """The process is alive; says nothing of the store."""
    return answer({"status": "ok"})


async def ready(call: Call) -> Response:
    """Jobs are accepted, and in `monolith` they are worked on."""
    params.only(call.request)
    call.service.accepting()
    try:
        async with asyncio.timeout(READY_TIME):
            working = await call.client.working()
    except TimeoutError:
        message = f"The store did not answer within {READY_TIME:g} s."
        raise StoreUnavailable(message) from None
    if call.service.role == "monolith" and not working:
        raise Refused(503, "no-worker", "No worker is alive, so jobs would wait. The log says why it ended.")
    return answer({"status": "ok", "worker": working})
