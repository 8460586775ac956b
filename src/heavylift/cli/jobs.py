"""The commands about jobs. They work on the store itself, so they need no server."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from heavylift.cli import find, follow, ids, output
from heavylift.cli.exits import Exit, failed
from heavylift.cli.opened import run
from heavylift.core import checkpoint, codec, event
from heavylift.core.errors import ConfigError, DuplicateJob, InvalidArguments, JobNotFinished, JobNotFound, did_you_mean
from heavylift.core.job import State
from heavylift.core.options import LIMITS
from heavylift.core.result import job_error
from heavylift.core.units import spoken
from heavylift.store import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heavylift.core.job import Job
    from heavylift.core.result import Receipt
    from heavylift.core.stack import Stack
    from heavylift.core.task import Task
    from heavylift.outlook import Outlook
    from heavylift.store import Page

WHICH = "Which application? Its signatures check the arguments: give --app module:attribute, or set HEAVYLIFT_APP."


def submit(
    app: str | None,
    store: str | None,
    name: str,
    arguments: Sequence[str],
    options: dict[str, Any],
    *,
    wait: bool,
    as_json: bool,
) -> Exit:
    """Queue a job; with `wait`, see it through."""
    lift = find.configured(app, store, WHICH)
    bound = lift.find_task(name)
    if options:
        bound = bound.using(**options)
    request = bound.request(bind(bound.task, pairs(arguments, "argument"), lift.client.max_payload))
    ids = [] if bound.job_id is None else [bound.job_id]
    waiting_for = ""

    async def work() -> Job:
        nonlocal waiting_for
        [job] = await lift.client.submit([request], ids)
        if not wait:
            return job
        waiting_for = job.id
        sys.stderr.write(f"{job.id}\n")
        return await follow.watch(lift.client, job)

    try:
        job = run(lift, work)
    except KeyboardInterrupt:
        return left(waiting_for)
    if wait:
        return _ended(job, as_json=as_json)
    if as_json:
        output.data(output.as_json(job))
    else:
        sys.stdout.write(f"{job.id}\n")
    return Exit.OK


def watch(store: str | None, app: str | None, job_id: str, *, as_json: bool) -> Exit:
    """See a job through that is there already."""
    lift, watched = find.opened_by(store, app), ""

    async def work() -> Job:
        nonlocal watched
        job = await ids.find(lift.client, job_id)
        watched = job.id
        return await follow.watch(lift.client, job)

    try:
        return _ended(run(lift, work), as_json=as_json)
    except KeyboardInterrupt:
        return left(watched)


def left(job_id: str) -> Exit:
    """Say what becomes of a job that is no longer watched; without an id nothing was queued."""
    if job_id:
        sys.stderr.write(
            "The job goes on without you.\n"
            f"  heavylift watch {job_id}   follows it again\n"
            f"  heavylift cancel {job_id}  stops it\n"
        )
    return Exit.INTERRUPTED


def listed(
    store: str | None,
    app: str | None,
    state: str | None,
    task: str | None,
    queue: str | None,
    limit: int,
    *,
    as_json: bool,
) -> Exit:
    """Print a page of jobs."""
    states = tuple(_state(name.strip()) for name in (state or "").split(",") if name.strip())
    lift = find.opened_by(store, app)

    async def work() -> tuple[Page, dict[str, Outlook]]:
        page = await lift.client.page(Query(states, task, queue, limit=limit))
        return page, await lift.client.outlook(page.jobs)

    page, outlooks = run(lift, work)
    if as_json:
        for job in page.jobs:
            output.data(output.as_json(job, outlooks.get(job.id)))
        return Exit.OK
    output.jobs(page.jobs, outlooks)
    if not page.jobs:
        sys.stderr.write(f"No such jobs in {lift.store_url}.\n")
    elif page.next_page_token:
        sys.stderr.write("Older ones are left out; --limit N shows up to 1000.\n")
    return Exit.OK


def shown(store: str | None, app: str | None, job_id: str, *, as_json: bool) -> Exit:
    """Print everything about a job."""
    lift = find.opened_by(store, app)

    async def work() -> tuple[Job, Any, Outlook | None]:
        job = await ids.find(lift.client, job_id)
        history = [item async for item in follow.until_now(lift.client, job) if item.kind != event.PROGRESS]
        return job, history, (await lift.client.outlook([job])).get(job.id)

    job, history, outlook = run(lift, work)
    if as_json:
        saved = checkpoint.read(job.checkpoint)
        values = {"arguments": job.args, "checkpoint": saved.value, "result": job.result}
        decoded = {name: None if value is None else codec.decode(value) for name, value in values.items()}
        steps = {name: codec.decode(value) for name, value in saved.steps.items()}
        output.data(output.as_json(job, outlook) | decoded | {"steps": steps})
    else:
        output.job(job, history, outlook)
    return Exit.OK


def stack(store: str | None, app: str | None, job_id: str, *, as_json: bool) -> Exit:
    """Print where the code of a running job is now."""
    lift = find.opened_by(store, app)

    async def work() -> tuple[Job, Stack]:
        job = await ids.find(lift.client, job_id)
        return job, await lift.client.stack(job.id)

    job, found = run(lift, work)
    if as_json:
        output.data(output.stack_as_json(found))
    else:
        output.stack(job, found)
    return Exit.OK


def cancel(store: str | None, app: str | None, job_id: str, wishes: dict[str, Any], *, as_json: bool) -> Exit:
    """Stop a job and print the receipt."""
    lift = find.opened_by(store, app)

    async def work() -> Receipt:
        return await lift.client.cancel((await ids.find(lift.client, job_id)).id, **wishes)

    receipt = run(lift, work)
    if as_json:
        output.data(output.receipt_as_json(receipt))
    else:
        output.receipt(receipt)
    return Exit.OK if receipt.state is State.CANCELLED else Exit.FAILED


def move(store: str | None, app: str | None, job_id: str, where: dict[str, Any], *, as_json: bool) -> Exit:
    """Give a waiting job another place in the line, and print it."""
    lift = find.opened_by(store, app)

    async def work() -> Job:
        return await lift.client.move((await ids.find(lift.client, job_id)).id, **where)

    job = run(lift, work)
    if as_json:
        output.data(output.as_json(job))
    else:
        sys.stdout.write(f"moved  {job.id}  priority {job.options.priority}, {_start(job)}\n")
    return Exit.OK


def _start(job: Job) -> str:
    left = job.run_at - time.time()
    return "due now" if left <= 0 else f"due at {output.clock(job.run_at)} (in {spoken(left)})"


def retry(
    store: str | None, app: str | None, job_ids: Sequence[str], *, from_checkpoint: bool | None, as_json: bool
) -> Exit:
    """Start jobs anew. One that is refused holds up no other; the exit code is that of the first one refused."""
    lift = find.opened_by(store, app)
    code = Exit.OK

    async def work() -> None:
        nonlocal code
        for job_id in job_ids:
            try:
                found = await ids.find(lift.client, job_id)
                job = await lift.client.retry(found.id, from_checkpoint=from_checkpoint is not False)
            except (JobNotFound, JobNotFinished, DuplicateJob, ConfigError) as error:
                refused = failed(error)
                code = code or refused
                continue
            if as_json:
                output.data(output.as_json(job))
            else:
                sys.stdout.write(f"{job.state}  {job.id}\n")
                sys.stderr.write(_begins(job, found, asked=from_checkpoint is not None))

    run(lift, work)
    return code


def _begins(job: Job, before: Job, *, asked: bool) -> str:
    """Where a job that was retried will begin, for people."""
    if job.checkpoint is not None:
        hint = "" if asked else "; --from-start would begin it anew"
        return f"It goes on from its checkpoint{hint}.\n"
    if before.checkpoint is not None:
        return "It begins from the start; its checkpoint is gone.\n"
    return "It begins from the start: it had saved no checkpoint.\n"


def pairs(texts: Sequence[str], what: str) -> dict[str, str]:
    """NAME=VALUE texts as a mapping; raises ConfigError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            message = f"{what} {text!r} has no name; write NAME=VALUE."
            raise ConfigError(message)
        if name in found:
            message = f"{what} {name!r} is given twice."
            raise ConfigError(message)
        found[name] = value
    return found


