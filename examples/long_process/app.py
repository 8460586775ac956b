"""Two routes: start a long process, and poll its status. The loop that answers them never waits for the work.

POST /long-process/start          {"duration": 10}  →  201 {"taskId": …, "message": "Task started"}
GET  /long-process/status/{id}    →  200 {"taskId": …, "status": {"status": …, "result": …}}

A status is pending, completed, failed or not_found.

The work is bounded in every way: a duration of an hour at most, a timeout, as many at a time as there are CPUs, and
QUEUE_SIZE waiting. Whatever becomes of it, its status says so: a process that crashed is failed, and what was accepted
survives a restart. What is done is forgotten after a day. The native API under /api can stop what runs:
POST /api/v1/jobs/{id}/cancel.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from examples.long_process.tasks import QUEUE, QUEUE_SIZE, SLACK, Duration, lift, long_process
from heavylift import Handle, HeavyliftError, JobError, JobNotFound
from heavylift.core.errors import Problem
from heavylift.http import problems


@contextlib.asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Beside the web process runs a worker, and the queue has an end."""
    async with lift.lifespan(application):
        await lift.store.set_queue(QUEUE, max_size=QUEUE_SIZE)
        yield


app = FastAPI(title="Long process", lifespan=lifespan)


class Start(BaseModel):
    """What is to be done."""

    model_config = ConfigDict(strict=True)

    duration: Duration


@app.post("/long-process/start", status_code=201)
async def start(body: Start) -> dict[str, str]:
    handle = await long_process.using(timeout=body.duration + SLACK).submit(body.duration)
    return {"taskId": handle.id, "message": "Task started"}


@app.get("/long-process/status/{task_id}")
async def status(task_id: str) -> dict[str, Any]:
    try:
        handle = await lift.get(task_id)
    except JobNotFound:
        return {"taskId": task_id, "status": {"status": "not_found"}}
    return {"taskId": task_id, "status": await state_of(handle)}


async def state_of(handle: Handle[Any]) -> dict[str, Any]:
    """The job in the words of this API."""
    if not handle.state.final:
        return {"status": "pending"}
    try:
        return {"status": "completed", "result": await handle.result()}
    except JobError as error:
        return {"status": "failed", "result": error.job.error.message if error.job.error else "The task was cancelled"}


@app.exception_handler(RequestValidationError)
async def refuse(request: Request, error: RequestValidationError) -> Response:
    """A body that does not fit, before anything is queued."""
    if any(item["type"] == "json_invalid" for item in error.errors()):
        return problems.response(request, problems.invalid([Problem("", "it is not JSON")]))
    wrong = [Problem("".join(f"/{part}" for part in item["loc"][1:]), item["msg"]) for item in error.errors()]
    return problems.response(request, problems.invalid(wrong))


app.add_exception_handler(HeavyliftError, problems.heavylift_error)
app.mount("/api", lift.asgi())
