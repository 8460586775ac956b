"""The shapes of what the API takes, as types: its description is made of them. `params` reads what comes."""

from __future__ import annotations

from typing import (
    Annotated,
    Any,
    NotRequired,  # pydantic asks for these before Python 3.12
)

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

DURATION = r"^([0-9]{1,7}(\.[0-9]{1,3})?|([0-9]{1,3}(\.[0-9]{1,3})?(ms|s|m|h|d)){1,4})$"
"""What a text is that is a duration. (More than that is understood, spaces for one.)"""
LIMIT = DURATION.replace("^", "^(?=.*[1-9])")
RATE = r"^[1-9][0-9]{0,5}/(([1-9][0-9]?)?(s|m|h|d|sec|min|hour|day))$"
"""A text that is a rate."""
TEXT = r"^[^\u0000]+$"
MOMENT = "^(19[7-9]|[2-9][0-9]{2})[0-9]-"
Number = Annotated[float, Field(ge=0, le=100 * 366 * 86400)]
Seconds = Annotated[
    Number | Annotated[str, Field(pattern=DURATION)],
    Field(description='Seconds, or text such as "90s", "10m", "1h30m".'),
]

STRICT = ConfigDict(extra="forbid")


@with_config(STRICT)
class CancelBody(TypedDict, total=False):
    """How to stop a job; all of it may be left out."""

    grace: Annotated[Seconds | None, Field(description="What it gets for cleaning up; null: the job's own.")]
    force: Annotated[bool, Field(description="Kill it at once.")]
    reason: Annotated[Annotated[str, Field(max_length=1000)] | None, Field(description="Kept with the job.")]


@with_config(STRICT)
class BatchItem(TypedDict):
    """A job that is to be submitted."""

    task: Annotated[str, Field(description="The task's name.")]
    args: NotRequired[Annotated[dict[str, Any], Field(description="Its arguments, as the task describes them.")]]
    options: NotRequired[
        Annotated[dict[str, Any], Field(description="As in the query of a submit; `labels`: an object.")]
    ]


@with_config(STRICT)
class BatchBody(TypedDict):
    """Jobs that are to be submitted."""

    items: Annotated[list[BatchItem], Field(min_length=1, max_length=1000)]


@with_config(STRICT)
class RetryBody(TypedDict, total=False):
    """How to start a job anew; all of it may be left out."""

    from_checkpoint: Annotated[bool, Field(description="Resume from its checkpoint (the default), or from the start.")]


@with_config(STRICT)
class KeepBody(TypedDict, total=False):
    """How long a queue's finished jobs are kept; what is left out is as by default (7 days, any number)."""

    age: Annotated[Seconds | None, Field(description="How old they get.")]
    succeeded: Annotated[int, Field(ge=0, le=2**31)] | None
    failed: Annotated[int, Field(ge=0, le=2**31)] | None


@with_config(STRICT)
class QueueBody(TypedDict, total=False):
    """What is to change; null lifts a limit."""

    paused: bool
    by: Annotated[Annotated[str, Field(pattern=TEXT, max_length=200)] | None, Field(description="Who pauses it.")]
    reason: Annotated[
        Annotated[str, Field(pattern=TEXT, max_length=1000)] | None, Field(description="Why it is paused.")
    ]
    concurrency: Annotated[
        Annotated[int, Field(ge=1, le=2**31)] | None, Field(description="Jobs that run at the same time.")
    ]
    rate: Annotated[
        Annotated[str, Field(pattern=RATE)] | None, Field(description="Jobs that start in a time: 100/min.")
    ]
    max_size: Annotated[
        Annotated[int, Field(ge=1, le=2**31)] | None, Field(description="Jobs that may wait; not fewer than do.")
    ]
    keep: Annotated[KeepBody | None, Field(description="How long finished jobs are kept; it is set as a whole.")]


@with_config(STRICT)
class MoveBody(TypedDict, total=False):
    """Where a waiting job is to stand: what is left out stays."""

    priority: Annotated[int, Field(ge=0, le=9, description="0-9, higher first.")]
    run_at: Annotated[
        str,
        Field(
            json_schema_extra={"format": "date-time"},
            pattern=MOMENT,
            description="When it may start; wins over `delay`.",
        ),
    ]
    delay: Annotated[Seconds, Field(description="In which time from now it may start.")]


BODIES: tuple[Any, ...] = (CancelBody, RetryBody, MoveBody, BatchBody, QueueBody)
"""Those that operations name."""
