"""Limits by key: how many jobs that share a key may run at once, and how many may start in a time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from heavylift.core.errors import ConfigError, shown
from heavylift.core.units import seconds

if TYPE_CHECKING:
    from heavylift.core.options import Options

MAX_LIMITS = 8
"""Limits of one job."""
MAX_KEY = 512
"""Characters of a key."""
MOST = 1_000_000
"""The largest concurrency, and the most starts of a rate's period."""
BURST = 0.1
"""Seconds of a rate that may be taken at once."""
SLACK = 1e-6
"""Seconds that sums of Unix times may be wrong by: four times what a double can tell apart there."""
_RATE = re.compile(
    r"\s*(\d{1,7})\s*/\s*(\d+(?:\.\d+)?)?\s*(ms|s|m|h|d|w|sec|second|min|minute|hour|day|week)\s*", re.ASCII
)
_UNITS = {"sec": "s", "second": "s", "min": "m", "minute": "m", "hour": "h", "day": "d", "week": "w"}
_SHORTEST, _LONGEST = 0.001, 366 * 86400.0


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `most` jobs with this key run at once, whatever their task, queue and worker.

    `key` is a text in which "{name}" stands for an argument of the task; left out, it is the task's name. Of several
    jobs that give one key different numbers, the one that was submitted last decides for all. Raises ConfigError.
    """

    most: int
    key: str = "{task}"

    def __post_init__(self) -> None:
        most: object = self.most
        if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= MOST:
            message = f"Concurrency: {shown(most)} is no number of jobs; give an integer from 1 to {MOST}."
            raise ConfigError(message)
        _check_key("Concurrency", self.key)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many starts of jobs with this key in a time: `Rate("100/min", key="crm")`, "10/s", "5/30s", "1/h".

    They are spread evenly: at most a tenth of a second's worth of them, and at least one, start at once. `key` as that
    of Concurrency. Raises ConfigError.
    """

    rate: str
    key: str = "{task}"

    def __post_init__(self) -> None:
        pace(self.rate)
        _check_key("Rate", self.key)


Limit = Concurrency | Rate


class Gate(NamedTuple):
    """What a job must pass to start: the counter of a key. `limit`: how many may run, or the rate; one may run of those
    that share a unique key.
    """

    kind: Literal["concurrency", "rate", "unique"]
    key: str
    limit: int | str


def gates(options: Options, *, begun: bool = False) -> tuple[Gate, ...]:
    """The gates of a job whose keys are no templates any more, each once. `begun`: it has begun before, and comes back;
    another job with its unique key may have come meanwhile.
    """
    found: dict[tuple[str, str], Gate] = {}
    for limit in options.limits:
        if isinstance(limit, Concurrency):
            found["concurrency", limit.key] = Gate("concurrency", limit.key, limit.most)
        else:
            found["rate", limit.key] = Gate("rate", limit.key, limit.rate)
    # The one that takes another's place, or waits beside it, starts when that one has stopped.
    waits = begun or options.debounce is not None or options.on_conflict in ("replace", "queue-one")
    if options.unique is not None and options.unique_until == "end" and waits:
        found["unique", options.unique] = Gate("unique", options.unique, 1)
    return tuple(found.values())


class Pace(NamedTuple):
    """A rate as numbers: seconds between two starts, and how many may come at once."""

    interval: float
    burst: int


@lru_cache(maxsize=1024)
def _paced(rate: str) -> Pace | None:
    match = _RATE.fullmatch(rate)
    if match is None or not 1 <= int(match[1]) <= MOST:
        return None
    unit = _UNITS.get(match[3], match[3])
    try:
        period = seconds(f"{match[2] or 1}{unit}", "rate")
    except ConfigError:  # over a hundred years
        return None
    if not _SHORTEST <= period <= _LONGEST:
        return None
    interval = period / int(match[1])
    return Pace(interval, max(1, math.floor((BURST + SLACK) / interval)))


def pace(rate: object, name: str = "rate") -> Pace:
    """The numbers of a rate; raises ConfigError, naming `name`, for what is none."""
    found = _paced(rate) if isinstance(rate, str) else None
    if found is None:
        message = (
            f"{name}: {shown(rate)} is no rate; give a number of starts from 1 to {MOST} and a time from a"
            " millisecond to a year, such as '10/s', '100/min' or '5/30s'. (To start none, pause the queue.)"
        )
        raise ConfigError(message)
    return found


# The generic cell rate algorithm (ITU-T I.371) in its virtual scheduling form: of each key only the time is kept at
# which the next start would be due if all came evenly. A start may come a burst earlier than that.


def room(due: float, now: float, pace: Pace) -> int:
    """How many may start now, when the next one is due (evenly) at `due`."""
    early = now + pace.interval * pace.burst - max(due, now)
    return max(0, math.floor((early + SLACK) / pace.interval))


def opens_at(due: float, pace: Pace) -> float:
    """When the next one may start."""
    return due - pace.interval * (pace.burst - 1)


def taken(due: float, now: float, pace: Pace, starts: int) -> float:
    """When the next one is due after so many starts."""
    return max(due, now) + starts * pace.interval


def is_text(value: object, longest: int) -> bool:
    """Whether a store can keep it: NUL and lone surrogates are no text to some of them."""
    return (
        isinstance(value, str)
        and len(value) <= longest
        and "\0" not in value
        and not any("\ud800" <= character <= "\udfff" for character in value)
    )


def repaced(due: float, now: float, before: Pace, after: Pace) -> float:
    """When the next one is due by another rate: it waits for as many intervals as by the one before."""
    ahead = max(0.0, due - now) / before.interval
    waits = max(0.0, ahead - (before.burst - 1))
    early = after.burst - 1 if waits else min(ahead, after.burst - 1)
    return now + (waits + early) * after.interval


def _check_key(name: str, key: object) -> None:
    if not is_text(key, MAX_KEY) or not key:
        message = (
            f"{name}: {shown(key)} is no key; give 1-{MAX_KEY} characters of text, such as 'crm' or"
            " 'account:{account_id}'."
        )
        raise ConfigError(message)
