"""What operations take from path, query and headers, as they are described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.core.job import State
from heavylift.core.options import FEWEST_FILES, MOST_FILES, MOST_PROCESSES
from heavylift.http import bodies, params

NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"}
DURATION = {"type": "string", "pattern": bodies.DURATION}
LIMIT = {"type": "string", "pattern": bodies.LIMIT}
SIZE = {"type": "string", "pattern": "^[1-9][0-9]{0,8}(B|[KMG]i?B)?$"}
MOMENT = {"type": "string", "format": "date-time", "pattern": bodies.MOMENT}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, the path or the header."""

    name: str
    where: str
    description: str
    schema: Mapping[str, Any]


def query(name: str, description: str, schema: Mapping[str, Any]) -> Parameter:
    """A parameter of the query."""
    return Parameter(name, "query", description, schema)


def integers(low: int, high: int) -> dict[str, Any]:
    """The schema of an integer from `low` to `high`."""
    return {"type": "integer", "minimum": low, "maximum": high}


ID = Parameter("id", "path", "The job's id.", {"type": "string", "minLength": 1})
QUEUE = Parameter("name", "path", "The queue's name.", NAME)
TASK = Parameter("task", "path", "The task's name.", NAME)
PREFER = Parameter(
    "Prefer",
    "header",
    "`wait=N` (RFC 7240): up to so many seconds, 300 at most, before the answer. Other preferences are passed over.",
    {"type": "string", "example": "wait=10"},
)
IDEMPOTENCY_KEY = Parameter(
    params.IDEMPOTENCY_KEY,
    "header",
    "The same key and task give the same job, however often they are sent: 1-255 visible characters, quoted or bare.",
    {"type": "string", "pattern": params.IDEMPOTENCY_KEYS},
)
IF_NONE_MATCH = Parameter(
    "If-None-Match", "header", "The ETag that the caller has: 304 while it is still right.", {"type": "string"}
)
IF_MATCH = Parameter("If-Match", "header", "The ETag that the job has to have.", {"type": "string"})
LAST_EVENT = Parameter(
    "Last-Event-ID",
    "header",
    "The id of the last event that was read; wins over `after`.",
    {"type": "string", "pattern": "^[0-9]{0,18}$"},
)
AFTER = query("after", "Begin after this event.", {"type": "integer", "minimum": 0, "maximum": 10**18 - 1})
PAGE_SIZE = query(
    "page_size",
    "Items of a page, at most.",
    {"type": "integer", "minimum": 1, "maximum": params.PAGE_SIZE[1], "default": params.PAGE_SIZE[0]},
)
PAGE_TOKEN = query("page_token", "The `next_page_token` of the page before.", {"type": "string"})
LABELS = query(
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
    query("id", "The job's id: to submit it again, with the same arguments, answers the job that is there.", NAME),
    query("queue", "The queue that it stands in.", NAME),
    query("priority", "0-9, higher first.", integers(0, 9)),
    query("delay", 'Start after so many seconds, or "10m", at the earliest.', DURATION),
    query("run_at", "Start at this time, at the earliest; wins over `delay`.", MOMENT),
    query("timeout", "Of one attempt: seconds, or text such as 10m.", LIMIT),
    query("grace", "What it gets for cleaning up when it is stopped.", DURATION),
    query("max_attempts", "Starts that may end in failure.", integers(1, 1000)),
    query(
        "unique",
        "Of the jobs with this key only one waits or runs. `{name}` stands for an argument, `{{` and `}}` for braces.",
        {"type": "string", "minLength": 1, "maxLength": 512, "pattern": "^([^{}\\u0000]|\\{\\{|\\}\\})*$"},
    ),
    query(
        "on_conflict",
        "When the unique key is taken: answer that job (200), refuse (409), cancel it and take its place, or wait"
        " behind one that runs (and answer one that waits). Needs a unique key.",
        {"type": "string", "enum": ["return", "reject", "replace", "queue-one"], "default": "return"},
    ),
    query(
        "unique_until",
        "Until when the key is taken: until the job starts, or is over. Needs a unique key.",
        {"type": "string", "enum": ["start", "end"], "default": "end"},
    ),
    query("unique_for", "Seconds, or 10m, for which the key is taken at least. Needs a unique key.", LIMIT),
    query(
        "debounce",
        "Start so long after the last submit of the key: a later one takes the place of the one that waits. Needs a"
        " unique key, and no `run_at`.",
        LIMIT,
    ),
    query("expires", "It has failed if it was not started so long after its submit; longer than `delay`.", LIMIT),
    query("memory", "Resident bytes of the attempt and all that it starts: 1GiB.", SIZE),
    query("cpu_time", "CPU seconds of the attempt and all that it starts, or text such as 10m.", LIMIT),
    query("processes", "Processes that it may have started at a time.", integers(1, MOST_PROCESSES)),
    query("address_space", "Bytes that each of its processes may have mapped: 4GiB.", SIZE),
    query("open_files", "Descriptors that each of its processes may open.", integers(FEWEST_FILES, MOST_FILES)),
    query("nice", "Added to the niceness of hosts.", integers(0, 19)),
    LABELS,
)
FILTERS = (
    query(
        "state",
        "One state, or several with commas between.",
        {"type": "string", "pattern": "^(({0})(,({0}))*)?$".format("|".join(State))},
    ),
    query("task", "Of this task.", {"type": "string"}),
    query("queue", "In this queue.", {"type": "string"}),
    LABELS,
    PAGE_SIZE,
    PAGE_TOKEN,
)
