"""What the tests of tasks ask again and again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from heavylift.context import Context
from heavylift.core.errors import InvalidArguments
from heavylift.core.options import Options
from heavylift.core.task import Task, define

MIB = 2**20


@dataclass
class Point:
    x: int
    y: float = 0.5


def plain(customer: int, year: int = 2026) -> None: ...
def unannotated(a, b=2) -> None: ...


def task_of(function, name=None) -> Task:
    return define(function, name, Options(), Context)


def bind(function, *args, **kwargs) -> Any:
    return json.loads(task_of(function).bind(args, kwargs, MIB))


def travel(function, *args, **kwargs) -> dict[str, Any]:
    """The arguments as the function gets them, after the way through the store."""
    task = task_of(function)
    return task.arguments(task.bind(args, kwargs, MIB))


def problems_of(call, *args, **kwargs) -> dict[str, str]:
    with pytest.raises(InvalidArguments) as caught:
        call(*args, **kwargs)
    return {problem.pointer: problem.detail for problem in caught.value.problems}
