"""How submits become jobs: all in one write, with an answer for each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from heavylift.core import lifecycle
from heavylift.core.errors import DuplicateJob, HeavyliftError, JobPruned
from heavylift.core.job import Job, new_id
from heavylift.core.options import Options
from heavylift.store import Added

if TYPE_CHECKING:
    from heavylift.core.errors import SubmitError
    from heavylift.store import Store

Request = tuple[str, bytes, Options]
"""A job to be queued: the task's name, the arguments as JSON bytes, the options without templates."""
ID_BYTES = 9
"""Random bytes that make an id."""


async def add(
    store: Store, now: float, requests: Sequence[Request], ids: Sequence[str | None]
) -> list[Added | HeavyliftError]:
    """Queue jobs, with these ids, and with new ones where there is none."""
    chosen = {name for name in ids if name is not None}
    gone = {name: error for name in chosen if (error := await _pruned(store, name)) is not None}
    names = [name or new_id(now, os.urandom(ID_BYTES)) for name in ids or [None] * len(requests)]
    jobs = [
        lifecycle.submit(name, task, args, options, now)
        for name, (task, args, options) in zip(names, requests, strict=True)
        if name not in gone
    ]
    answers = await store.add(jobs)
    if not chosen:
        return [*answers]
    known = (_same(job, answer) for (job, _), answer in zip(jobs, answers, strict=True))
    return [gone[name] if name in gone else next(known) for name in names]


def accepted(answers: Sequence[Added | HeavyliftError]) -> list[Job]:
    """The jobs, where all were accepted; raises the first error otherwise, and of many says how many there are."""
    refused = [answer for answer in answers if isinstance(answer, HeavyliftError)]
    if refused:
        if len(answers) > 1:
            refused[0].add_note(
                f"Refused: {len(refused)} of {len(answers)} submits; the others were accepted."
                " submit_many(…, return_exceptions=True) returns the answer to each of them."
            )
        raise refused[0]
    return [answer.job for answer in answers if isinstance(answer, Added)]


async def _pruned(store: Store, job_id: str) -> JobPruned | None:
    """Why no job of this id is to be queued: there was one, and a store would take this one for the first."""
    try:
        await store.get([job_id])
    except JobPruned as error:
        return error
    return None


def _same(job: Job, answer: Added | SubmitError) -> Added | SubmitError:
    """The answer to a job whose id was chosen: another one that has it has to be of the very same submit."""
    if isinstance(answer, Added) and not answer.created and answer.job.id == job.id:
        found = answer.job
        if found.task != job.task:
            return DuplicateJob(None, job.id, f"of task {found.task!r}")
        if found.args != job.args:
            return DuplicateJob(None, job.id, "with other arguments")
    return answer
