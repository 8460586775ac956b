"""For tests: a clock to be set, and the suites that a store has to pass.

`StoreContract` needs pytest, and is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heavylift.testing.clock import FakeClock

if TYPE_CHECKING:
    from heavylift.testing.stores import StoreContract

__all__ = ["FakeClock", "StoreContract"]


def __getattr__(name: str) -> Any:
    if name == "StoreContract":
        from heavylift.testing.stores import StoreContract  # noqa: PLC0415  who asks for it has pytest

        return StoreContract
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
