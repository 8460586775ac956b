"""How an attempt ended. An executor returns exactly one of these for each attempt; it never raises for a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from heavylift.core.job import Error


class Usage(NamedTuple):
    """What an attempt took: wall and CPU seconds, peak resident bytes (None where it was too short to measure)."""

    wall: float = 0.0
    cpu: float = 0.0
    peak_rss: int | None = None


NOT_MEASURED = Usage()

DRAIN = "drain"
NOT_STARTED = "not started"
VANISHED = "its worker vanished"
NEIGHBOUR_STOPPED = "a neighbour in its host was stopped"
NOT_ALONE = "its host died, and it was not alone"
"""Reasons of an Interrupted."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The task returned; `result` is JSON bytes."""

    result: bytes
    usage: Usage = NOT_MEASURED


@dataclass(frozen=True, slots=True)
class Failed:
    """The task raised. `retryable` and `delay` (seconds, None for the job's backoff) are the retry policy's answer,
    given where the exception was at hand.
    """

    error: Error
    retryable: bool = True
    delay: float | None = None
    usage: Usage = NOT_MEASURED


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The attempt was stopped at its timeout; `killed` when the grace was over first."""

    error: Error
    killed: bool = False
    usage: Usage = NOT_MEASURED


@dataclass(frozen=True, slots=True)
class Crashed:
    """The host died under the attempt while the worker lived."""

    error: Error
    usage: Usage = NOT_MEASURED


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The attempt was stopped because the job's cancel was requested. `started` False: it never ran."""

    started: bool = True
    killed: bool = False
    usage: Usage = NOT_MEASURED


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The attempt was cut short through no fault of the job: a drain, or a claim that was never started.
    `lost`: its worker vanished. `suspect`: it may have killed the host that it shared, and runs alone from now on. Only
    a loss costs anything.
    """

    reason: str
    lost: bool = False
    suspect: bool = False
    usage: Usage = NOT_MEASURED


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The task asked to be run again after `delay` seconds, at no cost."""

    delay: float
    usage: Usage = NOT_MEASURED


Outcome = Succeeded | Failed | TimedOut | Crashed | Cancelled | Interrupted | Snoozed
