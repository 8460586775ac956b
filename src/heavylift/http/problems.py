"""Errors as `application/problem+json` (RFC 9457), with the stable `code` of the error tree."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route

from heavylift.core import errors
from heavylift.core.codec import NotJson

MEDIA_TYPE = "application/problem+json"
STORE_RETRY_AFTER = 5
"""Seconds after which a caller may try again while the store is away."""

log = logging.getLogger("heavylift.http")

Handler = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """A request that is answered with a problem. `members` are extension members of the problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members


STATUS: dict[type[errors.HeavyliftError], int] = {
    errors.ConfigError: 503,
    errors.SubmitError: 400,
    errors.UnknownTask: 404,
    errors.InvalidArguments: 422,
    errors.PayloadTooLarge: 413,
    errors.QueueFull: 503,
    errors.DuplicateJob: 409,
    errors.JobNotFound: 404,
    errors.JobPruned: 410,
    errors.JobFinished: 409,
    errors.JobNotFinished: 409,
    errors.JobNotRunning: 409,
    errors.JobNotWaiting: 409,
    errors.JobChanged: 412,
    errors.NoAnswer: 504,
    errors.StoreError: 503,
    errors.JobError: 409,
    errors.HeavyliftError: 500,
}
"""The status of each error; a class that is not named here has its parent's."""


def refused(error: errors.HeavyliftError) -> Refused:
    """The problem that stands for an error of the tree."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if isinstance(error, errors.ConfigError):
        # What a request says is checked where it is read, so this is the server's own: not for its callers to see.
        log.error("the server cannot be used as it is configured: %s", error)
        return Refused(status, error.code, "The server cannot be used as it is configured; its log says why.")
    headers, members = _extras(error)
    return Refused(status, error.code, str(error), headers=headers, **members)


def invalid(problems: Sequence[errors.Problem]) -> Refused:
    """A body that does not fit: 422 with one pointer per mistake."""
    lines = "; ".join(f"{problem.pointer or '/'}: {problem.detail}" for problem in problems)
    detail = f"The body does not fit: {lines}"
    return Refused(422, "invalid-body", detail, errors=[asdict(problem) for problem in problems])


def body(request: Request, problem: Refused) -> dict[str, Any]:
    """The problem as JSON values."""
    return {
        "title": title(problem.code, problem.status),
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.url.path,
        "code": problem.code,
        **problem.members,
    }


def response(request: Request, problem: Refused) -> Response:
    """The problem as an answer to this request."""
    # Escaped to ASCII: what is quoted in an error may be no text that UTF-8 can hold.
    data = json.dumps(body(request, problem), default=str)
    return Response(data, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def guarded(handler: Handler) -> Handler:
    """The handler, with everything that it raises turned into a problem."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as problem:
            return response(request, problem)
        except errors.HeavyliftError as error:
            return response(request, refused(error))
        except NotJson as error:
            return response(request, Refused(400, "malformed-json", f"The body is not JSON: {error}."))
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody is there to read it
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            return response(request, Refused(500, "internal-error", "The server failed; its log says why."))

    return answer


async def heavylift_error(request: Request, error: Exception) -> Response:
    """An error of the tree as a problem: an exception handler for applications with routes of their own."""
    if not isinstance(error, errors.HeavyliftError):
        raise error
    return response(request, refused(error))


async def http_exception(request: Request, error: Exception) -> Response:
    """What the router refuses, 404 and 405, as a problem."""
    if not isinstance(error, HTTPException):
        raise error
    detail, headers = error.detail, error.headers
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at {request.url.path}. See /v1/tasks and /openapi.json for what there is."
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": _allowed(request)}
        detail = f"{request.method} is not possible here; allowed: {headers['Allow']}."
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return response(request, Refused(error.status_code, code, detail, headers=headers))


def _allowed(request: Request) -> str:
    """The methods of a path, which are those of several routes; Starlette names those of the first one."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    own = [route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
    return ", ".join(sorted({method for route in own for method in route.methods or ()}))


def _extras(error: errors.HeavyliftError) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and members that an error's attributes become."""
    match error:
        case errors.InvalidArguments():
            return {}, {"errors": [asdict(problem) for problem in error.problems]}
        case errors.PayloadTooLarge():
            return {}, {"size": error.size, "limit": error.limit}
        case errors.QueueFull():
            members = {"queue": error.queue, "limit": error.limit, "retry_after": error.retry_after}
            return {"Retry-After": str(error.retry_after)}, members
        case errors.DuplicateJob():
            return {}, {"existing": error.existing}
        case errors.StoreUnavailable():
            return {"Retry-After": str(STORE_RETRY_AFTER)}, {}
        case errors.JobFinished() | errors.JobNotFinished() | errors.JobNotRunning() | errors.JobNotWaiting():
            return {}, {"state": error.state}
        case errors.JobError():
            return {}, {"state": error.job.state}
    return {}, {}


def title(code: str, status: int) -> str:
    """What a kind of problem is called."""
    with contextlib.suppress(KeyError):
        return TITLES[code]
    return HTTPStatus(status).phrase


