"""The application of `async_drain`: a task that is a coroutine, and the same one as a function."""

from __future__ import annotations

from heavylift import Heavylift

lift = Heavylift("sqlite:///benchmark.db")


@lift.task
async def noop() -> None:
    """Nothing."""


@lift.task
def exclusive_noop() -> None:
    """Nothing, in a host of its own."""
