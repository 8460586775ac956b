"""Imported by the worker's processes in a test: hosts look for orders to kill themselves, and carry them out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

from heavylift.core.errors import ConfigError
from heavylift.executors.host import Host
from heavylift.executors.reporting import HostReporter
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


class Attempt:
    """The attempt that runs in this host."""

    def __init__(self, folder: Path, request: Request) -> None:
        self._folder, self._request = folder, request
        self._checkpoints = 0

    def started(self) -> None:
        """Its code is about to be called."""
        self._obey("start", 0)

    def saved(self) -> None:
        """One more checkpoint was sent; what a host sent arrives, whatever becomes of the host."""
        self._checkpoints += 1
        self._obey("checkpoint", self._checkpoints)

    def got(self, percent: float | None) -> None:
        """It told how far it is."""
        if percent is not None:
            self._obey("progress", percent)

    def _obey(self, kind: str, number: float) -> None:
        for path in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(FileNotFoundError):  # another host was faster
                order = json.loads(path.read_text())
                due = number >= order["number"] if kind == "progress" else number == order["number"]
                mine = order["job"] == self._request.job or order["task"] == self._request.task
                if order["kind"] == kind and due and mine:
                    path.rename(path.with_suffix(".done"))
                    os.kill(os.getpid(), signal.SIGKILL)


def listen(folder: Path) -> None:
    """Have the hosts that this process forks obey the orders in a folder."""
    attempt, checkpoint, progress = Host._attempt, HostReporter.checkpoint, HostReporter.progress  # noqa: SLF001  wrapped
    running: list[Attempt] = []

    def _attempt(self: Host, request: Request) -> Any:
        running[:] = [Attempt(folder, request)]
        running[0].started()
        return attempt(self, request)

    def _checkpoint(self: HostReporter, value: bytes) -> None:
        checkpoint(self, value)
        running[0].saved()

    def _progress(self: HostReporter, value: dict[str, Any]) -> None:
        progress(self, value)
        running[0].got(value["percent"])

    Host._attempt = _attempt  # type: ignore[method-assign]  # noqa: SLF001
    HostReporter.checkpoint = _checkpoint  # type: ignore[method-assign]
    HostReporter.progress = _progress  # type: ignore[method-assign]


if FOLDER in os.environ:
    listen(Path(os.environ[FOLDER]))
