"""One moment, by both clocks."""

from __future__ import annotations

from typing import NamedTuple

from heavylift.store import Clock


class Moment(NamedTuple):
    """What both clocks say: Unix seconds for what people read, and those of the boot, by which leases and rates go."""

    monotonic: float
    wall: float

    @classmethod
    def of(cls, clock: Clock) -> Moment:
        """Now. The wall clock is read last: whoever is held up in between tells a later time than it is, and nobody
        comes too early.
        """
        return cls(clock.monotonic(), clock.wall())

    def wall_of(self, monotonic: float) -> float:
        """Unix seconds of a moment of this boot, unless the wall clock is set meanwhile."""
        return self.wall + (monotonic - self.monotonic)
