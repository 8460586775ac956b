"""For tests: of applications (`run_task`, and the fixtures of `heavylift.testing.plugin`), and of stores and executors.

Only what is asked for is loaded; the two suites and the fixtures need pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heavylift.testing.clock import FakeClock
    from heavylift.testing.environment import Environment, open_environment
    from heavylift.testing.executors import ExecutorContract
    from heavylift.testing.processes import ProcessEnvironment, open_process_environment
    from heavylift.testing.stores import StoreContract
    from heavylift.testing.task_run import TaskRun, run_task, run_task_async

__all__ = [
    "Environment",
    "ExecutorContract",
    "FakeClock",
    "ProcessEnvironment",
    "StoreContract",
    "TaskRun",
    "open_environment",
    "open_process_environment",
    "run_task",
    "run_task_async",
]

_HOMES = {
    "clock": ("FakeClock",),
    "environment": ("Environment", "open_environment"),
    "executors": ("ExecutorContract",),
    "processes": ("ProcessEnvironment", "open_process_environment"),
    "stores": ("StoreContract",),
    "task_run": ("TaskRun", "run_task", "run_task_async"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"heavylift.testing.{home}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
