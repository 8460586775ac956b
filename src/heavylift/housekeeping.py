"""The pass that every worker makes now and then: jobs of dead workers, jobs that did not begin in time, and records
whose time is over.
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING

from heavylift.core import lifecycle
from heavylift.core.retention import Retention

if TYPE_CHECKING:
    from heavylift.journal import Journal
    from heavylift.settings import Settings
    from heavylift.store import Clock, Store

BATCH = 200
"""What one sweep returns at most: a full one means that there may be more."""
PRUNING = 1.0
"""Seconds that one pass removes finished jobs for at most; the next one goes on."""
LONGEST_PAUSE = 0.1
"""Seconds between two calls of prune, at most."""


async def keep_house(
    store: Store, worker: str, settings: Settings, clock: Clock, journal: Journal, *, others: bool
) -> None:
    """Look after all of it. Several workers may do so at once: every write is fenced, the slower one's is refused."""
    await look_round(store, worker, clock, journal, others=others)
    await prune(store, retention(settings), clock, PRUNING)


async def look_round(store: Store, worker: str, clock: Clock, journal: Journal, *, others: bool) -> None:
    """What cannot wait for the next pass."""
    await sweep(store, worker, clock, journal, others=others)
    await expire(store, clock, journal)


async def sweep(store: Store, worker: str, clock: Clock, journal: Journal, *, others: bool) -> None:
    """Settle what dead workers left: those of this machine whose process is gone (`others`: also workers whose lease
    ran out).
    """
    most: lifecycle.Suspicion = {}
    while orphans := await store.sweep(worker, others=others):
        most = lifecycle.suspect(orphans, most)
        changes = [
            lifecycle.settle(job, outcome, clock.wall(), random.random())  # noqa: S311  spreads retries, guards nothing
            for job, outcome in lifecycle.lose(orphans, most)
        ]
        for job, change, seq in zip(orphans, changes, await store.save(changes), strict=True):
            if seq is not None:  # else another worker was faster
                journal.lost(job, change)
        if len(orphans) < BATCH:
            break


async def expire(store: Store, clock: Clock, journal: Journal) -> None:
    """Settle jobs that were to begin by now, and did not."""
    while expired := await store.expired():
        changes = [lifecycle.expire(job, clock.wall()) for job in expired]
        for job, seq in zip(expired, await store.save(changes), strict=True):
            if seq is not None:  # else it was cancelled, or another worker was faster
                journal.expired(job)
        if len(expired) < BATCH:
            break


def retention(settings: Settings) -> Retention:
    """Which finished jobs the settings keep."""
    return Retention(settings.keep, settings.keep_succeeded or None, settings.keep_failed or None)


async def prune(store: Store, kept: Retention, clock: Clock, most: float = math.inf) -> int:
    """Remove finished jobs that retention lets go, all of them or for `most` seconds; how many. Others have their turns
    meanwhile: after each call it waits for as long as that took.
    """
    removed, began = 0, clock.monotonic()
    now = began
    while now - began < most and (count := await store.prune(kept)):
        removed += count
        took = clock.monotonic() - now
        await asyncio.sleep(min(took, LONGEST_PAUSE))
        now = clock.monotonic()
    return removed
