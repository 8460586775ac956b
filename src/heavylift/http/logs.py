"""The log of a job: a page of JSON, plain lines, or a stream of either kind."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from starlette.responses import Response, StreamingResponse

from heavylift.core import event
from heavylift.http import params, render, sse
from heavylift.http.call import Call, answer
from heavylift.http.jobs import streamed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from heavylift.client import Client
    from heavylift.core.event import Event
    from heavylift.core.job import Job
    from heavylift.http.service import Service

JSON, TEXT = "application/json", "text/plain"
PARAMETERS = ("after", "follow", "page_size", "page_token")


async def get(call: Call) -> Response:
    """What the job has written to its log; with `follow`, and what it will write."""
    given = params.only(call.request, *PARAMETERS)
    follow = params.flag(given.get("follow"), "follow")
    size, position = params.page_size(given.get("page_size")), _position(given.get("page_token"))
    media = params.accepted(call.request, (TEXT, sse.MEDIA_TYPE) if follow else (JSON, TEXT, sse.MEDIA_TYPE))
    after = params.after(call.request, given.get("after"))
    job = await call.client.get(call.part("id"))
    if media == sse.MEDIA_TYPE:
        return streamed(call, job, after, sse.log_stream(call.service, job, after or 0))
    if media == JSON:
        return answer(await _page(call.client, job, position or ((after or 0) + 1, 0), size))
    if call.request.method == "HEAD":
        return Response(headers=sse.HEADERS, media_type=TEXT)
    lines = _followed(call.service, job, after or 0) if follow else _written(call.client, job, after or 0)
    return StreamingResponse(lines, headers=sse.HEADERS, media_type=TEXT)


async def _page(client: Client, job: Job, position: tuple[int, int], size: int) -> dict[str, Any]:
    """The lines from a position on: the number of an event, and how many of its lines were read before."""
    begin, read = position
    items: list[dict[str, Any]] = []
    dropped, token = 0, None
    async with contextlib.aclosing(_until_now(client, job, begin - 1)) as found:
        async for item in found:
            skipped = read if item.seq == begin else 0
            lines = render.log_lines(item)[skipped:]
            room = size - len(items)
            items += lines[:room]
            if len(lines) > room:
                token = f"{item.seq}.{skipped + room}"
                break
            dropped += item.data.get("dropped", 0)
    return {"items": items, "dropped": dropped, "next_page_token": token}


async def _until_now(client: Client, job: Job, after: int) -> AsyncGenerator[Event, None]:
    """The log's events up to the record's own."""
    while after < job.seq and (page := await client.store.events({job.id: after})):
        for item in page:
            if item.kind == event.LOG:
                yield item
        after = page[-1].seq


async def _written(client: Client, job: Job, after: int) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(_until_now(client, job, after)) as found:
        async for item in found:
            yield _text(item)


async def _followed(service: Service, job: Job, after: int) -> AsyncGenerator[bytes, None]:
    if sse.over(job, after):
        return
    async with contextlib.aclosing(sse.live_events(service, job.id, after)) as live:
        async for item in live:
            if item is not None and item.kind == event.LOG:
                yield _text(item)


def _text(item: Event) -> bytes:
    lines = [f"{line['at']} {line['level'].upper():7} {render.line_text(line)}\n" for line in render.log_lines(item)]
    if dropped := item.data.get("dropped"):
        lines.append(f"({dropped} lines dropped: the log was full)\n")
    return "".join(lines).encode()


def _position(token: str | None) -> tuple[int, int] | None:
    if not token:
        return None
    found = re.fullmatch(r"([0-9]{1,15})\.([0-9]{1,9})", token)
    if found is None:
        raise params.parameter(name="page_token", detail=f"{token!r} is none; give the next_page_token of a page.")
    return int(found[1]), int(found[2])
