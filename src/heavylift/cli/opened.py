"""Runs the work of a command on an open store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from heavylift.app import Heavylift

T = TypeVar("T")


def run(lift: Heavylift, work: Callable[[], Awaitable[T]]) -> T:
    """Open the application's store, do the work, and close it again, however that ends."""

    async def opened() -> T:
        async with lift:
            return await work()

    return asyncio.run(opened())
