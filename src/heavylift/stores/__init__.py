"""The stores: `open_store` makes the one that a URL names."""

from __future__ import annotations

from heavylift.core.errors import ConfigError, did_you_mean
from heavylift.store import Clock, Store


def open_store(url: str, clock: Clock | None = None, *, inline: bool = False) -> Store:
    """The store that a URL names, not opened yet."""
    raise NotImplementedError