TITLES = {
    "config-error": "The server is not configured",
    "unknown-parameter": "There is no such parameter",
    "invalid-parameter": "A parameter does not fit",
    "malformed-json": "The body is not JSON",
    "body-too-slow": "The body did not arrive in time",
    "not-acceptable": "There is no such representation",
    "cross-site": "Other web sites may not use this API",
    "unknown-task": "There is no such task",
    "invalid-arguments": "The arguments do not fit",
    "invalid-body": "The body does not fit",
    "payload-too-large": "The body is too large",
    "unsupported-media-type": "The body must be JSON",
    "queue-full": "The queue is full",
    "duplicate-job": "There is such a job already",
    "idempotency-key-reused": "The idempotency key stands for another job",
    "job-not-found": "There is no such job",
    "job-pruned": "The job was removed",
    "job-not-running": "The job does not run",
    "job-not-waiting": "The job waits no more",
    "job-changed": "The job is another by now",
    "queue-not-found": "There is no such queue",
    "no-answer": "The job's worker did not answer",
    "no-checkpoint": "The job has no checkpoint",
    "job-finished": "The job is over",
    "job-not-finished": "The job is not over",
    "job-failed": "The job failed",
    "job-timed-out": "The job ran out of time",
    "job-crashed": "The process of the job died",
    "job-cancelled": "The job was cancelled",
    "store-unavailable": "The store is away",
    "schema-too-new": "The store belongs to a newer version",
    "draining": "The server is stopping",
    "no-worker": "No worker is alive",
    "no-metrics": "Metrics are not installed",
    "internal-error": "The server failed",
}

CODES: dict[str, tuple[int, str, dict[str, Any]]] = {
    "unknown-parameter": (
        400,
        "There is no query parameter 'prioritiy' here. Did you mean 'priority'? (known: queue, priority, …)",
        {"parameter": "prioritiy"},
    ),
    "invalid-parameter": (
        400,
        "priority: '12' is out of range; give an integer from 0 to 9.",
        {"parameter": "priority"},
    ),
    "malformed-json": (400, "The body is not JSON: EOF while parsing an object at line 1 column 1.", {}),
    "cross-site": (403, "A browser sent this for another web site.", {}),
    "unknown-task": (404, "There is no task 'ad'. Did you mean 'add'? (known tasks: add)", {}),
    "job-not-found": (404, "There is no job 'x'.", {}),
    "queue-not-found": (404, "No job has stood in queue 'x', and nobody has set it.", {}),
    "no-checkpoint": (404, "Job 0199… has saved nothing to resume from; a retry begins it from the start.", {}),
    "not-acceptable": (406, "There is nothing of 'image/png' here. Send Accept: application/json.", {}),
    "body-too-slow": (408, "The body did not arrive within 60 s.", {}),
    "duplicate-job": (
        409,
        "The unique key 'report:7' belongs to job 0199…: it is not over, or its unique_for is not.",
        {"existing": "0199…"},
    ),
    "job-finished": (409, "Job 0199… is over already: it succeeded.", {"state": "succeeded"}),
    "job-not-finished": (409, "Job 0199… is running: it can be retried when it is over.", {"state": "running"}),
    "job-not-running": (409, "Job 0199… is not running: it is queued, and due in 35 s.", {"state": "queued"}),
    "job-not-waiting": (
        409,
        "Job 0199… waits no more: it is running. Only a waiting job can be moved.",
        {"state": "running"},
    ),
    "job-failed": (409, "Job 0199… (add) failed: ValueError: no luck today", {"state": "failed"}),
    "job-timed-out": (409, "Job 0199… (add) failed: it ran longer than its timeout.", {"state": "failed"}),
    "job-crashed": (409, "Job 0199… (add) failed: its process was ended by SIGKILL.", {"state": "failed"}),
    "job-cancelled": (409, "Job 0199… (add) was cancelled.", {"state": "cancelled"}),
    "job-pruned": (410, "Job '0199…' was removed when its retention was over.", {}),
    "job-changed": (412, 'Job 0199… changed: its ETag is "5" by now. Look, and try again.', {"state": "queued"}),
    "payload-too-large": (413, "The body is over the limit of 1,048,576 bytes.", {"limit": 1048576}),
    "unsupported-media-type": (415, "The body is to be JSON in UTF-8, not 'text/plain'.", {}),
    "invalid-arguments": (
        422,
        "The arguments do not fit task 'add': /a: Input should be a valid integer",
        {"errors": [{"pointer": "/a", "detail": "Input should be a valid integer"}]},
    ),
    "idempotency-key-reused": (
        422,
        "The Idempotency-Key '8e03…' was sent before, with other arguments: those of job 0199….",
        {"existing": "0199…"},
    ),
    "invalid-body": (
        422,
        "The body does not fit: /force: 'yes' is neither true nor false.",
        {"errors": [{"pointer": "/force", "detail": "'yes' is neither true nor false."}]},
    ),
    "internal-error": (500, "The server failed; its log says why.", {}),
    "queue-full": (
        503,
        "Queue 'reports' is full: it holds its limit of 100 waiting jobs. Submit again in 7 s.",
        {"queue": "reports", "limit": 100, "retry_after": 7},
    ),
    "draining": (503, "This server is stopping. Try again: another one, or its successor, will answer.", {}),
    "no-worker": (503, "No worker is alive, so jobs would wait. The log says why it ended.", {}),
    "no-metrics": (501, "Metrics need prometheus_client, which is missing here.", {}),
    "no-answer": (504, "Worker 0198… runs job 0199…, and did not answer within 15 s.", {}),
    "store-unavailable": (503, "The store cannot be reached.", {}),
}
"""The problems that the operations document: status, an example of the detail, and further members."""
