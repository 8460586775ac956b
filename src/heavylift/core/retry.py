"""When a failed job is tried again: how often, after what delay, and for which exceptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from heavylift.core.errors import ConfigError, shown
from heavylift.core.units import Duration, seconds

_STEEPEST = 1000


@dataclass(frozen=True, slots=True)
class Exponential:
    """Delay = base × factor^(failures − 1), at most `maximum`; with jitter, a random 50-100 % of it. Seconds.

    The jitter is "equal jitter" of https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
    """

    base: float = 2.0
    factor: float = 2.0
    maximum: float = 3600.0
    jitter: bool = True

    def delay(self, failures: int, random: float) -> float:
        """Seconds to wait after the `failures`-th failure (1, 2, …); `random` in [0, 1)."""
        # The exponent is capped: 2.0 ** 1100 would raise OverflowError, and the delay reached its maximum long before.
        whole = min(self.maximum, self.base * self.factor ** min(failures - 1, 64))
        return whole * (0.5 + random / 2) if self.jitter else whole


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same delay after each failure. Seconds."""

    seconds: float

    def delay(self, failures: int, random: float) -> float:  # noqa: ARG002  the signature of a backoff
        """Seconds to wait, whatever happened before."""
        return self.seconds


Backoff = Exponential | Fixed
DelayFunction = Callable[[int, BaseException], "Duration | None"]
"""(failures so far, the exception) → the delay, or None to give up. Runs in the host."""


def exponential(base: Duration = 2, factor: float = 2, maximum: Duration = "1h", *, jitter: bool = True) -> Exponential:
    """A backoff that starts at `base` and grows by `factor` up to `maximum`."""
    given: object = factor
    if not isinstance(given, int | float) or isinstance(given, bool) or not 1 <= given <= _STEEPEST:
        message = f"factor: {shown(factor)} is no growth of the delay; give a number from 1 to {_STEEPEST}."
        raise ConfigError(message)
    return Exponential(seconds(base, "base"), float(factor), seconds(maximum, "maximum"), jitter)


def fixed(delay: Duration) -> Fixed:
    """A backoff that is always `delay`."""
    return Fixed(seconds(delay, "delay"))


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a job is started in all (`attempts`, counting failures and timeouts), and after what delay.

    `on` names the exception classes that are tried again, `but` those that are not: any other fails the job at once.
    `delay` is a backoff or a function of (failures, exception) that returns a delay or None to give up.
    """

    attempts: int = 3
    delay: Backoff | DelayFunction = Exponential()
    on: tuple[type[BaseException], ...] = (Exception,)
    but: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        attempts: object = self.attempts
        if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
            message = f"attempts: {shown(attempts)} is no number of starts; give an integer ≥ 1."
            raise ConfigError(message)
        delay: object = self.delay
        if delay in (exponential, fixed) or not (isinstance(delay, Exponential | Fixed) or callable(delay)):
            message = (
                f"delay: {shown(delay)} is no backoff; give exponential(2), fixed('10s'),"
                " or a function of (failures, exception)."
            )
            raise ConfigError(message)
        for name, classes in (("on", self.on), ("but", self.but)):
            _check_exceptions(name, classes)

    @property
    def backoff(self) -> Backoff:
        """The backoff to use where no exception is at hand (a timeout), or no function is."""
        return self.delay if isinstance(self.delay, Exponential | Fixed) else Exponential()

    def covers(self, exception: BaseException) -> bool:
        """Whether this exception is one that is tried again."""
        return isinstance(exception, self.on) and not isinstance(exception, self.but)


def _check_exceptions(name: str, classes: object) -> None:
    if isinstance(classes, tuple) and all(
        isinstance(item, type) and issubclass(item, BaseException) for item in classes
    ):
        return
    message = f"{name}: {shown(classes)} is no tuple of exception classes; give one, such as {name}=(ConnectionError,)."
    raise ConfigError(message)
