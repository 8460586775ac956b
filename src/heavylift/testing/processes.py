"""An application in a test with a real worker: its jobs run in processes of their own, and can be killed exactly."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavylift.client import Handle
from heavylift.core.errors import ConfigError
from heavylift.core.job import Job
from heavylift.core.units import Duration, seconds
from heavylift.store import SystemClock
from heavylift.testing import kills
from heavylift.testing.environment import observed
from heavylift.testing.jobs import Observer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from heavylift.app import Heavylift
    from heavylift.executor import Application
    from heavylift.testing.jobs import AnyTask
    from heavylift.testing.portal import Portal


class ProcessEnvironment(Observer):
    """What a test does with its application's jobs, which a worker runs; made by `open_process_environment`, or the
    fixture `lift_env_real`.

    The worker's processes import the application anew: what a test patches in its own is not patched there.
    """

    def __init__(self, lift: Heavylift, eye: Heavylift, portal: Portal, orders: Path) -> None:
        super().__init__(lift, eye, portal)
        self._orders = orders

    def wait(self, wanted: AnyTask | Handle[Any] | Job, timeout: Duration = 30, **arguments: Any) -> Job:
        """The record of a job (see `job`) when it is over; raises JobNotFinished after `timeout`."""
        limit = seconds(timeout, "timeout")
        return self._portal.run(self._eye.client.finished(self.job(wanted, **arguments).id, limit))

    def kill_host(self, target: AnyTask | Handle[Any] | Job, when: str = "start") -> None:
        """Have the host of a job kill itself with SIGKILL, once, at a certain moment of an attempt: "start" is before
        any of the task's code, "checkpoint:3" when its third checkpoint was saved, "progress:50" when it has told that
        50 percent or more are done.

        `target` is a task, for the next of its jobs that gets there: say so before you submit. Or it is one job, which
        may have got further meanwhile, unless its queue is paused or its time has not come.
        If nothing was killed by the end of the test, the test fails. Raises ConfigError for any other `when`.
        """
        job, task = (target.id, None) if isinstance(target, Handle | Job) else (None, target.name)
        order = {"job": job, "task": task, "when": when, **kills.moment(when)}
        unfinished = self._orders / f".{uuid.uuid4()}"
        unfinished.write_text(json.dumps(order))
        unfinished.rename(self._orders / f"{unfinished.name[1:]}.json")

    def check(self) -> None:
        """Raise AssertionError when a host that was to be killed was not."""
        left = [json.loads(path.read_text()) for path in sorted(self._orders.glob("*.json"))]
        names = ", ".join(f"{order['task'] or order['job']} at {order['when']!r}" for order in left)
        assert not left, (
            f"No host was killed that ran {names}: no attempt got there after kill_host was called."
            " Call it with the task, before the job is submitted, and wait until the job is over."
        )


@contextlib.contextmanager
def open_process_environment(lift: Heavylift, folder: Path) -> Iterator[ProcessEnvironment]:
    """The application on a new SQLite file in `folder`, with a worker, until the block ends; both real.

    Raises ConfigError when its store is open already, and when the worker cannot start.
    """
    orders = folder / "kills"
    orders.mkdir()
    with observed(lift, folder, SystemClock()) as (eye, portal), _told(orders):
        worker = lift.worker(_importable(lift.origin()))
        portal.run(_enter(worker))
        try:
            environment = ProcessEnvironment(lift, eye, portal, orders)
            yield environment
        finally:
            portal.run(_leave(worker))
        environment.check()


async def _enter(worker: contextlib.AbstractAsyncContextManager[None]) -> None:
    await worker.__aenter__()


async def _leave(worker: contextlib.AbstractAsyncContextManager[None]) -> None:
    await worker.__aexit__(None, None, None)


@contextlib.contextmanager
def _told(orders: Path) -> Iterator[None]:
    """Tell the hosts where their orders are, by way of the environment."""
    os.environ[kills.FOLDER] = str(orders)
    try:
        yield
    finally:
        del os.environ[kills.FOLDER]


def _importable(origin: Application) -> Application:
    """Where the worker's processes find the application: they have neither this one's import path, nor modules that
    pytest imported by their path.
    """
    target = origin.target
    module = sys.modules.get(target)
    if not target.endswith(".py") and module is not None and not _findable(target):
        if module.__file__ is None:
            message = f"The application was made in {target!r}, which no other process can import; put it into a file."
            raise ConfigError(message)
        target = module.__file__
    path = (*origin.path, *(entry for entry in sys.path if entry))
    return dataclasses.replace(origin, target=target, imports=(*origin.imports, kills.__name__), path=path)


def _findable(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    if spec is None or spec.origin is None:
        return False
    # pytest's importlib mode puts modules into sys.modules under names that nobody else can import.
    top = name.partition(".")[0]
    return any((Path(entry) / top).is_dir() or (Path(entry) / f"{top}.py").is_file() for entry in sys.path)
