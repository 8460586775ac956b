"""What a look at a store or a machine found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """`warn` works, and should be looked at; `fail` does not work, or will not for long."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: which check, how it is, what was found, and for all but `ok` what to do about it."""

    check: str
    level: Level
    what: str
    fix: str = ""


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, what)


def warn(check: str, what: str, fix: str) -> Finding:
    """Something to look at."""
    return Finding(check, Level.WARN, what, fix)


def fail(check: str, what: str, fix: str) -> Finding:
    """Something to repair."""
    return Finding(check, Level.FAIL, what, fix)
