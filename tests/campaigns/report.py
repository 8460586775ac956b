"""What a campaign found: what went wrong, and figures beside what is promised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """Something measured; `limit` is what is promised, None where nothing is."""

    what: str
    value: float
    unit: str = ""
    limit: float | None = None

    @property
    def met(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def __str__(self) -> str:
        shown = f"{self.value:,.3g}" if isinstance(self.value, float) else f"{self.value:,}"
        promise = (
            "" if self.limit is None else f"  (at most {self.limit:g} {self.unit}: {'met' if self.met else 'MISSED'})"
        )
        return f"{self.what}: {shown} {self.unit}{promise}"


@dataclass(slots=True)
class Report:
    """Of one campaign."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, what: str, value: float, unit: str = "", limit: float | None = None) -> None:
        self.figures.append(Figure(what, value, unit, limit))

    def times(self, what: str, seconds: Sequence[float], limit: float | None = None) -> None:
        """The median and the slowest of some times, in milliseconds; the limit is the slowest one's."""
        if seconds:
            ordered = sorted(seconds)
            self.add(f"{what}, median of {len(ordered)}", ordered[len(ordered) // 2] * 1e3, "ms")
            self.add(f"{what}, p95", ordered[math.ceil(0.95 * len(ordered)) - 1] * 1e3, "ms")
            self.add(f"{what}, slowest", ordered[-1] * 1e3, "ms", None if limit is None else limit * 1e3)

    def __str__(self) -> str:
        lines = [f"{self.name}", *(f"  {figure}" for figure in self.figures)]
        lines += [f"  WRONG: {text}" for text in self.wrong[:50]]
        if len(self.wrong) > 50:
            lines.append(f"  … and {len(self.wrong) - 50} more")
        return "\n".join(lines)
