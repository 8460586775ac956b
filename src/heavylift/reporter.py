"""CONTRACT Reporter: what a Context is given where its code runs: the way of its reports, and the news that it is to
stop; and how code waits for its turn in a rate.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol, Self

from heavylift.core import codec
from heavylift.core.errors import ConfigError, shown
from heavylift.core.limits import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping
    from types import TracebackType

PATIENCE = 1.0
"""Seconds of one wait for a turn: whatever became of the news of a stop, it is seen after that."""
_TEMPLATE = re.compile(r"\{[A-Za-z_][\w.]*\}")


class Turn(Protocol):
    """A place in a rate that code waits for."""

    def wait(self, seconds: float) -> bool:
        """Whether it is due. Waits for that, for so many seconds at most, and less when the job is asked to stop."""

    async def wait_async(self) -> bool:
        """The same on an event loop, without an end of its own."""

    def close(self) -> None:
        """Nobody waits for it any more."""


class Reporter(Protocol):
    """Where a context's reports go: the host's wire to the worker, or a list in tests."""

    def progress(self, value: dict[str, Any]) -> None:
        """The fields of Progress; may be coalesced, the last one is always delivered."""

    def checkpoint(self, value: bytes) -> None:
        """A value to resume from, JSON bytes; delivered before the outcome, in order."""

    def log(self, level: str, message: str, extra: Mapping[str, Any] | None = None) -> None:
        """One line of the job's log; `extra` as in `core.log.Lines`."""

    def reserve(self, rate: Rate) -> Turn:
        """Ask for the next free place in a rate. Raises RuntimeError where nobody would hear of that: when the attempt
        is over, and in a child process.
        """

    def cancelled(self) -> bool:
        """Whether the job was asked to stop."""

    def shield(self) -> None:
        """From now on nothing is raised for a stop, until as many calls of `unshield`."""

    def unshield(self, name: str, *, quiet: bool) -> None:
        """The end of `shield`, `name` says of which; raises what came meanwhile, unless `quiet`."""


NOT_HEARD = "ctx.limit needs the attempt that the Context is of: that one is over, or this is a child of its process."


def checked_rate(key: str, rate: str) -> Rate:
    """The rate of `Context.limit`; raises ConfigError."""
    wanted = Rate(rate, key=key)
    if _TEMPLATE.search(key):
        message = f"ctx.limit: {shown(key)} is a template; here the key is the text itself: put an f before it."
        raise ConfigError(message)
    return wanted


def await_turn(turn: Turn, check: Callable[[], None]) -> None:
    """Wait until it is due; `check` raises when the code is to stop."""
    try:
        while not turn.wait(PATIENCE):
            check()
    finally:
        turn.close()


async def turn_of(ask: Callable[[], Turn], check: Callable[[], None]) -> None:
    """The same on an event loop, for a turn that is asked for only then."""
    turn = ask()
    try:
        while not await turn.wait_async():
            check()
    finally:
        turn.close()


class Limited:
    """What `Context.limit` returns: code whose turn has come, or on an event loop, will have when this is awaited."""

    def __init__(self, waiting: Coroutine[Any, Any, None] | None = None) -> None:
        self._waiting = waiting
        self._loop = waiting is not None
        self._used = False

    def __enter__(self) -> Self:
        if self._waiting is not None:
            self._waiting.close()
            message = "ctx.limit: an event loop runs here, and would stand still; use `async with ctx.limit(…)`."
            raise ConfigError(message)
        self._use()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Nothing is held: a rate is of starts."""

    def __await__(self) -> Generator[Any, Any, None]:
        self._use()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            yield from waiting.__await__()

    async def __aenter__(self) -> Self:
        await self
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Nothing is held: a rate is of starts."""

    def _use(self) -> None:
        if self._used:
            message = "ctx.limit: this place was used before; call ctx.limit(…) anew for each."
            raise ConfigError(message)
        self._used = True


class Recorder:
    """The reporter of a fake context."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, Any]] = []

    def progress(self, value: dict[str, Any]) -> None:
        """See `Reporter`."""
        self.reports.append(("progress", value))

    def checkpoint(self, value: bytes) -> None:
        """See `Reporter`."""
        self.reports.append(("checkpoint", codec.decode(value)))

    def log(self, level: str, message: str, extra: Mapping[str, Any] | None = None) -> None:
        """See `Reporter`."""
        self.reports.append(("log", (level, message) if extra is None else (level, message, extra["fields"])))

    def reserve(self, rate: Rate) -> Due:
        """See `Reporter`."""
        self.reports.append(("limit", (rate.key, rate.rate)))
        return Due()

    def cancelled(self) -> bool:
        """See `Reporter`."""
        return False

    def shield(self) -> None:
        """Nothing is raised here anyway."""

    def unshield(self, name: str, *, quiet: bool) -> None:
        """See `shield`."""


class Due:
    """The turn of a fake context."""

    def wait(self, seconds: float) -> bool:
        """See `Turn`."""
        del seconds
        return True

    async def wait_async(self) -> bool:
        """See `Turn`."""
        return True

    def close(self) -> None:
        """Nothing waits."""
