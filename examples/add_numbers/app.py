"""A queue with limits behind a few routes: queue a job, ask for its status, look at the queue, cancel.

POST /workers/jobs/add-two-numbers    {"a": 5, "b": 10}          →  201 {"success": true, "jobId": …, "message": …}
POST /workers/jobs/add-three-numbers  {"a": 1, "b": 2, "c": 3}   →  the same
GET  /workers/jobs/{id}     →  {"success": true, "status": {"id", "name", "data", "progress", "returnvalue", …}}
GET  /workers/queue/stats   →  {"success": true, "stats": {"waiting", "active", "completed", "failed"}}
GET  /jobs?limit&offset     →  the jobs, newest first
GET  /jobs/{id}/progress    →  how far one is
POST /jobs/{id}/cancel      →  201 {"success": true or false, "message": …}
GET  /, GET /health         →  who answers

A job may take "burn" seconds of CPU time and belong to a "userId". What it is comes from the URL alone. At most
QUEUE_SIZE wait and QUEUE_CONCURRENCY run; one that raises is started three times, after 2 and 4 seconds. Jobs that
wait for their next start count as waiting, cancelled ones as failed. The native API is under /api.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from examples.add_numbers.tasks import (
    QUEUE,
    QUEUE_CONCURRENCY,
    QUEUE_SIZE,
    Burn,
    Number,
    add_three_numbers,
    add_two_numbers,
    lift,
)
from heavylift import Handle, HeavyliftError, Job, JobFinished, JobNotFound, State
from heavylift.http import problems

SERVER = "add-numbers"
FAILED_POST = "Failed to queue job"
FAILED_GET = {"/workers/queue/stats": "Failed to get queue stats"}


@contextlib.asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Beside the web process runs a worker, and the queue has its limits."""
    async with lift.lifespan(application):
        await lift.store.set_queue(QUEUE, max_size=QUEUE_SIZE, concurrency=QUEUE_CONCURRENCY)
        yield


app = FastAPI(title="Add numbers", lifespan=lifespan)


