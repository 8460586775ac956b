"""What a benchmark says: lines with both figures, their ratio and the target; and the table of all of them."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Target:
    """What a line should reach: at most, or at least, so much; of the value itself or of its ratio."""

    limit: float
    kind: Literal["at most", "at least"]
    of: Literal["value", "ratio"]

    def met(self, value: float) -> bool:
        """Whether this is good enough."""
        return value <= self.limit if self.kind == "at most" else value >= self.limit


@dataclass(frozen=True, slots=True)
class Line:
    """One result: a value beside its reference of the same run (a floor, or the same without the burden).

    `target` None: for information. `note` says what else there is to know.
    """

    benchmark: str
    what: str
    value: float
    unit: str
    reference: float | None = None
    against: str = ""
    target: Target | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The value over its reference."""
        return self.value / self.reference if self.reference else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        judged = self.value if self.target.of == "value" else self.ratio
        return judged is not None and self.target.met(judged)

    def data(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self) | {"ratio": self.ratio, "met": self.met}

    def cells(self) -> tuple[str, ...]:
        """benchmark, what, value, reference, ratio, target, verdict: as text."""
        reference = "" if self.reference is None else f"{figure(self.reference)} {self.unit} ({self.against})"
        return (
            self.benchmark,
            self.what,
            f"{figure(self.value)} {self.unit}",
            reference,
            "" if self.ratio is None else f"{figure(self.ratio)} x",
            self._target_text(),
            {True: "met", False: "MISSED", None: ""}[self.met],
        )

    def _target_text(self) -> str:
        if self.target is None:
            return ""
        sign = "≤" if self.target.kind == "at most" else "≥"
        return f"{sign} {figure(self.target.limit)} {self.unit if self.target.of == 'value' else 'x'}"


HEADINGS = ("benchmark", "what", "value", "reference", "ratio", "target", "")


def at_most(limit: float, of: Literal["value", "ratio"] = "ratio") -> Target:
    """A target: not more than this."""
    return Target(limit, "at most", of)


def at_least(limit: float, of: Literal["value", "ratio"] = "ratio") -> Target:
    """A target: not less than this."""
    return Target(limit, "at least", of)


def table(lines: Sequence[Line]) -> str:
    """All lines as a table, as Markdown has them."""
    rows = [HEADINGS, *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows
    )


def say(text: str) -> None:
    """Something to read while it runs; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def figure(value: float) -> str:
    """Three significant digits, or the whole number."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
