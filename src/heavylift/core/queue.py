"""A queue's settings, what stands in it, and where a waiting job stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict, cast

from heavylift.core.errors import ConfigError, did_you_mean, shown
from heavylift.core.limits import is_text, pace
from heavylift.core.options import NAME, Options
from heavylift.core.retention import Retention

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heavylift.core.job import State
    from heavylift.core.limits import Gate

MOST = 2**31
"""The largest concurrency and size of a queue."""
MAX_REASON, MAX_BY = 1000, 200
"""Characters of a reason, and of a name."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when a queue is paused (Unix seconds), by whom and why, as far as it was said."""

    at: float
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's settings and what stands in it. `concurrency`, `max_size` and `rate` (of starts, such as "100/min")
    None: without limit; `keep` None: the settings' retention.

    `counts` has every state that any job of the queue is in. `oldest_wait`: seconds that the job at its head has
    been due, None when no job is due. `drain_rate`: jobs a second that ended lately, None when too few did to tell.
    """

    name: str
    pause: Pause | None = None
    concurrency: int | None = None
    max_size: int | None = None
    rate: str | None = None
    keep: Retention | None = None
    counts: Mapping[State, int] = field(default_factory=dict)
    oldest_wait: float | None = None
    drain_rate: float | None = None

    @property
    def paused(self) -> bool:
        """Whether its jobs are not started."""
        return self.pause is not None


class QueueValues(TypedDict, total=False):
    """What can be changed of a queue's settings; None stands for what is not given."""

    paused: bool | None
    by: str | None
    reason: str | None
    concurrency: int | None
    max_size: int | None
    rate: str | None
    keep: Retention | None
    unlimited: Sequence[str]


UNLIMITED = ("concurrency", "max_size", "rate", "keep")
"""Settings of a queue that can be lifted."""


class Limits(TypedDict, total=False):
    """What limits a queue, as people write it: what is not there stays, None lifts it."""

    concurrency: int | None
    max_size: int | None
    rate: str | None
    keep: Retention | None


def values(limits: Mapping[str, object]) -> QueueValues:
    """Limits as `set_queue` takes them; raises ConfigError for a name that is none."""
    for name in limits:
        if name not in UNLIMITED:
            raise ConfigError(_unknown(name))
    given = {**limits, "unlimited": [name for name, value in limits.items() if value is None]}
    return cast("QueueValues", given)  # what is no limit is found by `check`


def place(now: float, **given: object) -> tuple[int | None, float | None]:
    """Where a job is to be moved: a priority, and a time of `run_at`, which wins, or `delay`; None for what is to stay.
    Raises ConfigError.
    """
    clean = {name: value for name, value in given.items() if value is not None}
    if not clean:
        message = "There is nowhere to move it to: give priority, run_at or delay."
        raise ConfigError(message)
    options = Options().using(**clean)
    at = now + options.delay if "delay" in clean and options.run_at is None else options.run_at
    return options.priority if "priority" in clean else None, at


def check(name: object, given: QueueValues) -> None:
    """Raise ConfigError, naming the setting, for what no queue can have."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        message = f"{shown(name)} cannot name a queue; give 1-128 letters, digits, '.', '_', ':' or '-'."
        raise ConfigError(message)
    for limit in ("concurrency", "max_size"):
        _check_number(limit, given.get(limit))
    if given.get("rate") is not None:
        pace(given["rate"])
    for word, most in (("by", MAX_BY), ("reason", MAX_REASON)):
        _check_text(word, given.get(word), most, pauses=given.get("paused") is True)
    if (keep := given.get("keep")) is not None:
        _check_kept(keep)
    for limit in given.get("unlimited", ()):
        if limit not in UNLIMITED:
            raise ConfigError(_unknown(limit))
        if given.get(limit) is not None:
            message = f"{limit}: it is given and lifted at once; do one of the two."
            raise ConfigError(message)


def _unknown(name: str) -> str:
    return f"There is no limit {name!r}.{did_you_mean(name, UNLIMITED)} (limits: {', '.join(UNLIMITED)})"


def _check_number(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST):
        message = f"{name}: {shown(value)} is out of range; give an integer from 1 to {MOST}, or pause the queue."
        raise ConfigError(message)


def _check_text(name: str, value: object, most: int, *, pauses: bool) -> None:
    if value is None:
        return
    if not is_text(value, most) or not value:
        message = f"{name}: {shown(value)} does not fit; give 1-{most} characters of text."
        raise ConfigError(message)
    if not pauses:
        message = f"{name}: it goes with a pause; give paused=True, too."
        raise ConfigError(message)


def _check_kept(keep: object) -> None:
    if not isinstance(keep, Retention):
        message = f"keep: {shown(keep)} is no Retention; give one, such as Retention(succeeded=10, failed=5)."
        raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class ClosedGate:
    """A gate that a waiting job cannot pass now. `holders`: ids of up to 3 of the jobs that run behind it; `opens_at`
    Unix seconds, of a rate.
    """

    gate: Gate
    holders: tuple[str, ...] = ()
    opens_at: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a queued job stands, and what it waits for at this moment.

    `pause` and `full` are of its queue (`full`: its concurrency, when it runs as many jobs), `opens_at` too: when the
    queue's `rate` lets the next one start (Unix seconds), None when it does. `gate`: one that it cannot pass itself.
    `ahead`: how many due jobs are likely to start before it; MOST_AHEAD stands for that many and more. `drain_rate` as
    in Queue.
    """

    pause: Pause | None = None
    full: int | None = None
    rate: str | None = None
    opens_at: float | None = None
    gate: ClosedGate | None = None
    ahead: int = 0
    drain_rate: float | None = None


MOST_AHEAD = 10_000
"""Jobs that are counted to say where one stands; more take too long."""
