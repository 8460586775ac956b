"""Heavylift runs long and CPU-heavy work behind a Python web service without ever blocking it."""

from heavylift.app import Heavylift
from heavylift.bound_task import BoundTask
from heavylift.client import Handle, Receipt
from heavylift.context import Context
from heavylift.core.errors import (
    Cancelled,
    ConfigError,
    GiveUp,
    HeavyliftError,
    JobCancelled,
    JobCrashed,
    JobError,
    JobFailed,
    JobFinished,
    JobNotFinished,
    JobNotFound,
    JobTimedOut,
    RetryLater,
    Snooze,
    SubmitError,
)
from heavylift.core.job import Job, State
from heavylift.core.retry import Retry, exponential, fixed

__all__ = [
    "BoundTask",
    "Cancelled",
    "ConfigError",
    "Context",
    "GiveUp",
    "Handle",
    "Heavylift",
    "HeavyliftError",
    "Job",
    "JobCancelled",
    "JobCrashed",
    "JobError",
    "JobFailed",
    "JobFinished",
    "JobNotFinished",
    "JobNotFound",
    "JobTimedOut",
    "Receipt",
    "Retry",
    "RetryLater",
    "Snooze",
    "State",
    "SubmitError",
    "exponential",
    "fixed",
]
