"""Every operation of the API: its path, its handler, and what it takes and answers. Routes and description are made
of this one table.
"""

from __future__ import annotations

from typing import Any

from heavylift.http import batches, jobs, logs, queues, site, sse, tasks
from heavylift.http.operation import JSON, Answer, Operation
from heavylift.http.parameters import (
    AFTER,
    FILTERS,
    ID,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    IF_NONE_MATCH,
    LAST_EVENT,
    OPTIONS,
    PAGE_SIZE,
    PAGE_TOKEN,
    PREFER,
    QUEUE,
    TASK,
    query,
)

METRICS = "text/plain"
# --- answers -----------------------------------------------------------------------------------------------------

HEADERS: dict[str, dict[str, Any]] = {
    "Location": {"description": "Where the job is.", "schema": {"type": "string", "format": "uri-reference"}},
    "Retry-After": {
        "description": "Seconds after which it is worth to look, or to try, again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "ETag": {"description": "The number of the job's last event.", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "That the wish to wait was heard.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true`: the Idempotency-Key was sent before, and this is the job that it made then.",
        "schema": {"type": "string", "const": "true"},
    },
    "Cache-Control": {"description": "`no-store`.", "schema": {"type": "string"}},
}
POLLING = ("ETag", "Retry-After", "Preference-Applied")
STREAM = {"description": "Server-sent events (WHATWG HTML, 9.2)."}
NOT_MODIFIED = Answer("It is still what the caller has.", {}, POLLING)
ALL_READ = Answer("The caller has read it all; a browser does not come again.")
SUBMITTED = {
    202: Answer("Accepted, and durable.", {JSON: "FinishedJob"}, ("Location", *POLLING)),
    200: Answer(
        "It is over (after `Prefer: wait`), with its result if it succeeded; or it was there before, and has the id,"
        " the unique key or the Idempotency-Key.",
        {JSON: "FinishedJob"},
        ("Location", *POLLING, "Idempotency-Replayed"),
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

CHANGE_QUEUE = """\
A JSON merge patch (RFC 7396): what is left out stays, null lifts a limit; `keep` is set as a whole. The queue need not
exist. `by` and `reason` go with `"paused": true`; who pauses a paused queue changes them, but not since when it is.
Jobs that run go on. A `max_size` below the number of jobs that wait is refused (422)."""
BATCH = """\
Up to 1000 jobs at once. Each item is answered by itself, in order: one that is refused (its `status` and
`problem` say why) holds up no other. 202 when all were taken, else 207."""
MOVE_JOB = """\
A JSON merge patch (RFC 7396) of its priority and its time. With `If-Match` it is moved only while that is its ETag."""

SUBMIT_PROBLEMS = (
    *("unknown-parameter", "invalid-parameter", "malformed-json", "cross-site", "unknown-task", "body-too-slow"),
    *(
        "duplicate-job",
        "job-pruned",
        "idempotency-key-reused",
        "payload-too-large",
        "unsupported-media-type",
        "invalid-arguments",
        "queue-full",
        "draining",
    ),
)

# --- the table ---------------------------------------------------------------------------------------------------

SUBMIT = Operation(
    name="submit",
    method="POST",
    path="/tasks/{task}/jobs",
    handler=tasks.submit,
    summary="Submit a job",
    tag="tasks",
    parameters=(TASK, *OPTIONS, PREFER, IDEMPOTENCY_KEY),
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
        name="submit_batch",
        method="POST",
        path="/jobs/batch",
        handler=batches.submit,
        summary="Submit many jobs",
        description=BATCH,
        tag="jobs",
        body="BatchBody",
        needs_body=True,
        answers={
            202: Answer("All were accepted, and are durable.", {JSON: "BatchAnswer"}),
            207: Answer("Some were refused.", {JSON: "BatchAnswer"}),
        },
        problems=("unknown-parameter", *BODY, "draining"),
    ),
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
            query("follow", "1: go on until the job is over.", {"type": "string", "enum": ["0", "1", "false", "true"]}),
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
        name="move_job",
        method="PATCH",
        path="/jobs/{id}",
        handler=jobs.move,
        summary="Give a waiting job another place in the line",
        description=MOVE_JOB,
        tag="jobs",
        parameters=(ID, IF_MATCH),
        body="MoveBody",
        answers={200: Answer("The job as it is now.", {JSON: "Job"}, ("ETag", "Retry-After"))},
        problems=("unknown-parameter", *JOB, "job-not-waiting", "job-changed", *BODY),
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
        name="get_queue",
        method="GET",
        path="/queues/{name}",
        handler=queues.get,
        summary="One queue",
        tag="queues",
        parameters=(QUEUE,),
        answers={200: Answer("The queue.", {JSON: "Queue"})},
        problems=("unknown-parameter", "queue-not-found"),
    ),
    Operation(
        name="change_queue",
        method="PATCH",
        path="/queues/{name}",
        handler=queues.change,
        summary="Pause, resume or limit a queue",
        description=CHANGE_QUEUE,
        tag="queues",
        parameters=(QUEUE,),
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
