"""The shapes of what the API takes and answers, as types: the description of the API is made of them.

`render` makes the values; the tests hold what the server answers against these shapes.
"""

from __future__ import annotations

from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic asks for these before Python 3.12
)

from pydantic import Field
from typing_extensions import TypedDict

from heavylift.core.estimate import Basis
from heavylift.core.queue import MOST_AHEAD
from heavylift.core.waiting import Code
from heavylift.http import bodies
from heavylift.http.bodies import BODIES

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"}, description="RFC 3339, in UTC.")]
StateName = Literal["blocked", "queued", "running", "succeeded", "failed", "cancelled"]
StoppedName = Literal["before-start", "soft", "killed", "between-attempts"]
PageToken = Annotated[
    str | None, Field(description="Give it as `page_token` to get the next page; null: there is none.")
]


class Progress(TypedDict):
    """How far a job is, as it last said."""

    percent: Annotated[float | None, Field(description="0-100.")]
    done: float | None
    total: float | None
    unit: Annotated[str | None, Field(description="What `done` and `total` count.")]
    phase: str | None
    message: str | None
    updated_at: Moment | None


class Estimate(TypedDict):
    """What is to be expected: when a waiting job starts, or when a running one is over."""

    starts_at: Annotated[Moment | None, Field(description="Of a waiting job.")]
    finishes_at: Annotated[Moment | None, Field(description="Of a running job.")]
    remaining_s: Annotated[float, Field(ge=0, description="Seconds until then.")]
    basis: Annotated[
        Basis,
        Field(description="What it comes of: the job's progress, its place in the line, its time, or a rate."),
    ]


class Waiting(TypedDict):
    """Why a job waits, for programs."""

    code: Code
    until: Annotated[Moment | None, Field(description="When that is over by itself; null: nobody can tell.")]
    ahead: Annotated[int, Field(ge=0, le=MOST_AHEAD, description="Due jobs that are likely to start before it.")]
    holders: Annotated[list[str], Field(description="Ids of up to 3 of the running jobs that hold it up.")]


class Error(TypedDict):
    """Why a job, or its last attempt, did not succeed."""

    code: Annotated[str, Field(description="Such as `failed`, `gave-up`, `timed-out`, `crashed`, `lost`, `expired`.")]
    message: str
    exception: Annotated[str | None, Field(description="The qualified name of the exception's class.")]
    exit_code: Annotated[int | None, Field(description="Of the process that ran it, if it died.")]
    signal: Annotated[str | None, Field(description="That ended the process, such as `SIGKILL`.")]


class CancelRequest(TypedDict):
    """That somebody asked the job to stop."""

    at: Moment
    grace: Annotated[float | None, Field(description="Seconds; null: the job's own.")]
    force: bool
    reason: str | None


class JobLinks(TypedDict):
    """Where the job and its parts are."""

    self: str
    result: str
    events: str
    logs: str
    checkpoint: str
    stack: str
    cancel: str
    retry: str


class Job(TypedDict):
    """One request to run a task, and everything known about it."""

    id: str
    task: str
    state: StateName
    queue: str
    priority: Annotated[int, Field(description="0-9, higher first.")]
    labels: dict[str, str]
    progress: Progress | None
    estimate: Annotated[Estimate | None, Field(description="null: nothing can be said.")]
    attempt: Annotated[int, Field(description="How often it was started.")]
    max_attempts: Annotated[int, Field(description="Starts that may end in failure.")]
    error: Error | None
    created_at: Moment
    run_at: Annotated[Moment, Field(description="When it may start, at the earliest.")]
    expires_at: Annotated[Moment | None, Field(description="When it has failed unless it was started before.")]
    started_at: Moment | None
    finished_at: Moment | None
    cancel_requested: CancelRequest | None
    stopped: Annotated[StoppedName | None, Field(description="How a cancelled job came to its end.")]
    waiting_reason: Annotated[str | None, Field(description="Why it waits, as a line for people.")]
    waiting: Annotated[Waiting | None, Field(description="The same for programs.")]
    links: JobLinks
    seq: Annotated[int, Field(ge=0, description="The number of its last event; its ETag, and the `id` in streams.")]


