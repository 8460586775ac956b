"""Which finished jobs are kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """`age`: seconds that finished jobs are kept for; `succeeded` and `failed` (with cancelled): at most so many of the
    newest ones, None for all. Jobs finished less than 60 s ago are always kept.

    The settings' counts are of each queue, a queue's own of that queue, a task's own of that task in each queue. Jobs
    whose task has its own are not counted by their queue.
    """

    age: float = 7 * 86400.0
    succeeded: int | None = None
    failed: int | None = None
