"""The commands: what each takes, and which part does it. Parts are imported when they are needed: --help is quick."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

# ruff: noqa: FBT002, PLR0913  typer makes an option of each parameter, and a flag of a boolean one
from heavylift.cli.arguments import AppName, AppOption, JobId, JsonOption, OptionalApp, StoreOption, Text
from heavylift.cli.exits import HELP
from heavylift.cli.group import Commands
from heavylift.cli.queue_commands import queues
from heavylift.cli.submits import submit

app = typer.Typer(
    cls=Commands,
    help=(
        "Long and CPU-heavy jobs: serve them, work on them, watch and stop them.\n\nAPP is module:attribute, such as"
        " app:lift; the working directory comes first on the import path. The store is named by --store, else by the"
        " application (--app), HEAVYLIFT_STORE, HEAVYLIFT_APP, [tool.heavylift] of pyproject.toml, or is"
        " ./heavylift.db. ID is a job's id, the beginning or the end of one, or @last."
    ),
    epilog=HELP,
    rich_markup_mode=None,  # plain help: rich alone would double the time that --help takes
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:  # noqa: FBT001  typer calls it so
    if asked:
        from heavylift.core.version import VERSION

        typer.echo(f"heavylift {VERSION}")
        raise typer.Exit


@app.callback()
def heavylift(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command; what they say is said above."""


@app.command()
def serve(  # noqa: PLR0917
    name: AppName,
    host: Annotated[
        Text,
        typer.Option(
            metavar="ADDRESS", help="Address to listen on; loopback only, as there is no password. [default: 127.0.0.1]"
        ),
    ] = None,
    port: Annotated[
        Text, typer.Option(metavar="N", help="Port to listen on (or PORT); 0 takes a free one. [default: 8000]")
    ] = None,
    store: StoreOption = None,
    concurrency: Annotated[
        Text, typer.Option(metavar="N", help="Jobs that run at the same time. [default: the CPUs]")
    ] = None,
    drain: Annotated[
        Text, typer.Option(metavar="TIME", help="What running jobs get at a stop, such as 20s or 5m.")
    ] = None,
    role: Annotated[
        Text,
        typer.Option(
            metavar="monolith|api|worker",
            help="API and worker, or one of the two (or SERVICE_TYPE). [default: monolith]",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=64, help="Web processes; one of them has the worker that runs the jobs."),
    ] = 1,
) -> None:
    """Serve the HTTP API, with a worker beside it.

    SIGTERM or Ctrl-C ends streams, lets running jobs drain, and exits with 0; a second one ends it at once.
    """
    from heavylift.cli import run

    settings = {"host": host, "port": port, "role": role, "store": store, "concurrency": concurrency, "drain": drain}
    raise typer.Exit(run.serve(name, workers, **settings))


@app.command()
def worker(
    name: AppName,
    concurrency: Annotated[
        Text, typer.Option(metavar="N", help="Jobs that run at the same time. [default: the CPUs]")
    ] = None,
    queues: Annotated[Text, typer.Option(metavar="A,B:2", help="Serve these queues only, with these weights.")] = None,
    drain: Annotated[
        Text, typer.Option(metavar="TIME", help="What running jobs get at a stop, such as 20s or 5m.")
    ] = None,
    store: StoreOption = None,
    metrics_port: Annotated[
        Text, typer.Option(metavar="N", help="Answer /metrics for Prometheus on this port of 127.0.0.1.")
    ] = None,
) -> None:
    """Work on jobs, without an API.

    This process becomes the worker: signals reach it, and its exit code is the worker's.
    """
    from heavylift.cli import run

    run.worker(name, queues=queues, store=store, concurrency=concurrency, drain=drain, metrics_port=metrics_port)


@app.command()
def check(name: AppName, as_json: JsonOption = False) -> None:
    """Import an application; list its tasks and what is wrong.

    Exit code 2 when anything is. With --json one JSON object a line for each task.
    """
    from heavylift.cli import check as commands

    raise typer.Exit(commands.check(name, as_json=as_json))


app.command()(submit)


