"""`serve` and `worker`: the commands that stay."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, NoReturn

from heavylift.cli import find
from heavylift.core.errors import ConfigError
from heavylift.core.options import NAME

if TYPE_CHECKING:
    from heavylift.app import Heavylift
    from heavylift.http.service import Role

Setting = str | None


def serve(name: str, **settings: Setting) -> int:
    """Serve the API, or be the worker, as the role says, until told to stop; the exit code."""
    lift = _configured(name, settings)
    chosen = lift.settings
    if chosen.role == "worker":
        _become_worker(lift, [])
    _log_to_stderr()
    from heavylift.http.server import serve as run

    own = chosen.role == "monolith"
    role: Role = "monolith" if own else "api"
    return run(lift, chosen.host, chosen.port, role, lambda address: _announce(lift, address, own=own))


def worker(name: str, queues: str | None, **settings: Setting) -> NoReturn:
    """Become the worker. Its process imports neither this command nor the application."""
    lift = _configured(name, settings)
    names = [part.strip() for part in (queues or "").split(",") if part.strip()]
    for part in names:
        if not NAME.fullmatch(part):
            message = f"--queues: {part!r} cannot name a queue; give names with commas between: reports,mail"
            raise ConfigError(message)
    _become_worker(lift, names)


def _become_worker(lift: Heavylift, names: list[str]) -> NoReturn:
    config = {"application": asdict(lift.origin()), "settings": lift.worker_settings(), "queues": names}
    sys.stdout.flush()
    # A new program in this very process: signals and the exit code need no passing on.
    os.execv(sys.executable, [sys.executable, "-m", "heavylift.process", json.dumps(config)])  # noqa: S606  no shell


def _configured(name: str, settings: dict[str, Setting]) -> Heavylift:
    lift = find.application(name)
    given = {key: value for key, value in settings.items() if value is not None}
    if given:
        lift.override(**given)
    return lift


def _announce(lift: Heavylift, address: str, *, own: bool) -> None:
    hosts = lift.settings.concurrency or len(os.sched_getaffinity(0))
    where = f"started, up to {hosts} jobs at a time" if own else "elsewhere (heavylift worker APP)"
    tasks = ", ".join(sorted(lift.registry)) or "none: decorate functions with @lift.task"
    lines = [
        f"Heavylift serves {address}",
        f"  store   {lift.store_url}",
        f"  worker  {where}",
        f"  tasks   {tasks}",
        f"  submit  curl -X POST {address}/v1/tasks/TASK/jobs --json '{{…}}'",
        f"  stop    Ctrl-C (running jobs get {lift.settings.drain:g} s, then go back to their queue)",
    ]
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def _log_to_stderr() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
