"""Imported by the worker's processes in a test: hosts look for orders to kill themselves, and carry them out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from heavylift.context import Context
from heavylift.core.errors import ConfigError
from heavylift.executors.host import Host
from heavylift.executors.shared import SharedHost
from heavylift.executors.shared_reporting import SharedReporter
from heavylift.executors.wire import Request

FOLDER = "LIFT_TEST_KILLS"
"""The variable that names the folder of the orders: a JSON file for each."""
MOMENTS = re.compile(r"(?P<kind>start)|(?P<counted>checkpoint|progress):(?P<number>\d{1,9})")


def moment(when: str) -> dict[str, Any]:
    """What `when` says: its kind, and the number; raises ConfigError."""
    found = MOMENTS.fullmatch(when)
    number = int(found["number"] or 0) if found else -1
    kind = (found["kind"] or found["counted"]) if found else ""
    if found is None or (kind == "checkpoint" and number < 1) or (kind == "progress" and number > 100):
        message = f"when: {when!r} is no moment; give 'start', 'checkpoint:3' (from 1) or 'progress:50' (0 to 100)."
        raise ConfigError(message)
    return {"kind": kind, "number": number}


class Orders:
    """The orders in a folder, and how far the attempts of this host are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checkpoints: WeakKeyDictionary[Context, int] = WeakKeyDictionary()

    def started(self, request: Request) -> None:
        """An attempt is about to begin."""
        self._obey(request.job, request.task, "start", 0)

    def saved(self, context: Context) -> None:
        """An attempt has reported one more checkpoint."""
        count = self._checkpoints[context] = self._checkpoints.get(context, 0) + 1
        self._obey(context.job_id, context.task, "checkpoint", count, context)

    def told(self, context: Context, percent: float | None) -> None:
        """An attempt has reported how far it is."""
        if percent is not None:
            self._obey(context.job_id, context.task, "progress", percent, context)

    def _obey(self, job: str, task: str, kind: str, number: float, context: Context | None = None) -> None:
        for path in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(FileNotFoundError):  # another host was faster
                order = json.loads(path.read_text())
                due = number >= order["number"] if kind == "progress" else number == order["number"]
                if order["kind"] == kind and due and (order["job"] == job or order["task"] == task):
                    path.rename(path.with_suffix(".done"))
                    # What an exclusive host reported is sent, or on its page; a shared one sends a little later.
                    reporter = None if context is None else context._reporter  # noqa: SLF001  a test's spy
                    if isinstance(reporter, SharedReporter):
                        reporter.flush()
                    os.kill(os.getpid(), signal.SIGKILL)


def listen(folder: Path) -> None:
    """Have the hosts that this process forks obey the orders in a folder."""
    orders = Orders(folder)
    attempt, begin = Host._attempt, SharedHost._begin  # noqa: SLF001  they are wrapped
    checkpoint, progress = Context.checkpoint, Context.progress

    def _attempt(self: Host, request: Request) -> Any:
        orders.started(request)
        return attempt(self, request)

    def _begin(self: SharedHost, request: Request) -> None:
        orders.started(request)
        begin(self, request)

    def _checkpoint(self: Context, *args: Any, **kwargs: Any) -> None:
        checkpoint(self, *args, **kwargs)
        orders.saved(self)

    def _progress(
        self: Context, done: float | None = None, total: float | None = None, *args: Any, **kwargs: Any
    ) -> None:
        progress(self, done, total, *args, **kwargs)
        orders.told(self, 100 * done / total if done is not None and total else None)

    Host._attempt = _attempt  # type: ignore[method-assign]  # noqa: SLF001
    SharedHost._begin = _begin  # type: ignore[method-assign]  # noqa: SLF001
    Context.checkpoint = _checkpoint  # type: ignore[method-assign]
    Context.progress = _progress  # type: ignore[method-assign]


if FOLDER in os.environ:
    listen(Path(os.environ[FOLDER]))