class TwoNumbers(BaseModel):
    """What is to be added; for whom, and after how much work."""

    model_config = ConfigDict(strict=True)

    a: Number
    b: Number
    burn: Burn = 0.0
    user_id: Annotated[str | None, Field(alias="userId", pattern=r"^[A-Za-z0-9._@:-]{1,128}$")] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What the job is given: no more than what was said."""
        return self.model_dump(exclude={"user_id"}, exclude_unset=True)

    @property
    def labels(self) -> dict[str, str]:
        """What the job is marked with."""
        return {"user": self.user_id} if self.user_id else {}


class ThreeNumbers(TwoNumbers):
    """One more."""

    c: Number


# --- the queue -----------------------------------------------------------------------------------------------------


@app.post("/workers/jobs/add-two-numbers", status_code=201)
async def queue_two_numbers(body: TwoNumbers) -> dict[str, Any]:
    return queued(await add_two_numbers.using(labels=body.labels).submit(**body.arguments))


@app.post("/workers/jobs/add-three-numbers", status_code=201)
async def queue_three_numbers(body: ThreeNumbers) -> dict[str, Any]:
    return queued(await add_three_numbers.using(labels=body.labels).submit(**body.arguments))


def queued(handle: Handle[Any]) -> dict[str, Any]:
    return {"success": True, "jobId": handle.id, "message": "Job queued successfully"}


@app.get("/workers/jobs/{job_id}")
async def job_status(job_id: str) -> dict[str, Any]:
    return {"success": True, "status": status_of((await lift.get(job_id)).job)}


@app.get("/workers/queue/stats")
async def queue_stats() -> dict[str, Any]:
    counts = next(queue.counts for queue in await lift.client.queues() if queue.name == QUEUE)
    stats = {
        "waiting": counts.get(State.QUEUED, 0),
        "active": counts.get(State.RUNNING, 0),
        "completed": counts.get(State.SUCCEEDED, 0),
        "failed": counts.get(State.FAILED, 0) + counts.get(State.CANCELLED, 0),
    }
    return {"success": True, "stats": stats}


# --- the jobs ------------------------------------------------------------------------------------------------------


@app.get("/jobs")
async def all_jobs(
    limit: Annotated[int, Query(ge=1, le=1000)] = 50, offset: Annotated[int, Query(ge=0, le=10_000)] = 0
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    async for job in lift.find(queue=QUEUE):
        rows.append(row(job))
        if len(rows) == offset + limit:
            break
    return rows[offset:]


@app.get("/jobs/{job_id}/progress")
async def job_progress(job_id: str) -> dict[str, Any]:
    status = status_of((await lift.get(job_id)).job)
    names = ("state", "processedOn", "finishedOn", "failedReason")
    return {"jobId": job_id, "publicProgress": status["progress"]} | {name: status[name] for name in names}


@app.post("/jobs/{job_id}/cancel", status_code=201)
async def cancel_job(job_id: str) -> dict[str, Any]:
    try:
        receipt = await lift.cancel(job_id)
    except JobFinished:
        ended = status_of((await lift.get(job_id)).job)["state"]
        return {"success": False, "message": f"Job {job_id} is already {ended}"}
    if receipt.final and receipt.state is not State.CANCELLED:
        return {"success": False, "message": f"Job {job_id} is already {WORDS[receipt.state]}"}
    return {"success": True, "message": f"Cancellation signal sent for job {job_id}"}


# --- who answers ---------------------------------------------------------------------------------------------------


@app.get("/")
async def home() -> dict[str, str]:
    return {"server": SERVER, "build_version": version("heavylift")}


@app.get("/health")
async def health() -> dict[str, str | None]:
    return {
        "status": "alive",
        "timestamp": moment(time.time()),
        "service": SERVER,
        "build_version": version("heavylift"),
    }


# --- the job in the words of this API ------------------------------------------------------------------------------

WORDS = {
    State.BLOCKED: "waiting",
    State.QUEUED: "waiting",
    State.RUNNING: "active",
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "failed",
}


def status_of(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.task,
        "data": json.loads(job.args),
        "progress": (job.progress.percent if job.progress else None) or 0,
        "returnvalue": json.loads(job.result) if job.result else None,
        "failedReason": reason(job),
        "processedOn": milliseconds(job.started_at),
        "finishedOn": milliseconds(job.finished_at),
        "state": WORDS[job.state],
    }


def row(job: Job) -> dict[str, Any]:
    """The job as its database has it."""
    statuses = {State.QUEUED: "PENDING", State.RUNNING: "ACTIVE", State.SUCCEEDED: "COMPLETED"}
    return {
        "id": job.id,
        "createdAt": moment(job.created_at),
        "updatedAt": moment(max(job.created_at, job.started_at or 0, job.finished_at or 0)),
        "userId": job.options.labels.get("user"),
        "status": statuses.get(job.state, job.state.name),
        "type": job.task,
        "data": json.loads(job.args),
        "result": json.loads(job.result) if job.result else None,
        "error": reason(job),
        "startedAt": moment(job.started_at),
        "completedAt": moment(job.finished_at),
        "bullJobId": job.id,
    }


def reason(job: Job) -> str | None:
    if job.state is State.CANCELLED:
        return f"Job {job.id} was cancelled"
    return job.error.message if job.error and job.state is not State.SUCCEEDED else None


def milliseconds(at: float | None) -> int | None:
    return None if at is None else round(at * 1000)


def moment(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- refusals ------------------------------------------------------------------------------------------------------


@app.exception_handler(RequestValidationError)
async def refuse(request: Request, error: RequestValidationError) -> Response:
    """What does not fit, before anything is queued."""
    wrong = "; ".join(f"{'/'.join(map(str, item['loc'][1:])) or 'body'}: {item['msg']}" for item in error.errors())
    return refusal(request, problems.Refused(422, "invalid", wrong))


@app.exception_handler(JobNotFound)
async def not_found(request: Request, error: JobNotFound) -> Response:
    """A job that never was, or that is forgotten."""
    if queue_route(request):
        return JSONResponse({"success": False, "message": "Job not found"}, 404)
    return refusal(request, problems.Refused(404, error.code, f"Job with id {error.job_id} not found"))


@app.exception_handler(HeavyliftError)
async def heavylift_error(request: Request, error: HeavyliftError) -> Response:
    """A full queue, or a store that is away."""
    return refusal(request, problems.refused(error))


def refusal(request: Request, problem: problems.Refused) -> Response:
    body: dict[str, Any]
    if queue_route(request):
        failed = (
            FAILED_POST if request.method == "POST" else FAILED_GET.get(request.url.path, "Failed to get job status")
        )
        body = {"success": False, "message": failed, "error": problem.detail}
    else:
        phrase = HTTPStatus(problem.status).phrase
        body = {"message": problem.detail, "error": phrase, "statusCode": problem.status}
    return JSONResponse(body, problem.status, problem.headers)


def queue_route(request: Request) -> bool:
    return request.url.path.startswith("/workers/")


app.mount("/api", lift.asgi())
