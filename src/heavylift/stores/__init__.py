"""The stores. `open_store` makes the one that a URL names."""

from __future__ import annotations

from urllib.parse import urlsplit

from heavylift.core.errors import ConfigError, did_you_mean
from heavylift.store import Clock, Store

SCHEMES = ("sqlite", "memory")


def open_store(url: str, clock: Clock | None = None, *, inline: bool = False) -> Store:
    """The store that a URL names; it connects when it is opened.

    `clock` is the machine's by default. `inline` is for a process that serves nothing but jobs: all writes are made on
    the calling thread, which saves two wake-ups each, and hold up its event loop for up to some milliseconds.
    Raises ConfigError for a URL of no store, or with an option that its store does not have.
    """
    absolute = resolved(url)
    from heavylift.stores.sqlite.store import SqliteStore  # noqa: PLC0415  a process pays only for the store it opens

    return SqliteStore(absolute, clock, inline=inline)


def resolved(url: str) -> str:
    """The URL of a store as it is understood anywhere: with an absolute path. Raises ConfigError as `open_store`."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme in SCHEMES:
        from heavylift.stores.sqlite.url import parse  # noqa: PLC0415  as in open_store

        return parse(url).url(scheme)
    known = [f"{name}://" for name in SCHEMES]
    hint = did_you_mean(f"{urlsplit(url).scheme or scheme}://", known)
    message = (
        f"There is no store for {_without_password(url)!r}.{hint} Give sqlite:///jobs.db (a file here),"
        " sqlite:////var/jobs.db, or memory://."
    )
    raise ConfigError(message)


def _without_password(url: str) -> str:
    before, at, rest = url.partition("://")[2].rpartition("@")
    user, colon, _ = before.partition(":")
    return url if not colon else f"{url.partition('://')[0]}://{user}:***{at}{rest}"
