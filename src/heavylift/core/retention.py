"""Which finished jobs are kept."""

from __future__ import annotations

from dataclasses import dataclass

from heavylift.core.errors import ConfigError, shown
from heavylift.core.units import Duration, seconds


@dataclass(frozen=True, slots=True, init=False)
class Retention:
    """`age`: seconds that finished jobs are kept for; `succeeded` and `failed` (with cancelled): at most so many of the
    newest ones, None for all. Jobs finished less than 60 s ago are always kept.

    The settings' counts are of each queue, a queue's own of that queue, a task's own of that task in each queue. Jobs
    whose task has its own are not counted by their queue.
    """

    age: float
    succeeded: int | None
    failed: int | None

    def __init__(self, age: Duration = 7 * 86400.0, succeeded: int | None = None, failed: int | None = None) -> None:
        """Raises ConfigError for an age that is no duration, and for a number below 0."""
        object.__setattr__(self, "age", seconds(age, "age"))
        object.__setattr__(self, "succeeded", _number(succeeded, "succeeded"))
        object.__setattr__(self, "failed", _number(failed, "failed"))


def _number(value: object, name: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63):
        return value
    message = f"{name}: {shown(value)} is no number of jobs to keep; give an integer from 0, or None for all."
    raise ConfigError(message)
