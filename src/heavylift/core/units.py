"""Durations and sizes as people write them, as numbers."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from heavylift.core.errors import ConfigError

Duration = float | int | str | timedelta
Size = int | str

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)")
_WHOLE = re.compile(rf"(?:{_PART.pattern}\s*)+")


def seconds(value: Duration, name: str = "duration") -> float:
    """A duration in seconds, ≥ 0, from a number, "10m", "1h30m" or a timedelta.

    Raises ConfigError, naming `name`, for anything else.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool):
        raise _refused(name, value)
    if isinstance(value, int | float):
        if not math.isfinite(value) or value < 0:
            raise _refused(name, value)
        return float(value)
    if not isinstance(value, str):
        raise _refused(name, value)
    text = value.strip()
    try:
        return seconds(float(text), name)
    except ValueError:
        pass  # not a bare number: a number with a unit, then
    if not _WHOLE.fullmatch(text):
        raise _refused(name, value)
    total = 0.0
    for number, unit in _PART.findall(text):
        if unit not in _SECONDS:
            raise _refused(name, value)
        total += float(number) * _SECONDS[unit]
    return total


def size(value: Size, name: str = "size") -> int:
    """A size in bytes, > 0, from an integer or "512MiB"; raises ConfigError, naming `name`."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str) and (match := _PART.fullmatch(value.strip())):
        number, unit = match.groups()
        if unit in _BYTES:
            return int(float(number) * _BYTES[unit])
    message = f"{name}: {value!r} is no size; give bytes as an integer, or text such as '512MiB'."
    raise ConfigError(message)


def _refused(name: str, value: object) -> ConfigError:
    return ConfigError(
        f"{name}: {value!r} is no duration; give seconds as a number ≥ 0, or text such as '90s', '10m', '1h30m'."
    )