@app.command("jobs")
def list_jobs(
    state: Annotated[Text, typer.Option(metavar="A,B", help="queued, running, succeeded, failed, cancelled.")] = None,
    task: Annotated[Text, typer.Option(metavar="NAME", help="Jobs of this task only.")] = None,
    queue: Annotated[Text, typer.Option(metavar="NAME", help="Jobs of this queue only.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="How many at most.")] = 20,
    store: StoreOption = None,
    application: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first.

    A table on a terminal, tab-separated lines when piped, one JSON object a line with --json.
    """
    from heavylift.cli import jobs

    raise typer.Exit(jobs.listed(store, application, state, task, queue, limit, as_json=as_json))


@app.command()
def job(job_id: JobId, store: StoreOption = None, application: AppOption = None, as_json: JsonOption = False) -> None:
    """Show everything about one job."""
    from heavylift.cli import jobs

    raise typer.Exit(jobs.shown(store, application, job_id, as_json=as_json))


@app.command()
def watch(job_id: JobId, store: StoreOption = None, application: AppOption = None, as_json: JsonOption = False) -> None:
    """Show a job's progress until it is over, then print its result.

    The progress goes to stderr. Ends as `submit --wait` does: exit code 1 when the job failed or was cancelled.
    """
    from heavylift.cli import jobs

    raise typer.Exit(jobs.watch(store, application, job_id, as_json=as_json))


@app.command()
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is over.")] = False,
    store: StoreOption = None,
    application: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a job has written to its log.

    Each line has its time and its level; with --json it is a JSON object.
    """
    from heavylift.cli import logs as commands

    raise typer.Exit(commands.printed(store, application, job_id, follow=follow, as_json=as_json))


@app.command()
def stack(job_id: JobId, store: StoreOption = None, application: AppOption = None, as_json: JsonOption = False) -> None:
    """Show where the code of a running job is now, also in native code; the job is not disturbed."""
    from heavylift.cli import jobs

    raise typer.Exit(jobs.stack(store, application, job_id, as_json=as_json))


@app.command()
def cancel(
    job_id: JobId,
    grace: Annotated[
        Text, typer.Option(metavar="TIME", help="What it gets to clean up in. [default: the job's own, 5s]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Kill it at once; its clean-up code does not run.")] = False,
    reason: Annotated[Text, typer.Option(metavar="TEXT", help="Kept with the job.")] = None,
    store: StoreOption = None,
    application: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a job, wait for its end, and print what really happened.

    Exit code 1 when the job ended otherwise before it could be stopped, or is not over yet.
    """
    from heavylift.cli import jobs

    wishes = {"grace": grace, "force": force, "reason": reason}
    raise typer.Exit(jobs.cancel(store, application, job_id, wishes, as_json=as_json))


@app.command()
def retry(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID…", help="The jobs' ids, unique parts of them, or @last.")],
    from_checkpoint: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            "--from-checkpoint/--from-start", show_default=False, help="Go on from what it saved, or begin anew."
        ),
    ] = None,
    store: StoreOption = None,
    application: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start jobs that are over anew, from their checkpoints.

    Says on stderr where each begins, and which cannot be retried; the others are retried all the same.
    """
    from heavylift.cli import jobs

    raise typer.Exit(jobs.retry(store, application, job_ids, from_checkpoint=from_checkpoint, as_json=as_json))


@app.command()
def move(
    job_id: JobId,
    priority: Annotated[Text, typer.Option(metavar="0-9", help="Higher goes first.")] = None,
    run_at: Annotated[
        Text, typer.Option("--run-at", "--at", metavar="WHEN", help="Start no sooner than then: 2026-01-31T09:00:00Z.")
    ] = None,
    delay: Annotated[
        Text, typer.Option("--delay", "--in", metavar="TIME", help="Start in this time: 10m; 0 for now.")
    ] = None,
    store: StoreOption = None,
    application: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a waiting job another priority, or another time.

    Exit code 5 when it has begun or is over.
    """
    from heavylift.cli import jobs

    where = {"priority": priority, "run_at": run_at, "delay": delay}
    raise typer.Exit(jobs.move(store, application, job_id, where, as_json=as_json))


app.add_typer(queues, name="queues")


@app.command()
def workers(store: StoreOption = None, application: AppOption = None, as_json: JsonOption = False) -> None:
    """List the workers, and what they do.

    A table on a terminal, tab-separated lines when piped, one JSON object a line with --json.
    """
    from heavylift.cli import workers as commands

    raise typer.Exit(commands.listed(store, application, as_json=as_json))


@app.command()
def migrate(store: StoreOption = None, application: AppOption = None, as_json: JsonOption = False) -> None:
    """Bring the schema of a store up to date.

    Prints its version before and after. Whatever opens a store does the same; this does it alone, before the new
    version is started.
    """
    from heavylift.cli import upkeep

    raise typer.Exit(upkeep.migrate(store, application, as_json=as_json))


@app.command()
def prune(
    older_than: Annotated[
        Text,
        typer.Option(
            metavar="TIME", help="Those that ended longer ago, such as 30d. [default: as the application says]"
        ),
    ] = None,
    store: StoreOption = None,
    application: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove finished jobs now, and print how many.

    Workers do so by themselves, by the application's settings keep, keep_succeeded and keep_failed. Jobs that ended
    less than a minute ago always stay.
    """
    from heavylift.cli import upkeep

    raise typer.Exit(upkeep.prune(store, application, older_than, as_json=as_json))


@app.command()
def doctor(
    name: OptionalApp = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for what keeps jobs from running, and say how to repair it.

    Store, schema, locks, disk, latency, clocks, cores, memory, open files, workers and their versions, paused queues
    and jobs that nobody serves. Exit code 1 when something failed. With --json one JSON object a line for each finding.
    """
    from heavylift.cli import doctor as commands

    raise typer.Exit(commands.examine(name, store, as_json=as_json))


@app.command()
def selftest(
    name: OptionalApp = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run jobs of its own on the store, with a worker of its own.

    Submits, follows, cancels, kills and retries; says what passed, and after how long. Jobs and workers of your
    application are not touched. Exit code 1 when a step failed. With --json one JSON object a line for each step.
    """
    from heavylift.cli import selftest as commands

    raise typer.Exit(commands.examine(name, store, as_json=as_json))
