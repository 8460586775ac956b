"""Durations and sizes as people write them, as numbers; and seconds as people read them."""

from __future__ import annotations

import re
from datetime import timedelta

from heavylift.core.errors import ConfigError, shown

Duration = float | int | str | timedelta
Size = int | str

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_LONGEST = 100 * 366 * 86400.0  # of what is longer, no calendar could show the end
_LARGEST = 2**63 - 1
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)")
_BARE_OR_PART = re.compile(r"(?P<bytes>\d{1,19})|(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-zA-Z]+)")
_SPOKEN = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
_ABOUT = ((36 * 3600, 86400, "d"), (90 * 60, 3600, "h"), (90, 60, "min"), (0, 1, "s"))
"""From so many seconds on, those of a unit, and its name."""
_ALMOST_ONE = 0.9995
"""Seconds that would be written as 1000 ms."""
_WHOLE = re.compile(rf"(?:{_PART.pattern}\s*)+")


def seconds(value: Duration, name: str = "duration") -> float:
    """A duration in seconds, ≥ 0 and at most 100 years, from a number, "10m", "1h30m" or a timedelta.

    Raises ConfigError, naming `name`, for anything else.
    """
    number: float | None = None
    given: object = value
    if isinstance(value, timedelta):
        number = value.total_seconds()
    elif isinstance(value, str):
        number = _spelled(value.strip())
    elif isinstance(given, int | float) and not isinstance(given, bool):
        number = given
    if number is None or not 0 <= number <= _LONGEST:  # NaN is refused here too
        message = (
            f"{name}: {shown(value)} is no duration; give seconds as a number ≥ 0, or text such as '90s', '10m',"
            " '1h30m', of at most 100 years."
        )
        raise ConfigError(message)
    return float(number)


def size(value: Size, name: str = "size") -> int:
    """A size in bytes, > 0, from an integer, "1048576" or "512MiB"; raises ConfigError, naming `name`."""
    number: float | None = None
    given: object = value
    if isinstance(value, str):
        match = _BARE_OR_PART.fullmatch(value.strip())
        if match is not None and match["unit"] in _BYTES:
            number = float(match["number"]) * _BYTES[match["unit"]]
        elif match is not None and match["bytes"]:
            number = int(match["bytes"])
    elif isinstance(given, int) and not isinstance(given, bool):
        number = given
    if number is None or not 1 <= number <= _LARGEST:
        message = f"{name}: {shown(value)} is no size; give bytes as an integer ≥ 1, or text such as '512MiB'."
        raise ConfigError(message)
    return int(number)


def spoken(number: float, *, short: bool = False) -> str:
    """Seconds as people read them: in two units at most, or in one."""
    for unit, name, below, smaller in _SPOKEN:
        if number >= unit:
            rest = int(number % unit // below)
            return f"{int(number // unit)} {name}" + (f" {rest} {smaller}" if rest and not short else "")
    return f"{number:.1f} s" if number >= _ALMOST_ONE else f"{max(number, 0) * 1000:.0f} ms"


def about(number: float) -> str:
    """Seconds that are a guess, such as "~40 s" or "~2 min"."""
    rounded = max(1, round(number))
    unit, name = next((unit, name) for least, unit, name in _ABOUT if rounded >= least)
    return f"~{round(rounded / unit)} {name}"


def _spelled(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass  # not a bare number: a number with a unit, then
    if not _WHOLE.fullmatch(text) or any(unit not in _SECONDS for _, unit in _PART.findall(text)):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
