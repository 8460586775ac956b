"""The application of `poison`: the usual tasks, and one that harms whoever runs it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.application import lift
from heavylift.testing import poison

__all__ = ["lift"]


@lift.task
def poisoned(kind: str) -> None:
    """Be poisoned."""
    poison.take(kind, str(Path(tempfile.gettempdir()) / "heavylift-survived"))
