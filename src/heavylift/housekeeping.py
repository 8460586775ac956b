"""The pass that every worker makes now and then: jobs of dead workers, and records whose time is over."""

from __future__ import annotations

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


async def keep_house(
    store: Store, worker: str, settings: Settings, clock: Clock, journal: Journal, *, others: bool
) -> None:
    """Sweep, then prune. Several workers may do so at once: every write is fenced, the slower one's is refused."""
    await sweep(store, worker, clock, journal, others=others)
    await prune(store, retention(settings))


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


def retention(settings: Settings) -> Retention:
    """Which finished jobs the settings keep."""
    return Retention(settings.keep, settings.keep_succeeded or None, settings.keep_failed or None)


async def prune(store: Store, kept: Retention) -> int:
    """Remove all finished jobs that retention lets go; how many."""
    removed = 0
    while count := await store.prune(kept):
        removed += count
    return removed
