"""Handlers of queues and workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heavylift.core.options import NAME
from heavylift.http import params, render
from heavylift.http.call import Call, answer
from heavylift.http.problems import Refused

if TYPE_CHECKING:
    from starlette.responses import Response


async def listed(call: Call) -> Response:
    """All queues, by name."""
    params.only(call.request)
    found = [render.queue(queue) for queue in await call.client.queues()]
    return answer({"items": found, "next_page_token": None})


async def change(call: Call) -> Response:
    """Change a queue's settings; null lifts a limit."""
    params.only(call.request)
    name = call.part("name")
    if not NAME.fullmatch(name):
        detail = f"{name!r} cannot name a queue; give 1-128 letters, digits, '.', '_', ':' or '-'."
        raise Refused(400, "invalid-parameter", detail)
    given = await params.fields(call.request, params.QUEUE)
    await call.client.open()
    unlimited = [limit for limit, value in given.items() if value is None]
    return answer(render.queue(await call.client.store.set_queue(name, **given, unlimited=unlimited)))


async def workers(call: Call) -> Response:
    """All workers, by start."""
    params.only(call.request)
    found = [render.worker(status) for status in await call.client.workers()]
    return answer({"items": found, "next_page_token": None})
