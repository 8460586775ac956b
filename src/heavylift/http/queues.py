"""Handlers of queues and workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heavylift.core.errors import ConfigError, Problem, did_you_mean
from heavylift.core.options import NAME
from heavylift.core.queue import UNLIMITED
from heavylift.http import params, render
from heavylift.http.call import Call, answer
from heavylift.http.problems import Refused, invalid

if TYPE_CHECKING:
    from starlette.responses import Response


async def listed(call: Call) -> Response:
    """All queues, by name."""
    params.only(call.request)
    found = [render.queue(queue) for queue in await call.client.queues()]
    return answer({"items": found, "next_page_token": None})


async def get(call: Call) -> Response:
    """One queue."""
    params.only(call.request)
    name = call.part("name")
    found = await call.client.queues()
    queue = next((queue for queue in found if queue.name == name), None)
    if queue is None:
        hint = did_you_mean(name, [queue.name for queue in found])
        detail = f"No job has stood in queue {name!r}, and nobody has set it.{hint}"
        raise Refused(404, "queue-not-found", detail)
    return answer(render.queue(queue))


async def change(call: Call) -> Response:
    """Change a queue's settings; null lifts a limit."""
    params.only(call.request)
    name = call.part("name")
    if not NAME.fullmatch(name):
        detail = f"{name!r} cannot name a queue; give 1-128 letters, digits, '.', '_', ':' or '-'."
        raise Refused(400, "invalid-parameter", detail, parameter="name")
    if (params.expected(call.request) or {"*"}) != {"*"}:
        raise params.parameter(name="If-Match", detail="a queue has no ETag to compare; leave it out.")
    given = await params.fields(call.request, params.QUEUE)
    await call.client.open()
    unlimited = [limit for limit in UNLIMITED if limit in given and given[limit] is None]
    try:
        queue = await call.client.store.set_queue(name, **given, unlimited=unlimited)
    except ConfigError as error:
        member, _, detail = str(error).partition(": ")
        raise invalid([Problem(f"/{member}", detail.replace("paused=True", '"paused": true'))]) from None
    return answer(render.queue(queue))


async def workers(call: Call) -> Response:
    """All workers, by start."""
    params.only(call.request)
    found = [render.worker(status) for status in await call.client.workers()]
    return answer({"items": found, "next_page_token": None})
