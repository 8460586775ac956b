"""A queue's settings, what stands in it, and where a waiting job stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heavylift.core.job import State
    from heavylift.core.limits import Gate
    from heavylift.core.retention import Retention


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
    queue's rate lets the next one start (Unix seconds), None when it does. `gate`: one that it cannot pass itself.
    `ahead`: how many due jobs are likely to start before it; MOST_AHEAD stands for that many and more. `drain_rate` as
    in Queue.
    """

    pause: Pause | None = None
    full: int | None = None
    opens_at: float | None = None
    gate: ClosedGate | None = None
    ahead: int = 0
    drain_rate: float | None = None


MOST_AHEAD = 10_000
"""Jobs that are counted to say where one stands; more take too long."""
