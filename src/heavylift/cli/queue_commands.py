"""The commands about queues: what each takes, and which part does it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

# ruff: noqa: FBT002, PLR0913  typer makes an option of each parameter, and a flag of a boolean one
from heavylift.cli.arguments import AppOption, JsonOption, StoreOption, Text

queues = typer.Typer(
    help="List the queues; pause, resume and limit one.",
    rich_markup_mode=None,
)

QueueName = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]


@queues.callback(invoke_without_command=True)
def list_queues(
    context: typer.Context,
    store: StoreOption = None,
    application: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the queues; pause, resume and limit one.

    Without a command: a table on a terminal, tab-separated lines when piped, one JSON object a line with --json.
    """
    # What stands before the command holds for it too.
    context.obj = (store, application, as_json)
    if context.invoked_subcommand is None:
        from heavylift.cli import queues as commands

        raise typer.Exit(commands.listed(store, application, as_json=as_json))


@queues.command()
def pause(
    context: typer.Context,
    name: QueueName,
    reason: Annotated[Text, typer.Option(metavar="TEXT", help="Why; shown to all who look.")] = None,
    by: Annotated[Text, typer.Option(metavar="NAME", help="Who pauses it. [default: you, on this machine]")] = None,
    store: StoreOption = None,
    application: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start no more jobs of a queue; those that run go on."""
    from heavylift.cli import queues as commands

    raise typer.Exit(commands.pause(*_place(context, store, application, as_json), name, by, reason))


@queues.command()
def resume(
    context: typer.Context,
    name: QueueName,
    store: StoreOption = None,
    application: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start jobs of a queue again."""
    from heavylift.cli import queues as commands

    raise typer.Exit(commands.resume(*_place(context, store, application, as_json), name))


@queues.command("set")
def set_limits(  # noqa: PLR0917
    context: typer.Context,
    name: QueueName,
    concurrency: Annotated[Text, typer.Option(metavar="N", help="Jobs that run at the same time.")] = None,
    rate: Annotated[Text, typer.Option(metavar="N/TIME", help="Jobs that start in a time, such as 100/min.")] = None,
    max_size: Annotated[Text, typer.Option(metavar="N", help="Jobs that may wait; further ones are refused.")] = None,
    keep: Annotated[Text, typer.Option(metavar="TIME", help="How old its finished jobs get, such as 7d.")] = None,
    keep_succeeded: Annotated[
        Text, typer.Option(metavar="N", help="Keep at most so many that succeeded, the newest.")
    ] = None,
    keep_failed: Annotated[
        Text, typer.Option(metavar="N", help="Keep at most so many that failed or were cancelled.")
    ] = None,
    store: StoreOption = None,
    application: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Limit a queue, over all workers; `none` lifts a limit.

    What is not given stays as it is. Jobs that run are not touched.
    """
    from heavylift.cli import queues as commands

    limits = {"concurrency": concurrency, "rate": rate, "max_size": max_size}
    kept = {"age": keep, "succeeded": keep_succeeded, "failed": keep_failed}
    raise typer.Exit(commands.set_limits(*_place(context, store, application, as_json), name, limits, kept))


def _place(context: typer.Context, store: Text, application: Text, as_json: bool) -> tuple[Any, Any, bool]:  # noqa: FBT001
    """The store, the application and the form of the answer: as this command says, or what stood before it."""
    if store is None and application is None:
        store, application = context.obj[:2]
    return store, application, as_json or context.obj[2]
