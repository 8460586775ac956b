"""The same work in three places, and a light route that shows what it does to the others.

GET /                                    →  {"message": "Home sweet home"}
GET /blocking?CPUTimeMs=300              →  {"message": "/blocking route", "data": 300}
GET /non-blocking-worker?CPUTimeMs=300   →  {"CPUTimeMs": 300}
GET /child-process?CPUTimeMs=300         →  {"CPUTimeMs": 300}

`/blocking` works on the event loop, on purpose: until it is done nothing else is answered. The other two answer as
late, but work elsewhere: as a job in a process of the worker, and as a job that runs a program. Without CPUTimeMs
they take a second, and `/blocking` none.

A job goes on when the caller who waits for it leaves. The native API under /api follows and stops it.
"""

from __future__ import annotations

import contextlib
import html
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from examples.tasks_in_parallel.burn import burn
from examples.tasks_in_parallel.response_log import ResponseLog
from examples.tasks_in_parallel.tasks import LONGEST, QUEUE, QUEUE_SIZE, burn_in_child, burn_in_worker, lift
from heavylift import HeavyliftError, JobError
from heavylift.http import problems

CPUTime = Annotated[int, Query(alias="CPUTimeMs", ge=0, le=LONGEST)]

log = logging.getLogger("examples.tasks_in_parallel")


@contextlib.asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Beside the web process runs a worker, and the queue has an end."""
    async with lift.lifespan(application):
        await lift.store.set_queue(QUEUE, max_size=QUEUE_SIZE)
        yield


routes = FastAPI(title="Tasks in parallel", lifespan=lifespan)


@routes.get("/")
async def home() -> dict[str, str]:
    return {"message": "Home sweet home"}


@routes.get("/blocking")
async def blocking(cpu_time: Annotated[int | None, Query(alias="CPUTimeMs", ge=0, le=LONGEST)] = None) -> Any:
    if cpu_time is not None:
        log.warning("/blocking holds the event loop for %d ms", cpu_time)
        burn(cpu_time)
    return {"message": "/blocking route", "data": cpu_time}


@routes.get("/non-blocking-worker")
async def non_blocking_worker(cpu_time: CPUTime = 1000) -> dict[str, int]:
    handle = await burn_in_worker.submit(cpu_time)
    return await handle.result()


@routes.get("/child-process")
async def child_process(cpu_time: CPUTime = 1000) -> dict[str, int]:
    handle = await burn_in_child.submit(cpu_time)
    return await handle.result()


@routes.exception_handler(JobError)
async def failed(_: Request, error: JobError) -> Response:
    """The job did not succeed: why, and nothing of where in the code."""
    reason = error.job.error
    message = reason.message if reason else "The task was cancelled"
    if reason and reason.exit_code is not None:
        message = f"Worker stopped with exit code {reason.exit_code}"
    return JSONResponse({"message": message}, 500)


@routes.exception_handler(RequestValidationError)
async def refuse(request: Request, error: RequestValidationError) -> Response:
    """A query that does not fit, before any work is begun."""
    wrong = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
    return problems.response(request, problems.Refused(422, "invalid-parameter", wrong))


@routes.exception_handler(404)
async def no_such_page(request: Request, error: HTTPException) -> Response:
    """For people who mistyped an address."""
    wanted = html.escape(f"Cannot {request.method} {request.url.path}")
    return HTMLResponse(f"<!doctype html><title>Error</title><pre>{wanted}</pre>", error.status_code)


routes.add_exception_handler(HeavyliftError, problems.heavylift_error)
routes.mount("/api", lift.asgi())

# Around everything, so that what the framework answers by itself is logged as well.
app = ResponseLog(routes)
