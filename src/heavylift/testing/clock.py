"""A clock that stands still until a test advances it."""

from __future__ import annotations

from heavylift.core.units import Duration, seconds


class FakeClock:
    """Wall time and monotonic time, both set by hand."""

    def __init__(self, wall: float = 1_800_000_000.0, monotonic: float = 10_000.0) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def wall(self) -> float:
        """Unix seconds."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._monotonic

    def advance(self, duration: Duration) -> None:
        """Let time pass: seconds, "10m" or a timedelta."""
        passed = seconds(duration)
        self._wall += passed
        self._monotonic += passed

    def set_wall(self, wall: float) -> None:
        """Set the wall clock, as an administrator may; the monotonic one takes no notice."""
        self._wall = wall
