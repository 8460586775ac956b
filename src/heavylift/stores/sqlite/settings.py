"""A queue's settings: what opens and closes its gate."""

from __future__ import annotations

from heavylift.core.errors import ConfigError
from heavylift.core.job import State
from heavylift.core.limits import pace, repaced
from heavylift.core.queue import Queue, QueueValues
from heavylift.stores.sqlite import reading, rows
from heavylift.stores.sqlite.transaction import QueueRow, Transaction


def set_queue(transaction: Transaction, name: str, given: QueueValues) -> Queue:
    """Change what is given; the lanes of the queue open or close with it. Raises ConfigError."""
    queue = transaction.queue_named(name)
    _check_size(queue, given.get("max_size"))
    names = ("concurrency", "max_size", "rate")
    columns = {column: value for column, value in given.items() if column in names and value is not None}
    columns |= dict.fromkeys(given.get("unlimited", ()))
    if (keep := given.get("keep")) is not None:
        columns["keep"] = rows.text_of([keep.age, keep.succeeded, keep.failed])
    columns |= _pause(transaction, queue, given)
    if queue.rate is not None and (rate := given.get("rate")) not in (None, queue.rate):
        queue.due = repaced(queue.due, transaction.monotonic, pace(queue.rate), pace(rate))
    for column in ("concurrency", "max_size", "rate", "paused_at"):
        setattr(queue, column, columns.get(column, getattr(queue, column)))
    sets = ", ".join(f"{column} = ?" for column in columns)
    transaction.connection.execute(
        f"UPDATE queue SET kept = 1{sets and ', '}{sets} WHERE number = ?", (*columns.values(), queue.number)
    )
    queue.set_anew = transaction.changed = transaction.wake_all = True
    transaction.flush()
    return reading.queues(transaction.connection, transaction.now, name)[0]


def _check_size(queue: QueueRow, max_size: int | None) -> None:
    waiting = queue.counts[State.QUEUED]
    if max_size is not None and max_size < waiting:
        message = (
            f"max_size: {max_size} is below the {waiting} jobs that wait in queue {queue.name!r}; give at least"
            f" {waiting}, or cancel some first."
        )
        raise ConfigError(message)


def _pause(transaction: Transaction, queue: QueueRow, given: QueueValues) -> dict[str, object]:
    """The columns that a pause changes, or its end."""
    paused = given.get("paused")
    if paused is None:
        return {}
    if not paused:
        return {"paused_at": None, "paused_by": None, "paused_why": None}
    since = transaction.now if queue.paused_at is None else queue.paused_at
    return {"paused_at": since, "paused_by": given.get("by"), "paused_why": given.get("reason")}
