"""A queue's settings: what opens and closes its gate."""

from __future__ import annotations

from collections.abc import Sequence

from heavylift.core.errors import ConfigError, did_you_mean
from heavylift.store import Queue
from heavylift.stores.sqlite import reading
from heavylift.stores.sqlite.transaction import Transaction

LIMITS = ("concurrency", "max_size")


def check(concurrency: int | None, max_size: int | None, unlimited: Sequence[str]) -> None:
    """Raise ConfigError for a limit that is none."""
    for name, value in zip(LIMITS, (concurrency, max_size), strict=True):
        if value is not None and value < 1:
            message = f"{name}: {value!r} is out of range; give an integer ≥ 1, or pause the queue."
            raise ConfigError(message)
    for name in unlimited:
        if name not in LIMITS:
            message = f"There is no limit {name!r}.{did_you_mean(name, LIMITS)} (limits: {', '.join(LIMITS)})"
            raise ConfigError(message)


def set_queue(
    transaction: Transaction,
    name: str,
    paused: bool | None,  # noqa: FBT001  passed on as it was given
    concurrency: int | None,
    max_size: int | None,
    unlimited: Sequence[str],
) -> Queue:
    """Change what is given; the lanes of the queue open or close with it."""
    queue = transaction.queue_named(name)
    queue.paused = queue.paused if paused is None else paused
    queue.concurrency = None if "concurrency" in unlimited else concurrency or queue.concurrency
    queue.max_size = None if "max_size" in unlimited else max_size or queue.max_size
    transaction.connection.execute(
        "UPDATE queue SET paused = ?, concurrency = ?, max_size = ?, kept = 1 WHERE number = ?",
        (int(queue.paused), queue.concurrency, queue.max_size, queue.number),
    )
    transaction.changed = transaction.wake_all = True
    transaction.flush()
    return reading.queues(transaction.connection, transaction.now, name)[0]
