"""The application of the executor's tests: one task for each way in which code can behave."""

import os
import time
from typing import Any

from heavylift.context import Context
from heavylift.core.options import Options
from heavylift.core.task import Task, define


class FakeHeavylift:
    """What executors need of an application."""

    def __init__(self):
        self.registry: dict[str, Task] = {}
        self.store_url = "memory://"
        self.given_settings: dict[str, Any] = {"concurrency": 3}
        self.host_start_hooks = []

    def task(self, function=None, **options):
        def register(function):
            self.registry[function.__name__] = define(function, None, Options().using(**options), Context)
            return function

        return register if function is None else register(function)


lift = FakeHeavylift()


@lift.task
def add(a: int, b: int = 2) -> int:
    return a + b


@lift.task
def noop() -> None:
    pass


@lift.task
def fail():
    raise ValueError("no")


@lift.task
def spin():
    while True:
        pass


@lift.task
def burn(seconds: float):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@lift.task
def die(code: int):
    os._exit(code)
