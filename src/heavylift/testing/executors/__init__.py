"""ExecutorContract: what passes this suite is an executor. It needs pytest and pytest-asyncio (in auto mode).

A subclass gives the executor; everything else is here and in the classes that it inherits from.
"""

from __future__ import annotations

from heavylift.testing.executors.cases import ExecutorSuite
from heavylift.testing.executors.ends import EndsCases
from heavylift.testing.executors.harm import HarmCases
from heavylift.testing.executors.keeping import KeepingCases
from heavylift.testing.executors.limits import LimitCases
from heavylift.testing.executors.looks import LookCases
from heavylift.testing.executors.providing import ProvidingCases
from heavylift.testing.executors.shared import LoopCases, ThreadCases
from heavylift.testing.executors.stops import StopCases
from heavylift.testing.executors.turns import TurnCases


class ExecutorContract(EndsCases, StopCases, HarmCases, LimitCases, ProvidingCases, LookCases, KeepingCases, TurnCases):
    """Subclass it as `TestMine` and define `make`: an executor, not started, that runs the application of
    `heavylift.testing.executor_tasks` under the given settings.
    """


class ThreadExecutorContract(EndsCases, ThreadCases, ProvidingCases, LookCases, KeepingCases, TurnCases):
    """As ExecutorContract, for attempts in threads: `make` runs `heavylift.testing.executor_coroutines:threads`."""

    place = "thread"


class LoopExecutorContract(EndsCases, LoopCases, ProvidingCases, LookCases, KeepingCases, TurnCases):
    """As ExecutorContract, for coroutines: `make` runs `heavylift.testing.executor_coroutines:application`."""

    place = "loop"


__all__ = ["ExecutorContract", "ExecutorSuite", "LoopExecutorContract", "ThreadExecutorContract"]
