"""Heavylift runs long and CPU-heavy work behind a Python web service without ever blocking it."""

import typing

if typing.TYPE_CHECKING:
    from heavylift.app import Heavylift
    from heavylift.bound_task import BoundTask
    from heavylift.client import Handle
    from heavylift.context import Context
    from heavylift.core.dependency import Provide, provided
    from heavylift.core.errors import (
        Cancelled,
        CommandFailed,
        ConfigError,
        DuplicateJob,
        GiveUp,
        HeavyliftError,
        InvalidArguments,
        JobCancelled,
        JobCrashed,
        JobError,
        JobFailed,
        JobFinished,
        JobNotFinished,
        JobNotFound,
        JobNotRunning,
        JobNotWaiting,
        JobTimedOut,
        NoAnswer,
        QueueFull,
        RetryLater,
        Snooze,
        SubmitError,
    )
    from heavylift.core.job import Job, State
    from heavylift.core.limits import Concurrency, Rate
    from heavylift.core.result import Receipt
    from heavylift.core.retention import Retention
    from heavylift.core.retry import Retry, exponential, fixed

__all__ = [
    "BoundTask",
    "Cancelled",
    "CommandFailed",
    "Concurrency",
    "ConfigError",
    "Context",
    "DuplicateJob",
    "GiveUp",
    "Handle",
    "Heavylift",
    "HeavyliftError",
    "InvalidArguments",
    "Job",
    "JobCancelled",
    "JobCrashed",
    "JobError",
    "JobFailed",
    "JobFinished",
    "JobNotFinished",
    "JobNotFound",
    "JobNotRunning",
    "JobNotWaiting",
    "JobTimedOut",
    "NoAnswer",
    "Provide",
    "QueueFull",
    "Rate",
    "Receipt",
    "Retention",
    "Retry",
    "RetryLater",
    "Snooze",
    "State",
    "SubmitError",
    "exponential",
    "fixed",
    "provided",
]

# Imported when they are asked for, from the first of these that has them: the command line and the processes that run
# tasks need few of them, and start in a fraction of the time.
_PLACES = (
    *("core.errors", "core.job", "core.retry", "core.limits", "core.retention", "core.dependency"),
    *("context", "bound_task", "app", "client"),
)


def __getattr__(name: str) -> typing.Any:
    if name in __all__:
        from importlib import import_module

        for place in _PLACES:
            found = vars(import_module(f"heavylift.{place}"))
            if name in found:
                globals()[name] = found[name]
                return found[name]
    message = f"module 'heavylift' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
