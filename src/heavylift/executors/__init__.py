"""Implementations of the Executor contract: a pool of warm processes, and their nanny; and one in this process."""

from __future__ import annotations

import importlib
from typing import Any

# Nanny and hosts import this package too, and must not pay for the worker's side of it.
_HOMES = {
    "Inline": "heavylift.executors.inline",
    "Nanny": "heavylift.executors.link",
    "Pool": "heavylift.executors.pool",
    "Pools": "heavylift.executors.pools",
}


def __getattr__(name: str) -> Any:
    """`Inline`, `Nanny`, `Pool` and `Pools`, imported when they are asked for."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(_HOMES[name]), name)
