"""What is to be expected of a job, for people: why it waits, when it starts, how long it still runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from heavylift.core import waiting
from heavylift.core.estimate import rest
from heavylift.core.queue import MOST_AHEAD
from heavylift.core.units import about, spoken

if TYPE_CHECKING:
    from collections.abc import Callable

    from heavylift.core.job import Job, Progress
    from heavylift.core.waiting import Code, Waiting
    from heavylift.outlook import Outlook

HINTS: dict[Code, str] = {
    "queue-paused": "`heavylift queues resume {queue}` lets it start",
    "no-worker": "`heavylift worker APP` starts one",
    "queue-not-served": "`heavylift worker APP --queues {queue}` starts one that does",
    "task-not-known": "start one of the application that has it",
}
"""What somebody can do about it."""
SHORT: dict[Code, str] = {
    "retrying": "retry",
    "queue-paused": "queue paused",
    "no-worker": "no worker",
    "queue-not-served": "no worker for its queue",
    "task-not-known": "no worker for its task",
    "queue-concurrency": "queue's concurrency",
    "queue-rate": "queue's rate",
    "key-concurrency": "key's concurrency",
    "key-rate": "key's rate",
    "unique-key": "unique key in use",
}
"""What is enough in a list."""
RATES: frozenset[Code] = frozenset({"queue-rate", "key-rate"})


def waits(job: Job, found: Outlook, moment: Callable[[float], str]) -> str | None:
    """Why a job waits, when it starts, and what somebody can do about it; None if it does not wait."""
    why = found.waiting
    if why is None:
        return None
    line = waiting.text(job, why, time.time(), moment)
    if why.code in HINTS:
        return f"{line}; {HINTS[why.code].format(queue=job.queue)}"
    start = _starts(found)
    return f"{line}; {start}" if start else line


def left(found: Outlook, moment: Callable[[float], str]) -> str | None:
    """How long a running job still runs, None if that cannot be told."""
    expected = found.estimate
    if expected is None or expected.finishes_at is None:
        return None
    return f"{about(expected.remaining)}, until about {moment(expected.finishes_at)}"


def left_then(progress: Progress) -> str:
    """How long the job still ran when it said how far it was."""
    seconds = rest(progress.percent, progress.rate)
    return f"{about(seconds)} left" if seconds else ""


def short(found: Outlook) -> str:
    """All that in a few words."""
    expected, why = found.estimate, found.waiting
    if why is None:
        return f"{about(expected.remaining)} left" if expected is not None else ""
    if why.until is not None:
        # Behind a rate it is not the next one's turn that counts, but its own.
        later = why.ahead and why.code in RATES and expected is not None
        when = about(expected.remaining) if later and expected else spoken(max(0.0, why.until - time.time()))
        return f"{SHORT.get(why.code, '')} in {when}".strip()
    parts = [SHORT[why.code]] if why.code in SHORT else [_starts(found) or ("" if why.ahead else "next in line")]
    if why.ahead and why.code not in HINTS:
        parts.append(_ahead(why))
    return ", ".join(part for part in parts if part)


def _ahead(why: Waiting) -> str:
    return f"{why.ahead:,}{'+' if why.ahead >= MOST_AHEAD else ''} ahead"


def _starts(found: Outlook) -> str:
    """When it starts, if that is not what it waits for anyway."""
    expected, why = found.estimate, found.waiting
    if expected is None or expected.starts_at is None or why is None or why.until == expected.starts_at:
        return ""
    return f"starts in {about(expected.remaining)}" if expected.remaining >= 1 else "starts any moment"
