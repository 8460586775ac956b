"""Handlers about the service itself: where everything is, and how it is."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from heavylift.core.errors import StoreUnavailable
from heavylift.http import params
from heavylift.http.call import Call, answer
from heavylift.http.problems import Refused

READY_TIME = 5.0
"""Seconds in which a store that is there answers."""
PLACES = {
    **{name: f"/v1/{name}" for name in ("tasks", "jobs", "queues", "workers")},
    "metrics": "/metrics",
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


async def metrics(call: Call) -> Response:
    """The metrics, as Prometheus reads them."""
    params.only(call.request)
    try:
        from heavylift.telemetry import metrics as telemetry  # noqa: PLC0415  it may be absent, and few are asked for it
    except ModuleNotFoundError as error:
        detail = f"Metrics need prometheus_client, and {error.name} is missing here: pip install 'heavylift[metrics]'."
        raise Refused(501, "no-metrics", detail) from None
    await call.client.open()
    snapshot = await telemetry.of_store(call.client.store)
    text, media_type = telemetry.rendered(snapshot, call.request.headers.get("accept", ""))
    return Response(text, headers={"Cache-Control": "no-store", "Content-Type": media_type})


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
