"""Poison: the ways in which a job harms whoever runs it, each given by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heavylift.testing.executor_tasks import allocate, die
from heavylift.testing.limit_tasks import bomb, exhaust

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = {"memory": "128MiB", "processes": 20, "open_files": 100, "grace": 0.5}
"""The options under which it is harmless."""
CODES = {
    "exit": "crashed",
    "kill": "crashed",
    "segfault": "crashed",
    "abort": "crashed",
    "stack": "crashed",
    "memory": "memory-limit",
    "forks": "process-limit",
    "descriptors": "open-files-limit",
}
"""Of each kind the code of the error with which it ends, under LIMITS."""


def take(kind: str, survived: str) -> None:
    """Be poisoned. Forks that nobody kills say so, after ten seconds, in the file at `survived`."""
    kinds: dict[str, Callable[[], Any]] = {
        "memory": lambda: allocate(size=200 << 20),
        "forks": lambda: bomb(path=survived, how="group", rounds=8),
        "stack": lambda: exhaust(what="stack"),
        "descriptors": lambda: exhaust(what="descriptors"),
    }
    if kind in kinds:
        kinds[kind]()
    else:
        die(kind)
