"""Handlers of tasks, and of the jobs that are submitted to them."""

from __future__ import annotations

import os
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic_core import to_json
from starlette.responses import Response

from heavylift.core import lifecycle
from heavylift.core.errors import ConfigError, DuplicateJob, HeavyliftError
from heavylift.core.job import State, new_id
from heavylift.http import params, render
from heavylift.http.call import Call, Prepared, answer, applied, polling
from heavylift.http.problems import Refused
from heavylift.outlook import at_a_glance
from heavylift.submission import ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heavylift.bound_task import BoundTask
    from heavylift.core.job import Job
    from heavylift.core.task import Task
    from heavylift.store import Added

    AnyTask: TypeAlias = BoundTask[..., ..., Any, Any]

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
    bound, key = _with_options(_task(call), call), params.idempotency_key(call.request)
    wait = params.wait(call.request)
    body = await params.body(call.request, call.client.max_payload)
    added = await (_queued(call, bound, body) if key is None else _queued_once(call, bound, key, body))
    job = added.job if wait is None else await call.service.settled(added.job.id, wait)
    # One that was there before, by its id or its unique key, was not accepted now.
    status = 202 if added.created and not job.state.final else 200
    headers = applied(wait)
    if key is not None and not added.created and job.id == _idempotent_id(bound, key):
        headers |= {"Idempotency-Replayed": "true"}
    return accepted(call, job, status, headers, result=job.task == bound.name)


async def submit_plain(call: Call) -> Response:
    """What `submit` does where only the arguments are given."""
    call.service.accepting()
    bound = _task(call)
    data = await params.small_body(call.request, call.client.max_payload, call.service.deadlines)
    added = await _queued(call, bound, data)
    job = added.job
    if not added.created or job.run_at != job.created_at or job.expires_at is not None:
        return accepted(call, job, 202 if added.created else 200, {}, result=job.task == bound.name)
    own, at = job.id.encode(), (render.moment(job.created_at) or "").encode()
    location, body = (
        part.replace(SAMPLE_ID, own).replace(SAMPLE_MOMENT, at) for part in _sample(bound.task, call.base)
    )
    head = [(b"location", location), *QUEUED, (b"content-length", b"%d" % len(body))]
    return Prepared(202, head, body)


async def _queued(call: Call, bound: AnyTask, body: bytes) -> Added:
    """Queue a job with the arguments in `body`."""
    arguments = bound.task.bind_json(body or b"{}", call.client.max_payload)
    if body:
        params.check_names(body)
    ids = [] if bound.job_id is None else [bound.job_id]
    [added] = await call.client.add([bound.request(arguments)], ids)
    if isinstance(added, HeavyliftError):
        raise added
    return added


async def _queued_once(call: Call, bound: AnyTask, key: str, body: bytes) -> Added:
    """Queue a job, unless there is one of this task with this idempotency key."""
    if bound.job_id is not None:
        raise params.parameter(name="id", detail="the Idempotency-Key makes an id; give one of the two.")
    try:
        return await _queued(call, bound.using(id=_idempotent_id(bound, key)), body)
    except DuplicateJob as error:
        if error.unique is not None:
            raise
        detail = (
            f"The Idempotency-Key {key!r} was sent before, with other arguments: those of job {error.existing}. Send"
            " another key for another job."
        )
        raise Refused(422, "idempotency-key-reused", detail, existing=error.existing) from None


def _idempotent_id(bound: AnyTask, key: str) -> str:
    """The id of the job that a key stands for: the same in each web process, and another one for each task."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"heavylift:{bound.name}/idempotency/{key}"))


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


def _task(call: Call) -> AnyTask:
    return call.service.lift.find_task(call.part("task"))


def _with_options(bound: AnyTask, call: Call) -> AnyTask:
    return optioned(bound, params.options(call.request))


def optioned(bound: AnyTask, given: Mapping[str, Any]) -> AnyTask:
    """The task with these options of a submit; raises Refused."""
    if not given:
        return bound
    try:
        return bound.using(**given)
    except ConfigError as error:
        name = str(error).partition(":")[0].partition(" ")[0]  # of "labels key", too, it is the labels
        raise Refused(400, "invalid-parameter", str(error), parameter=name) from None
