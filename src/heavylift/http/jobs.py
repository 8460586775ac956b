"""Handlers of jobs: look, list, wait, follow, cancel, retry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse

from heavylift.core.errors import ConfigError
from heavylift.core.job import State
from heavylift.core.result import Receipt, job_error
from heavylift.http import params, render, sse
from heavylift.http.call import Call, answer, applied, polling, tag
from heavylift.http.problems import Refused
from heavylift.http.tasks import accepted
from heavylift.outlook import Outlook

if TYPE_CHECKING:
    from heavylift.core.job import Job

SHORT_LOOK = 0.1
"""Seconds that a cancel waits for its receipt when nobody asked for more."""


async def listed(call: Call) -> Response:
    """One page of jobs, newest first."""
    query = params.query(call.request)
    try:
        page = await call.client.page(query)
    except ConfigError as error:
        raise params.parameter(name="page_token", detail=str(error).removeprefix("page_token: ")) from None
    outlooks = await call.client.outlook(page.jobs)
    found = [call.job(job, outlooks.get(job.id, Outlook())) for job in page.jobs]
    return answer({"items": found, "next_page_token": page.next_page_token})


async def get(call: Call) -> Response:
    """One job: as it is now, or as soon as it is another than the caller knows."""
    params.only(call.request)
    wait, known = params.wait(call.request), params.known(call.request)
    job = await call.client.get(call.part("id"))
    if wait is not None and (known is None or tag(job) in known):
        job = await call.service.changed(job, wait)
    outlook = await call.outlook(job)
    headers = polling(call, job, outlook) | applied(wait)
    if _is_known(job, known):
        return Response(status_code=304, headers=headers)
    return answer(call.job(job, outlook), headers=headers)


async def result(call: Call) -> Response:
    """The bare result."""
    params.only(call.request)
    wait, known = params.wait(call.request), params.known(call.request)
    job = await call.client.get(call.part("id"))
    if wait is not None and not job.state.final:
        job = await call.service.settled(job.id, wait)
    headers = polling(call, job, await call.outlook(job)) | applied(wait)
    if not job.state.final:
        return answer({"id": job.id, "state": job.state.value, "progress": render.progress(job.progress)}, 202, headers)
    if job.state is not State.SUCCEEDED:
        raise job_error(job)
    if _is_known(job, known):
        return Response(status_code=304, headers=headers)
    return Response(job.result or b"null", headers=headers, media_type="application/json")


async def events(call: Call) -> Response:
    """What happens to a job, live."""
    after = params.after(call.request, **params.only(call.request, "after"))
    job = await call.client.get(call.part("id"))
    return streamed(call, job, after, sse.stream(call.service, job, after, call.base))


def streamed(call: Call, job: Job, after: int | None, stream: sse.Frames) -> Response:
    """A stream as an answer; none to who has read it all."""
    if sse.over(job, after):
        return Response(status_code=204)  # tells a browser not to come again
    if call.request.method == "HEAD":
        return Response(headers=sse.HEADERS, media_type=sse.MEDIA_TYPE)
    return StreamingResponse(stream, headers=sse.HEADERS, media_type=sse.MEDIA_TYPE)


async def stack(call: Call) -> Response:
    """Where the code of a running job is now."""
    params.only(call.request)
    found = await call.client.stack(call.part("id"))
    return answer(render.stack(found), headers={"Cache-Control": "no-store"})


async def cancel(call: Call) -> Response:
    """Stop a job, and say what really happened."""
    params.only(call.request)
    wait = params.wait(call.request)
    wishes = await params.fields(call.request, params.CANCEL)
    receipt = await call.client.cancel(call.part("id"), **wishes, wait=0)
    if not receipt.final:
        receipt = Receipt.of(await call.service.settled(receipt.job_id, SHORT_LOOK if wait is None else wait))
    return answer(render.receipt(receipt, call.base), 200 if receipt.final else 202, applied(wait))


async def retry(call: Call) -> Response:
    """Start a job that is over anew."""
    call.service.accepting()
    params.only(call.request)
    wishes = await params.fields(call.request, params.RETRY)
    return accepted(call, await call.client.retry(call.part("id"), **wishes), 202, {}, result=False)


async def move(call: Call) -> Response:
    """Give a waiting job another place in the line."""
    params.only(call.request)
    expected = params.expected(call.request)
    wishes = await params.fields(call.request, params.MOVE)
    job = await call.client.get(call.part("id"))
    if expected is not None and not expected & {"*", tag(job)}:
        detail = f"Job {job.id} changed: its ETag is {tag(job)} by now. Look, and try again."
        raise Refused(412, "job-changed", detail, state=job.state)
    if wishes:
        seq = None if expected is None or "*" in expected else job.seq
        job = await call.client.move(job.id, **wishes, seq=seq)
    outlook = await call.outlook(job)
    return answer(call.job(job, outlook), headers=polling(call, job, outlook))


async def checkpoint(call: Call) -> Response:
    """What a job saved to resume from."""
    params.only(call.request)
    job = await call.client.get(call.part("id"))
    if job.checkpoint is None:
        detail = f"Job {job.id} has saved nothing to resume from; a retry begins it from the start."
        raise Refused(404, "no-checkpoint", detail)
    return answer(render.checkpoint(job.checkpoint), headers={"ETag": tag(job)})


def _is_known(job: Job, known: frozenset[str] | None) -> bool:
    return known is not None and ("*" in known or tag(job) in known)
