"""How a command ends: one exit code for each kind of end, and the error with its next step on stderr."""

from __future__ import annotations

import sys
from enum import IntEnum

from heavylift.core import errors


class Exit(IntEnum):
    """The exit codes; scripts rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    STORE = 4
    REFUSED = 5
    INTERRUPTED = 130


HELP = """\b
Examples:
  heavylift serve app:lift
  heavylift submit -A app:lift count_primes limit=100000 --wait
  heavylift jobs --state failed,running
  heavylift logs -f @last
  heavylift doctor app:lift

\b
Exit codes:
  0    done
  1    the job failed or was cancelled; doctor or selftest found a failure
  2    wrong usage, arguments or configuration
  3    no such job or task
  4    the store is away
  5    refused: the job is over, or is not; the queue is full
  130  interrupted
"""

CODES: list[tuple[type[errors.HeavyliftError], Exit]] = [
    (errors.JobNotFound, Exit.NOT_FOUND),
    (errors.UnknownTask, Exit.NOT_FOUND),
    (errors.StoreError, Exit.STORE),
    (errors.QueueFull, Exit.REFUSED),
    (errors.DuplicateJob, Exit.REFUSED),
    (errors.JobFinished, Exit.REFUSED),
    (errors.JobNotFinished, Exit.REFUSED),
    (errors.JobNotRunning, Exit.REFUSED),
    (errors.JobNotWaiting, Exit.REFUSED),
    (errors.NoAnswer, Exit.FAILED),
    (errors.JobError, Exit.FAILED),
    (errors.HeavyliftError, Exit.USAGE),
]

NEXT: list[tuple[type[errors.HeavyliftError], str]] = [
    (errors.JobPruned, "Finished jobs are kept for the time that the setting `keep` says."),
    (errors.JobNotFound, "`heavylift jobs` lists what this store holds; --store or --app names another one."),
    (errors.JobFinished, "`heavylift job ID` says how; `heavylift retry ID` starts it anew."),
    (errors.JobNotFinished, "`heavylift job ID` says how far it is; `heavylift cancel ID` stops it."),
    (errors.JobNotWaiting, "`heavylift job ID` shows all that is known about it."),
    (errors.JobNotRunning, "`heavylift job ID` shows all that is known about it."),
    (errors.DuplicateJob, "`heavylift job ID` shows that one."),
    (errors.StoreUnavailable, "Nothing was changed; check the store's URL and its rights, and try again."),
]


def failed(error: errors.HeavyliftError) -> Exit:
    """Say what went wrong and what to do next; the exit code that fits."""
    complain(str(error))
    step = next((text for kind, text in NEXT if isinstance(error, kind)), None)
    if step is not None:
        sys.stderr.write(f"{step.replace('ID', _id(error))}\n")
    return next(code for kind, code in CODES if isinstance(error, kind))


def complain(message: str) -> None:
    """An error line on stderr, marked on a terminal."""
    import os

    marked = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    mark = "\x1b[1;31merror\x1b[0m" if marked else "error"
    sys.stderr.write(f"{mark}: {message}\n")


def _id(error: errors.HeavyliftError) -> str:
    return str(getattr(error, "job_id", getattr(error, "existing", "ID")))
