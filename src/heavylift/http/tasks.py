"""Handlers of tasks, and of the jobs that are submitted to them."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from starlette.responses import Response

from heavylift.client import ID_BYTES
from heavylift.core import lifecycle
from heavylift.core.errors import ConfigError, HeavyliftError
from heavylift.core.job import State, new_id
from heavylift.http import params, render
from heavylift.http.call import Call, Prepared, answer, applied, polling
from heavylift.http.problems import Refused
from heavylift.outlook import at_a_glance

if TYPE_CHECKING:
    from heavylift.bound_task import BoundTask
    from heavylift.core.job import Job
    from heavylift.core.options import Options
    from heavylift.core.task import Task

SAMPLE_ID = new_id(0.0, os.urandom(ID_BYTES)).encode()
SAMPLE_AT = float(int.from_bytes(os.urandom(4), "big"))
SAMPLE_MOMENT = (render.moment(SAMPLE_AT) or "").encode()
"""An id and a time that stand nowhere else."""
QUEUED = ((b"etag", b'"1"'), (b"retry-after", b"1"), (b"content-type", b"application/json"))
"""Headers of a job that was just queued."""


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
    job, existing = await _queued(call, bound, options, await params.body(call.request, call.client.max_payload))
    if wait is not None:
        job = await call.service.settled(job.id, wait)
    # The holder of a taken unique key was there before: nothing was accepted.
    status = 200 if existing or job.state.final else 202
    return accepted(call, job, status, applied(wait), result=job.task == bound.name)


async def submit_plain(call: Call) -> Response:
    """What `submit` does where only the arguments are given."""
    call.service.accepting()
    bound = _task(call)
    data = await params.small_body(call.request, call.client.max_payload, call.service.deadlines)
    job, existing = await _queued(call, bound, bound.options, data)
    if existing or job.run_at != job.created_at:
        return accepted(call, job, 200 if existing else 202, {}, result=job.task == bound.name)
    own, at = job.id.encode(), (render.moment(job.created_at) or "").encode()
    location, body = (
        part.replace(SAMPLE_ID, own).replace(SAMPLE_MOMENT, at) for part in _sample(bound.task, call.base)
    )
    head = [(b"location", location), *QUEUED, (b"content-length", b"%d" % len(body))]
    return Prepared(202, head, body)


async def _queued(call: Call, bound: BoundTask[..., ..., Any, Any], options: Options, body: bytes) -> tuple[Job, bool]:
    """Queue a job with the arguments in `body`; it, and whether it is one that was there before."""
    arguments = bound.task.bind_json(body or b"{}", call.client.max_payload)
    if body:
        params.check_names(body)
    own = new_id(call.client.now(), os.urandom(ID_BYTES))
    [job] = await call.client.add([(bound.name, arguments, options)], [own])
    if isinstance(job, HeavyliftError):
        raise job
    return job, job.id != own


@lru_cache(maxsize=256)
def _sample(task: Task, base: str) -> tuple[bytes, bytes]:
    """The location and the resource of a job that was just queued, with SAMPLE_ID and SAMPLE_MOMENT in them."""
    job, _ = lifecycle.submit(SAMPLE_ID.decode(), task.name, b"", task.options, SAMPLE_AT)
    body = render.job(job, base)
    return body["links"]["self"].encode(), to_json(body)


def accepted(call: Call, job: Job, status: int, headers: dict[str, str], *, result: bool) -> Response:
    """The job that was submitted, and with `result` that, too, when it has one already."""
    outlook = at_a_glance(job, call.client.now())
    body = call.job(job, outlook)
    data = to_json(body)
    if result and job.state is State.SUCCEEDED:
        data = data[:-1] + b',"result":' + (job.result or b"null") + b"}"
    headers = {"Location": body["links"]["self"]} | polling(call, job, outlook) | headers
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