def limits(texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE texts as options that limit the job; raises ConfigError."""
    found = pairs(texts, "--limit")
    for name in found:
        if name not in LIMITS:
            hint = f"{did_you_mean(name, LIMITS)} (limits: {', '.join(LIMITS)})"
            message = f"--limit {name!r}: there is no such limit.{hint}"
            raise ConfigError(message)
    return found


def bind(task: Task, given: dict[str, str], limit: int) -> bytes:
    """The arguments of a call: each value is JSON where it is that and the signature takes it, else text.

    Raises InvalidArguments, ConfigError for a name that the task does not have, PayloadTooLarge.
    """
    for name in given:
        if name not in task.parameters:
            known = ", ".join(task.parameters) or "none"
            hint = did_you_mean(name, task.parameters)
            message = f"Task {task.name!r} has no argument {name!r}.{hint} (arguments: {known})"
            raise ConfigError(message)
    values = {name: _read(text) for name, text in given.items()}
    try:
        return task.bind_json(codec.encode(values), limit)
    except InvalidArguments as error:
        wrong = {problem.pointer.split("/")[1] for problem in error.problems if problem.pointer}
        as_text = values | {name: given[name] for name in wrong & given.keys()}
        if as_text == values:
            raise
        try:
            return task.bind_json(codec.encode(as_text), limit)
        except InvalidArguments:
            raise error from None


def _read(text: str) -> Any:
    try:
        return codec.decode(text)
    except codec.NotJson:
        return text


def _state(name: str) -> State:
    try:
        return State(name)
    except ValueError:
        known = [state.value for state in State]
        message = f"--state: {name!r} is no state.{did_you_mean(name, known)} (states: {', '.join(known)})"
        raise ConfigError(message) from None


def _ended(job: Job, *, as_json: bool) -> Exit:
    """Print what became of a job that was waited for."""
    if as_json:
        result = None if job.result is None else codec.decode(job.result)
        output.data(output.as_json(job) | {"result": result})
        return Exit.OK if job.state is State.SUCCEEDED else Exit.FAILED
    if job.state is State.SUCCEEDED:
        output.data(codec.decode(job.result or b"null"))
        return Exit.OK
    code = failed(job_error(job))
    sys.stderr.write(f"`heavylift job {job.id}` shows all that is known about it.\n")
    return code