class FinishedJob(Job):
    """A job in the answer to a submit that waited: with its result, once it succeeded."""

    result: NotRequired[Any]


class JobPage(TypedDict):
    """Some jobs, newest first."""

    items: list[Job]
    next_page_token: PageToken


class Unfinished(TypedDict):
    """A job that has no result yet."""

    id: str
    state: StateName
    progress: Progress | None


class LogLine(TypedDict):
    """One line of a job's log."""

    seq: Annotated[int, Field(ge=1, description="The number of the event that it came with.")]
    at: Moment | None
    level: str
    message: str
    logger: NotRequired[Annotated[str, Field(description="The logger that it came from; absent for `ctx.log`.")]]
    fields: NotRequired[Annotated[dict[str, Any], Field(description="What the line was given beside its text.")]]


class LogPage(TypedDict):
    """Lines of a job's log, oldest first."""

    items: list[LogLine]
    dropped: Annotated[int, Field(ge=0, description="Lines that the log had no room for, up to the end of this page.")]
    next_page_token: PageToken


class Receipt(TypedDict):
    """What a cancel did."""

    job_id: str
    state: StateName
    final: Annotated[bool, Field(description="Whether the job is over.")]
    stopped: StoppedName | None
    after_ms: Annotated[float | None, Field(description="Milliseconds from the request to the end.")]
    checkpoint: Annotated[bool, Field(description="Whether there is one to resume from.")]
    reason: str | None
    links: JobLinks


class Checkpoint(TypedDict):
    """What a job saved to resume from."""

    value: Annotated[Any, Field(description="As its code saved it; null when it saved steps alone.")]
    steps: Annotated[dict[str, Any], Field(description="The results of the steps that are done, by name.")]
    size: Annotated[int, Field(ge=0, description="Bytes.")]


class Process(TypedDict):
    """A process, as the kernel sees it."""

    pid: int
    command: str
    state: Annotated[
        str, Field(description="Its letter in `ps`: R runs, S sleeps, D waits for a device, T is stopped.")
    ]
    wait: Annotated[str | None, Field(description="The function of the kernel in which it sleeps, if that is known.")]
    cpu: Annotated[float, Field(ge=0, description="Seconds that it has taken.")]
    memory: Annotated[int, Field(ge=0, description="Resident bytes.")]


class Stack(TypedDict):
    """Where the code of a running job was at one moment."""

    at: Moment
    attempt: int
    source: Annotated[
        Literal["interpreter", "signal", "none"],
        Field(
            description="Who wrote it: the Python interpreter; the signal's handler in C, because native code has the"
            " interpreter, or it waits in the kernel; or nobody, because the attempt has not begun or its process is"
            " stopped."
        ),
    ]
    text: Annotated[
        str, Field(description="The calls, the most recent one last; empty when no Python code of it runs.")
    ]
    process: Process | None
    children: Annotated[list[Process], Field(description="What its process has started, and what that has.")]


class QueueCounts(TypedDict):
    """How many jobs are in which state."""

    blocked: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int


class Pause(TypedDict):
    """That somebody paused a queue."""

    since: Moment
    by: str | None
    reason: str | None


class Keep(TypedDict):
    """How long a queue's finished jobs are kept."""

    age: Annotated[float, Field(ge=0, description="Seconds.")]
    succeeded: Annotated[int | None, Field(ge=0, description="At most so many of the newest; null: all.")]
    failed: Annotated[int | None, Field(ge=0, description="The same of those that failed or were cancelled.")]


class Queue(TypedDict):
    """A queue: its settings and what stands in it."""

    name: str
    paused: bool
    pause: Annotated[Pause | None, Field(description="By whom, why, and since when.")]
    concurrency: Annotated[int | None, Field(description="Jobs that run at the same time; null: without limit.")]
    rate: Annotated[str | None, Field(description="Jobs that start in a time, such as 100/min; null: without limit.")]
    max_size: Annotated[int | None, Field(description="Jobs that may wait; null: without limit.")]
    keep: Annotated[Keep | None, Field(description="null: as the server's settings say.")]
    counts: QueueCounts
    oldest_wait: Annotated[float | None, Field(description="Seconds that the job at its head has been due.")]
    drain_rate: Annotated[
        float | None, Field(ge=0, description="Jobs a second that left it lately; null: too few did to tell.")
    ]


