"""The work of the floors: what their processes are asked to do."""

from __future__ import annotations

import time
from typing import Any


def noop(value: Any = None) -> Any:
    """Nothing."""
    return value


def burn(milliseconds: float) -> None:
    """Take so much CPU time of this thread; waiting for a core does not count."""
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        pass
