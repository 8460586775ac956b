"""Handlers of tasks, and of the jobs that are submitted to them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from starlette.responses import Response

from heavylift.client import ID_BYTES
from heavylift.core.errors import ConfigError
from heavylift.core.job import State, new_id
from heavylift.http import params, render
from heavylift.http.call import Call, answer, applied, polling
from heavylift.http.problems import Refused

if TYPE_CHECKING:
    from heavylift.bound_task import BoundTask
    from heavylift.core.job import Job
    from heavylift.core.options import Options


async def listed(call: Call) -> Response:
    """All tasks, by name."""
    params.only(call.request)
    found = [render.task(task, call.base) for _, task in sorted(call.service.lift.registry.items())]
    return answer({"items": found, "next_page_token": None})


async def get(call: Call) -> Response:
    """One task."""
    params.only(call.request)
    return answer(render.task(_task(call).task, call.base))


async def submit(call: Call) -> Response:
    """Queue a job: the body holds the arguments, the query its options."""
    call.service.accepting()
    bound = _task(call)
    options = _options(bound, call)
    wait = params.wait(call.request)
    limit = call.client.max_payload
    arguments = bound.task.bind_json(await params.body(call.request, limit) or b"{}", limit)
    own = new_id(time.time(), os.urandom(ID_BYTES))
    [job] = await call.client.submit([(bound.name, arguments, options)], [own])
    existing = job.id != own
    if wait is not None:
        job = await call.service.settled(job.id, wait)
    # The holder of a taken unique key was there before: nothing was accepted.
    status = 200 if existing or job.state.final else 202
    return accepted(call, job, status, applied(wait), result=job.task == bound.name)


def accepted(call: Call, job: Job, status: int, headers: dict[str, str], *, result: bool) -> Response:
    """The job that was submitted, and with `result` that, too, when it has one already."""
    body = call.job(job, "scheduled" if job.run_at > time.time() and job.state is State.QUEUED else None)
    data = to_json(body)
    if result and job.state is State.SUCCEEDED:
        data = data[:-1] + b',"result":' + (job.result or b"null") + b"}"
    headers = {"Location": body["links"]["self"]} | polling(job) | headers
    return Response(data, status, headers=headers, media_type="application/json")


def _task(call: Call) -> BoundTask[..., ..., Any, Any]:
    return call.service.lift.find_task(call.part("task"))


def _options(bound: BoundTask[..., ..., Any, Any], call: Call) -> Options:
    given = params.options(call.request)
    if not given:
        return bound.options
    try:
        return bound.using(**given).options
    except ConfigError as error:
        name = str(error).partition(":")[0].partition(" ")[0]  # of "labels key", too, it is the labels
        raise Refused(400, "invalid-parameter", str(error), parameter=name) from None
