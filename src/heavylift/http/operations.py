"""Every operation of the API: its path, its handler, and what it takes and answers. Routes and description are made
of this one table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from heavylift.core.job import State
from heavylift.core.options import FEWEST_FILES, MOST_FILES, MOST_PROCESSES
from heavylift.http import jobs, logs, params, queues, resources, site, sse, tasks
from heavylift.http.call import Call

JSON, METRICS = "application/json", "text/plain"
NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"}
DURATION = {"type": "string", "pattern": resources.DURATION}
LIMIT = {"type": "string", "pattern": resources.LIMIT}
SIZE = {"type": "string", "pattern": "^[1-9][0-9]{0,8}(B|[KMG]i?B)?$"}
MOMENT = {"type": "string", "format": "date-time", "pattern": "^(19[7-9]|[2-9][0-9]{2})[0-9]-"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, the path or the header."""

    name: str
    where: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers: by media type the name of a resource or a schema; `headers` are names of `HEADERS`."""

    description: str
    content: Mapping[str, str | Mapping[str, Any]] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation. `body` and `problems` name a resource and the codes of problems."""

    name: str
    method: str
    path: str
    handler: Callable[[Call], Awaitable[Response]]
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    tag: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: str | None = None
    problems: tuple[str, ...] = ()


# --- parameters --------------------------------------------------------------------------------------------------


def _query(name: str, description: str, schema: Mapping[str, Any]) -> Parameter:
    return Parameter(name, "query", description, schema)


