"""A store and its reference, side by side: all that can be read is the same, and keeps the invariants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from heavylift.core import event
from heavylift.core.errors import DuplicateJob, JobPruned, QueueFull
from heavylift.core.event import Event
from heavylift.core.job import Job, State
from heavylift.store import Added, Store
from heavylift.testing.stores.reference import NEVER, SOME, Answer, Reference, Saved

SAMPLES = 256
"""Progress events of a job that are kept at most."""


async def compare(store: Store, reference: Reference, now: float, monotonic: float) -> None:
    """Everything that a store can be asked is as it was written."""
    kept = reference.jobs
    names = [*kept, "nobody"]
    assert dict(zip(names, await store.get(names), strict=True)) == {**kept, "nobody": None}
    items = await store.events(dict.fromkeys(kept, 0), limit=100_000)
    assert [item.job for item in items] == sorted(item.job for item in items)
    by_job: dict[str, list[Event]] = {name: [] for name in kept}
    for item in items:
        by_job[item.job].append(item)
    for name, job in kept.items():
        audit(job, by_job[name], reference.log[name])
    queues = await store.queues()
    assert [replace(queue, oldest_wait=None, drain_rate=None) for queue in queues] == reference.queues()
    for queue in queues:
        waits = [now - job.run_at for job in reference.due(now) if job.queue == queue.name]
        assert queue.oldest_wait in waits if waits else queue.oldest_wait is None
        assert queue.drain_rate is None or (queue.drain_rate > 0 and reference.drained(queue.name, now))
    statuses = [(status.worker, status.beat_age, status.dead) for status in await store.workers()]
    assert statuses == reference.workers(monotonic)
    if reference.pruned:
        await compare_pruned(store, reference, now)


async def compare_pruned(store: Store, reference: Reference, now: float) -> None:
    """Of the id that was pruned last."""
    name = next(reversed(reference.pruned))
    try:
        got = await store.get([name])
    except JobPruned:
        assert name not in reference.jobs
        assert reference.remembers(name, now)
    else:
        assert got == [reference.jobs.get(name)]
        assert name in reference.jobs or not reference.remembers(name, now)


def told(answer: Answer) -> tuple[Any, ...]:
    """What an answer to `add` says."""
    if isinstance(answer, Added):
        return (answer.job, answer.created)
    if isinstance(answer, QueueFull):
        return (answer.queue, answer.limit)
    assert isinstance(answer, DuplicateJob)
    return (answer.unique, answer.existing)


def come_again(got: Sequence[Answer], expected: Sequence[Answer]) -> None:
    """Who finds a queue full is told a time in which it may have a place; the longest, if it does not drain."""
    for answer, known in zip(got, expected, strict=True):
        if isinstance(answer, QueueFull) and isinstance(known, QueueFull):
            assert isinstance(answer.retry_after, int)
            assert 1 <= answer.retry_after <= NEVER
            assert answer.retry_after == NEVER or known.retry_after == SOME


def said(answers: Sequence[Saved]) -> list[Any]:
    """What the answers to `save` say."""
    return [told(answer) if isinstance(answer, DuplicateJob) else answer for answer in answers]


def audit(job: Job, items: Sequence[Event], written: Sequence[Event]) -> None:
    """The invariants, read from a job's events as the store gives them. `written`: as they were written."""
    assert [item.seq for item in written] == list(range(1, job.seq + 1)), "a number for each, without a gap"
    samples = sum(item.kind == event.PROGRESS for item in written)
    if samples <= SAMPLES:
        assert list(items) == list(written)
    else:
        kept = [item for item in items if item.kind == event.PROGRESS]
        assert set(map(seq_of, kept)) <= set(map(seq_of, written))
        assert len(kept) <= SAMPLES
        assert kept[-1] == max((item for item in written if item.kind == event.PROGRESS), key=seq_of)
        assert facts(items) == facts(written)
    states = [item.data for item in items if item.kind == event.STATE]
    starts = [data["attempt"] for data in states if data["state"] == State.RUNNING]
    assert starts == list(range(1, job.attempt + 1)), "each attempt begins once, and is counted when it does"
    ends = [data["attempt"] for data in states if data.get("outcome", "expired") != "expired"]
    assert ends == starts[: len(ends)], "at most one outcome of an attempt"
    assert len(starts) - len(ends) == (job.state is State.RUNNING)
    expired = [data["attempt"] for data in states if data.get("outcome") == "expired"]
    assert expired in ([], [0]), "what has begun expires no more, and what was retried not twice"
    over = asked = False
    for item in items:
        if item.kind == event.STATE:
            again = bool(item.data.get("retry"))
            assert not over or again, "final is final, but for a manual retry"
            assert not asked or again or State(item.data["state"]).final, "who was to be cancelled never starts again"
            over, asked = State(item.data["state"]).final, asked and not again
        asked |= item.kind == event.CANCEL
    limits = (
        (job.failures, job.options.retry.attempts),
        (job.crashes, job.options.crashes),
        (job.losses, job.options.losses),
    )
    assert all(count <= most and (count < most or job.state.final) for count, most in limits), "no budget is passed"


def facts(items: Sequence[Event]) -> list[Event]:
    """All events but the progress."""
    return [item for item in items if item.kind != event.PROGRESS]


def seq_of(item: Event) -> int:
    """Its number."""
    return item.seq
