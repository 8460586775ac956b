"""How long the runs of a task take, as far as the pool has to know."""

from __future__ import annotations


class Pace:
    """A running estimate of the median: it moves up or down by a step with each run that lies above or below it."""

    QUICK = 0.001
    """A task whose median run is shorter (seconds) may have several runs in one host."""
    OVERHEAD = 25e-6
    """What a host needs besides the run itself, seconds."""
    _STEP = 1.15
    _DEEPEST, _DEPTH_SECONDS = 64, 0.002
    _SOME, _LONG = 0.01, 0.005

    BRIEF = 0.05
    """Of a task whose median run is shorter (seconds) the next run is to be at hand when a host is free."""

    __slots__ = ("_median", "quick")

    def __init__(self) -> None:
        self._median = 0.0
        self.quick = False
        """Whether at least one run is known, and the median is short."""

    def add(self, seconds: float) -> None:
        """A run took so long."""
        median = self._median
        if median == 0.0:
            median = seconds
        elif seconds > median:
            median *= self._STEP
        else:
            median /= self._STEP
        self._median = median
        self.quick = 0.0 < median < self.QUICK

    @property
    def brief(self) -> bool:
        """Whether at least one run is known, and the median is brief."""
        return 0.0 < self._median < self.BRIEF

    @property
    def depth(self) -> int:
        """How many runs a host may have at once: what it does in two milliseconds, at most 64; of runs of some
        milliseconds two, so that it never waits for the next one; else one.
        """
        if self.quick:
            return max(2, min(self._DEEPEST, int(self._DEPTH_SECONDS / self.seconds)))
        return 2 if 0.0 < self._median < self._SOME else 1

    @property
    def long(self) -> float:
        """Seconds after which a run is no usual one of its task, and what waits behind it goes elsewhere."""
        return max(self._LONG, 4 * self._median)

    @property
    def seconds(self) -> float:
        """What a run takes of a host's time, about."""
        return self._median + self.OVERHEAD