def _integers(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


ID = Parameter("id", "path", "The job's id.", {"type": "string", "minLength": 1})
TASK = Parameter("task", "path", "The task's name.", NAME)
PREFER = Parameter(
    "Prefer",
    "header",
    "`wait=N` (RFC 7240): up to so many seconds, 300 at most, before the answer.",
    {"type": "string", "pattern": "^wait=[0-9]{1,9}$"},
)
IF_NONE_MATCH = Parameter(
    "If-None-Match", "header", "The ETag that the caller has: 304 while it is still right.", {"type": "string"}
)
LAST_EVENT = Parameter(
    "Last-Event-ID",
    "header",
    "The id of the last event that was read; wins over `after`.",
    {"type": "string", "pattern": "^[0-9]{0,18}$"},
)
AFTER = _query("after", "Begin after this event.", {"type": "integer", "minimum": 0, "maximum": 10**18 - 1})
PAGE_SIZE = _query(
    "page_size",
    "Items of a page, at most.",
    {"type": "integer", "minimum": 1, "maximum": params.PAGE_SIZE[1], "default": params.PAGE_SIZE[0]},
)
PAGE_TOKEN = _query("page_token", "The `next_page_token` of the page before.", {"type": "string"})
LABELS = _query(
    "labels",
    "Labels, each as a parameter of its own: `label.tenant=acme`.",
    {
        "type": "object",
        "propertyNames": {"pattern": "^label\\.[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"},
        "additionalProperties": {"type": "string", "maxLength": 256, "pattern": "^[^\\u0000]*$"},
        "maxProperties": 32,
        "default": {},
    },
)
OPTIONS = (
    _query("queue", "The queue that it stands in.", NAME),
    _query("priority", "0-9, higher first.", _integers(0, 9)),
    _query("delay", 'Start after so many seconds, or "10m", at the earliest.', DURATION),
    _query("run_at", "Start at this time, at the earliest; wins over `delay`.", MOMENT),
    _query("timeout", "Of one attempt: seconds, or text such as 10m.", LIMIT),
    _query("grace", "What it gets for cleaning up when it is stopped.", DURATION),
    _query("max_attempts", "Starts that may end in failure.", _integers(1, 1000)),
    _query(
        "unique",
        "Of the jobs with this key only one waits or runs.",
        {"type": "string", "minLength": 1, "maxLength": 512, "pattern": "^[^\\u0000]*$"},
    ),
    _query(
        "on_conflict",
        "When the unique key is taken: answer that job (200), or refuse (409).",
        {"type": "string", "enum": ["return", "reject"], "default": "return"},
    ),
    _query("memory", "Resident bytes of the attempt and all that it starts: 1GiB.", SIZE),
    _query("cpu_time", "CPU seconds of the attempt and all that it starts, or text such as 10m.", LIMIT),
    _query("processes", "Processes that it may have started at a time.", _integers(1, MOST_PROCESSES)),
    _query("address_space", "Bytes that each of its processes may have mapped: 4GiB.", SIZE),
    _query("open_files", "Descriptors that each of its processes may open.", _integers(FEWEST_FILES, MOST_FILES)),
    _query("nice", "Added to the niceness of hosts.", _integers(0, 19)),
    LABELS,
)
FILTERS = (
    _query(
        "state",
        "One state, or several with commas between.",
        {"type": "string", "pattern": "^(({0})(,({0}))*)?$".format("|".join(State))},
    ),
    _query("task", "Of this task.", {"type": "string"}),
    _query("queue", "In this queue.", {"type": "string"}),
    LABELS,
    PAGE_SIZE,
    PAGE_TOKEN,
)

# --- answers -----------------------------------------------------------------------------------------------------

HEADERS: dict[str, dict[str, Any]] = {
    "Location": {"description": "Where the job is.", "schema": {"type": "string", "format": "uri-reference"}},
    "Retry-After": {
        "description": "Seconds after which it is worth to look, or to try, again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "ETag": {"description": "The number of the job's last event.", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "That the wish to wait was heard.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "`no-store`.", "schema": {"type": "string"}},
}
POLLING = ("ETag", "Retry-After", "Preference-Applied")
STREAM = {"description": "Server-sent events (WHATWG HTML, 9.2)."}
NOT_MODIFIED = Answer("It is still what the caller has.", {}, POLLING)
ALL_READ = Answer("The caller has read it all; a browser does not come again.")
SUBMITTED = {
    202: Answer("Accepted, and durable.", {JSON: "FinishedJob"}, ("Location", *POLLING)),
    200: Answer(
        "It is over (after `Prefer: wait`), with its result if it succeeded; or the unique key belongs to this job.",
        {JSON: "FinishedJob"},
        ("Location", *POLLING),
    ),
}
BODY = ("malformed-json", "invalid-body", "payload-too-large", "unsupported-media-type", "body-too-slow", "cross-site")
JOB = ("job-not-found", "job-pruned")
EVENTS = """\
Each event has the job's event number as its `id`. A stream begins with `snapshot` (the job), unless it is resumed, and
goes on with `state`, `progress`, `log`, `checkpoint` and `cancel`, until `end`. A comment comes every 15 s. To resume
without loss or repeats, give the last id as `Last-Event-ID`, as browsers do, or as `after`."""
LOGS = """\
JSON by default. With `Accept: text/plain` lines of text; with `Accept: text/event-stream` events of the kind `log`,
live, until `end`. With `follow=1` the text, too, goes on until the job is over."""

STACK = """\
Its worker is asked, and does not disturb the run: the answer takes some milliseconds, or a few seconds when native code
has the interpreter. Lines of code and command lines may hold secrets: show them to whom you trust."""

SUBMIT_PROBLEMS = (
    *("unknown-parameter", "invalid-parameter", "malformed-json", "cross-site", "unknown-task", "body-too-slow"),
    *("duplicate-job", "payload-too-large", "unsupported-media-type", "invalid-arguments", "queue-full", "draining"),
)

# --- the table ---------------------------------------------------------------------------------------------------

SUBMIT = Operation(
    name="submit",
    method="POST",
    path="/tasks/{task}/jobs",
    handler=tasks.submit,
    summary="Submit a job",
    tag="tasks",
    parameters=(TASK, *OPTIONS, PREFER),
    answers=SUBMITTED,
    problems=SUBMIT_PROBLEMS,
)
"""Described once for each task, with the schemas of its arguments and result."""

RESOURCES = (
    Operation(
        name="list_tasks",
        method="GET",
        path="/tasks",
        handler=tasks.listed,
        summary="All tasks",
        tag="tasks",
        answers={200: Answer("The tasks, by name.", {JSON: "TaskPage"})},
        problems=("unknown-parameter",),
    ),
    Operation(
        name="get_task",
        method="GET",
        path="/tasks/{task}",
        handler=tasks.get,
        summary="One task",
        tag="tasks",
        parameters=(TASK,),
        answers={200: Answer("The task.", {JSON: "Task"})},
        problems=("unknown-parameter", "unknown-task"),
    ),
    SUBMIT,
    Operation(
        name="list_jobs",
        method="GET",
        path="/jobs",
        handler=jobs.listed,
        summary="Jobs, newest first",
        tag="jobs",
        parameters=FILTERS,
        answers={200: Answer("A page of jobs.", {JSON: "JobPage"})},
        problems=("unknown-parameter", "invalid-parameter"),
    ),
    Operation(
        name="get_job",
        method="GET",
        path="/jobs/{id}",
        handler=jobs.get,
        summary="One job",
        description="As it is now; with `Prefer: wait=N` as soon as it changes (from `If-None-Match`, or from now).",
        tag="jobs",
        parameters=(ID, PREFER, IF_NONE_MATCH),
        answers={200: Answer("The job.", {JSON: "Job"}, POLLING), 304: NOT_MODIFIED},
        problems=("unknown-parameter", *JOB),
    ),
    Operation(
        name="get_result",
        method="GET",
        path="/jobs/{id}/result",
        handler=jobs.result,
        summary="The bare result",
        description="With `Prefer: wait=N` as soon as there is one.",
        tag="jobs",
        parameters=(ID, PREFER, IF_NONE_MATCH),
        answers={
            200: Answer("The result, as its task describes it.", {JSON: {}}, POLLING),
            202: Answer("There is none yet.", {JSON: "Unfinished"}, POLLING),
            304: NOT_MODIFIED,
        },
        problems=("unknown-parameter", *JOB, "job-failed", "job-timed-out", "job-crashed", "job-cancelled"),
    ),
    Operation(
        name="follow_job",
        method="GET",
        path="/jobs/{id}/events",
        handler=jobs.events,
        summary="What happens to a job, live",
        description=EVENTS,
        tag="jobs",
        parameters=(ID, AFTER, LAST_EVENT),
        answers={200: Answer("Its events.", {sse.MEDIA_TYPE: STREAM}, ("Cache-Control",)), 204: ALL_READ},
        problems=("unknown-parameter", "invalid-parameter", *JOB),
    ),
    Operation(
        name="get_logs",
        method="GET",
        path="/jobs/{id}/logs",
        handler=logs.get,
        summary="The log of a job",
        description=LOGS,
        tag="jobs",
        parameters=(
            ID,
            _query(
                "follow", "1: go on until the job is over.", {"type": "string", "enum": ["0", "1", "false", "true"]}
            ),
            AFTER,
            PAGE_SIZE,
            PAGE_TOKEN,
            LAST_EVENT,
        ),
        answers={
            200: Answer(
                "Its lines.",
                {JSON: "LogPage", logs.TEXT: {"type": "string"}, sse.MEDIA_TYPE: STREAM},
            ),
            204: ALL_READ,
        },
        problems=("unknown-parameter", "invalid-parameter", *JOB, "not-acceptable"),
    ),
    Operation(
        name="get_checkpoint",
        method="GET",
        path="/jobs/{id}/checkpoint",
        handler=jobs.checkpoint,
        summary="What a job saved to resume from",
        tag="jobs",
        parameters=(ID,),
        answers={200: Answer("The value of its code, and the results of its steps.", {JSON: "Checkpoint"}, ("ETag",))},
        problems=("unknown-parameter", *JOB, "no-checkpoint"),
    ),
    Operation(
        name="get_stack",
        method="GET",
        path="/jobs/{id}/stack",
        handler=jobs.stack,
        summary="Where the code of a running job is now",
        description=STACK,
        tag="jobs",
        parameters=(ID,),
        answers={200: Answer("Its Python stack, and its processes.", {JSON: "Stack"}, ("Cache-Control",))},
        problems=("unknown-parameter", *JOB, "job-not-running", "no-answer"),
    ),
    Operation(
        name="cancel_job",
        method="POST",
        path="/jobs/{id}/cancel",
        handler=jobs.cancel,
        summary="Stop a job",
        description="The receipt says what really happened. With `Prefer: wait=N` it waits for the end.",
        tag="jobs",
        parameters=(ID, PREFER),
        body="CancelBody",
        answers={
            200: Answer("It is over.", {JSON: "Receipt"}, ("Preference-Applied",)),
            202: Answer("It was asked to stop, and is not over yet.", {JSON: "Receipt"}, ("Preference-Applied",)),
        },
        problems=("unknown-parameter", *JOB, "job-finished", *BODY),
    ),
    Operation(
        name="retry_job",
        method="POST",
        path="/jobs/{id}/retry",
        handler=jobs.retry,
        summary="Start a job that is over anew",
        description="From its checkpoint, unless it is to begin from the start; with new budgets.",
        tag="jobs",
        parameters=(ID,),
        body="RetryBody",
        answers={202: Answer("It is queued again.", {JSON: "Job"}, ("Location", "ETag", "Retry-After"))},
        problems=("unknown-parameter", *JOB, "job-not-finished", "duplicate-job", *BODY, "draining"),
    ),
    Operation(
        name="list_queues",
        method="GET",
        path="/queues",
        handler=queues.listed,
        summary="All queues",
        tag="queues",
        answers={200: Answer("The queues, by name.", {JSON: "QueuePage"})},
        problems=("unknown-parameter",),
    ),
    Operation(
        name="change_queue",
        method="PATCH",
        path="/queues/{name}",
        handler=queues.change,
        summary="Pause, resume or limit a queue",
        tag="queues",
        parameters=(Parameter("name", "path", "The queue's name.", NAME),),
        body="QueueBody",
        answers={200: Answer("The queue as it is now.", {JSON: "Queue"})},
        problems=("unknown-parameter", "invalid-parameter", *BODY),
    ),
    Operation(
        name="list_workers",
        method="GET",
        path="/workers",
        handler=queues.workers,
        summary="All workers",
        tag="workers",
        answers={200: Answer("The workers, by start.", {JSON: "WorkerPage"})},
        problems=("unknown-parameter",),
    ),
)
"""What stands under /v1, or where a router was included."""

SITE = (
    Operation(
        name="index",
        method="GET",
        path="/",
        handler=site.index,
        summary="Where everything is",
        tag="service",
        answers={200: Answer("The paths.", {JSON: "Index"})},
        problems=("unknown-parameter",),
    ),
    Operation(
        name="health",
        method="GET",
        path="/healthz",
        handler=site.health,
        summary="The process is alive",
        tag="service",
        answers={200: Answer("It is.", {JSON: "Health"})},
    ),
    Operation(
        name="readiness",
        method="GET",
        path="/readyz",
        handler=site.ready,
        summary="Jobs are accepted and worked on",
        tag="service",
        answers={200: Answer("They are.", {JSON: "Readiness"})},
        problems=("unknown-parameter", "draining", "no-worker"),
    ),
    Operation(
        name="metrics",
        method="GET",
        path="/metrics",
        handler=site.metrics,
        summary="Metrics for Prometheus",
        tag="service",
        answers={200: Answer("The metrics of all workers of the store.", {METRICS: {"type": "string"}})},
        problems=("unknown-parameter", "no-metrics"),
    ),
)
"""What stands at the root of a service of its own."""