class QueuePage(TypedDict):
    """All queues, by name."""

    items: list[Queue]
    next_page_token: PageToken


class Worker(TypedDict):
    """A worker and its last beat."""

    id: str
    host: str
    pid: int
    state: Literal["alive", "draining", "dead"]
    running: Annotated[int, Field(ge=0, description="Jobs that it runs.")]
    concurrency: Annotated[int, Field(ge=1, description="Jobs that it runs at the same time, at most.")]
    queues: Annotated[list[str], Field(description="That it serves; empty: all.")]
    started_at: Moment
    beat_age: Annotated[float, Field(description="Seconds since its last beat.")]


class WorkerPage(TypedDict):
    """All workers, by start."""

    items: list[Worker]
    next_page_token: PageToken


class TaskOptions(TypedDict):
    """How the jobs of a task run unless they say otherwise."""

    queue: str
    priority: int
    timeout: Annotated[float | None, Field(description="Seconds of one attempt.")]
    grace: Annotated[float, Field(description="Seconds for cleaning up when it is stopped.")]
    max_attempts: int


class TaskLinks(TypedDict):
    """Where its jobs are submitted."""

    submit: str


class Task(TypedDict):
    """A task: what it takes and returns."""

    name: str
    description: str
    arguments: Annotated[dict[str, Any], Field(description="JSON Schema (2020-12) of the arguments.")]
    result: Annotated[dict[str, Any], Field(description="JSON Schema of the result; empty: it does not say.")]
    options: TaskOptions
    links: TaskLinks


class TaskPage(TypedDict):
    """All tasks, by name."""

    items: list[Task]
    next_page_token: PageToken


class Mistake(TypedDict):
    """One thing that is wrong in a body."""

    pointer: Annotated[str, Field(description="JSON pointer (RFC 6901) into the body.")]
    detail: str


class Problem(TypedDict):
    """What was wrong (RFC 9457), with a stable `code`; further members depend on the code."""

    title: str
    status: int
    detail: Annotated[str, Field(description="What is wrong, and what to do.")]
    instance: Annotated[str, Field(description="The path of the request.")]
    code: str
    errors: NotRequired[list[Mistake]]
    parameter: NotRequired[Annotated[str, Field(description="Which parameter, or option in a batch.")]]
    existing: NotRequired[Annotated[str, Field(description="The id of the job that has the unique key.")]]
    state: NotRequired[Annotated[StateName, Field(description="Of the job.")]]
    queue: NotRequired[str]
    limit: NotRequired[int]
    retry_after: NotRequired[Annotated[int, Field(ge=1, description="Seconds after which it is worth to try again.")]]
    size: NotRequired[int]


class BatchResult(TypedDict):
    """What became of one of them."""

    status: Annotated[
        int, Field(description="202: accepted; 200: the job that has its unique key; else it was refused.")
    ]
    job: NotRequired[Job]
    problem: NotRequired[Problem]


class BatchAnswer(TypedDict):
    """What became of each, in order."""

    items: list[BatchResult]


class Health(TypedDict):
    """The process is alive."""

    status: Literal["ok"]


class Readiness(TypedDict):
    """Jobs are accepted."""

    status: Literal["ok"]
    worker: Annotated[bool, Field(description="Whether any worker is alive.")]


class Index(TypedDict):
    """Where everything is."""

    service: Literal["heavylift"]
    links: dict[str, str]


RESOURCES: tuple[Any, ...] = (
    *(Job, FinishedJob, JobPage, Unfinished, LogPage, Receipt, Checkpoint, Stack, QueuePage, Queue, WorkerPage),
    *(TaskPage, Task, Problem, BatchAnswer, Health, Readiness, Index, *BODIES),
)
"""Those that operations name; what they are made of comes along."""

PREFIX = "Heavylift"
"""Stands before the names of their schemas in the description of an application that has schemas of its own."""
for _kind in [*globals().values(), *vars(bodies).values()]:
    if isinstance(_kind, type) and _kind.__module__ in (__name__, bodies.__name__):
        _kind.__qualname__ = PREFIX + _kind.__name__  # pydantic names schemas by it
