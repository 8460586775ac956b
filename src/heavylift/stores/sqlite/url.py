"""What a store's URL says: which file, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from heavylift.core.errors import ConfigError, did_you_mean

SYNCHRONOUS = ("normal", "full")


@dataclass(frozen=True, slots=True)
class Location:
    """A file, by its absolute path (empty: a new one in memory). `synchronous` "full" has every answer survive a power
    cut, "normal" the death of any process.
    """

    path: str
    synchronous: str = "normal"

    def url(self, scheme: str) -> str:
        """The URL by which any process finds the same file."""
        options = "" if self.synchronous == "normal" else f"?synchronous={self.synchronous}"
        return f"{scheme}://{'/' if scheme == 'sqlite' else ''}{quote(self.path)}{options}"


def parse(url: str) -> Location:
    """The location that `sqlite:///relative`, `sqlite:////absolute` or `memory://` names; raises ConfigError."""
    scheme, _, rest = url.partition("://")
    text, _, query = rest.partition("?")
    path = unquote(text)
    if scheme == "sqlite":
        if not path.startswith("/") or path in ("/", "//"):
            message = (
                f"{url!r} names no file: give sqlite:///jobs.db (a file here) or sqlite:////var/lib/jobs.db (absolute)."
            )
            raise ConfigError(message)
        # Resolved as SQLite does it: by whatever name they come, all processes take turns in the same folder.
        path = str(Path(path[1:]).resolve())
    elif path and not path.startswith("/"):
        message = f"{url!r} names no folder: give memory:// alone, or the URL of an open store as it is."
        raise ConfigError(message)
    return Location(path, _options(url, query))


def _options(url: str, query: str) -> str:
    synchronous = "normal"
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "synchronous":
            hint = did_you_mean(name, ["synchronous"])
            message = f"{url!r} has no option {name!r}.{hint} (options: synchronous=normal|full)"
            raise ConfigError(message)
        if value.lower() not in SYNCHRONOUS:
            hint = did_you_mean(value.lower(), SYNCHRONOUS)
            message = f"{url!r}: synchronous={value!r} is unknown.{hint} Give normal or full."
            raise ConfigError(message)
        synchronous = value.lower()
    return synchronous
