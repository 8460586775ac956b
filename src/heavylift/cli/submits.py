"""The command that submits: what it takes is what a job can be given."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

# ruff: noqa: FBT002, PLR0913, PLR0917  typer makes an option of each parameter, and a flag of a boolean one
from heavylift.cli.arguments import AppOption, JsonOption, StoreOption, Text

Texts = Optional[list[str]]  # noqa: UP045  typer reads it at run time
TaskName = Annotated[str, typer.Argument(metavar="TASK", help="The task's name.")]
Arguments = Annotated[
    Texts,
    typer.Argument(
        metavar="NAME=VALUE", help="Its arguments; a value is JSON where the signature takes it so, else text."
    ),
]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Show its progress (on stderr), then print its result.")]
Queue = Annotated[Text, typer.Option(metavar="NAME", help="Queue to stand in.")]
Priority = Annotated[Text, typer.Option(metavar="0-9", help="Higher goes first.")]
Delay = Annotated[Text, typer.Option(metavar="TIME", help="Start no sooner than in this time: 90s, 10m, 1h30m.")]
RunAt = Annotated[Text, typer.Option(metavar="WHEN", help="Start no sooner than then: 2026-01-31T09:00:00Z.")]
Timeout = Annotated[Text, typer.Option(metavar="TIME", help="Stop an attempt that takes longer.")]
Grace = Annotated[Text, typer.Option(metavar="TIME", help="What it gets to clean up in before it is killed.")]
MaxAttempts = Annotated[Text, typer.Option(metavar="N", help="How often it is started, failures counted.")]
OwnId = Annotated[
    Text, typer.Option("--id", metavar="ID", help="Its id: the same submit again returns the job that is there.")
]
Unique = Annotated[
    Text,
    typer.Option(
        metavar="KEY", help="One job with this key at a time; {name} in it stands for an argument, {{ for a brace."
    ),
]
OnConflict = Annotated[
    Text,
    typer.Option(
        metavar="return|reject|replace|queue-one",
        help="When the unique key is taken: return that job, reject this one, replace that one, or wait behind it."
        " [default: return]",
    ),
]
UniqueUntil = Annotated[
    Text, typer.Option(metavar="start|end", help="Until when its unique key is taken. [default: end]")
]
UniqueFor = Annotated[Text, typer.Option(metavar="TIME", help="Its unique key is taken for so long at least.")]
Debounce = Annotated[Text, typer.Option(metavar="TIME", help="Start so long after the last submit of its unique key.")]
Expires = Annotated[Text, typer.Option(metavar="TIME", help="It has failed if it was not started within this time.")]
Limit = Annotated[
    Texts, typer.Option(metavar="NAME=VALUE", help="memory, cpu_time, processes, address_space, open_files, nice.")
]
Label = Annotated[Texts, typer.Option(metavar="NAME=TEXT", help="A label; may be repeated.")]


def submit(
    task: TaskName,
    arguments: Arguments = None,
    application: AppOption = None,
    store: StoreOption = None,
    wait: Wait = False,
    queue: Queue = None,
    priority: Priority = None,
    delay: Delay = None,
    run_at: RunAt = None,
    timeout: Timeout = None,
    grace: Grace = None,
    max_attempts: MaxAttempts = None,
    job_id: OwnId = None,
    unique: Unique = None,
    on_conflict: OnConflict = None,
    unique_until: UniqueUntil = None,
    unique_for: UniqueFor = None,
    debounce: Debounce = None,
    expires: Expires = None,
    limit: Limit = None,
    label: Label = None,
    as_json: JsonOption = False,
) -> None:
    """Queue a job, and with --wait see it through."""
    from heavylift.cli import jobs

    options = {
        "queue": queue,
        "priority": priority,
        "delay": delay,
        "run_at": run_at,
        "timeout": timeout,
        "grace": grace,
        "max_attempts": max_attempts,
        "id": job_id,
        "unique": unique,
        "on_conflict": on_conflict,
        "unique_until": unique_until,
        "unique_for": unique_for,
        "debounce": debounce,
        "expires": expires,
        "labels": jobs.pairs(label or [], "--label"),
        **jobs.limits(limit or []),
    }
    given = {name: value for name, value in options.items() if value not in (None, {})}
    raise typer.Exit(jobs.submit(application, store, task, arguments or [], given, wait=wait, as_json=as_json))
