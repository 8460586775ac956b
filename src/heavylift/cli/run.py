"""`serve` and `worker`: the commands that stay."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from heavylift import logs
from heavylift.cli import find
from heavylift.cli.exits import Exit
from heavylift.core.errors import ConfigError, HeavyliftError

if TYPE_CHECKING:
    from heavylift.app import Heavylift
    from heavylift.http.service import Role

Setting = str | None
MAX_SAID = 60000
"""Bytes that a pipe takes at once."""


def serve(name: str, processes: int = 1, **settings: Setting) -> int:
    """Serve the API from so many processes, or be the worker, as the role says, until told to stop; the exit code."""
    lift = _configured(name, settings)
    chosen = lift.settings
    if chosen.role == "worker":
        _become_worker(lift)
    logs.configure(chosen)
    own = chosen.role == "monolith"

    def announce(address: str) -> None:
        _announce(lift, address, own=own)

    if processes == 1:
        from heavylift.http.server import serve as run

        return run(lift, chosen.host, chosen.port, _role(lift), announce)
    if lift.store_url.startswith("memory:"):
        message = (
            "--workers: several processes cannot share memory://; give a store that they share:"
            " --store sqlite:///jobs.db"
        )
        raise ConfigError(message)
    from heavylift.http.supervisor import supervise

    command = [sys.executable, "-m", "heavylift.cli.run"]
    config = {"app": name, "settings": settings}
    return supervise(command, config, host=chosen.host, port=chosen.port, processes=processes, announce=announce)


def child(config: dict[str, Any]) -> int:
    """Be one of several web processes; the exit code. See `http.supervisor` for what `config` holds."""
    import socket

    from heavylift.http.server import serve_on
    from heavylift.http.supervisor import READY

    def ready(said: bytes) -> None:
        os.write(config["ready"], said)
        os.close(config["ready"])

    # What a job starts must not keep the socket and the pipes open.
    for descriptor in (config["listener"], config["ready"], config["alive"]):
        os.set_inheritable(descriptor, False)  # noqa: FBT003  its only argument
    try:
        lift = _configured(config["app"], config["settings"])
        logs.configure(lift.settings)
        listener = socket.socket(fileno=config["listener"])
        return serve_on(lift, listener, _role(lift), lambda _: ready(READY), config["alive"])
    except HeavyliftError as error:
        ready(str(error).encode()[:MAX_SAID])  # the parent says it
        return Exit.USAGE


def _role(lift: Heavylift) -> Role:
    return "monolith" if lift.settings.role == "monolith" else "api"


def worker(name: str, **settings: Setting) -> NoReturn:
    """Become the worker. Its process imports neither this command nor the application."""
    _become_worker(_configured(name, settings))


def _become_worker(lift: Heavylift) -> NoReturn:
    config = {"application": asdict(lift.origin()), "settings": lift.worker_settings()}
    sys.stdout.flush()
    # A new program in this very process: signals and the exit code need no passing on.
    os.execv(sys.executable, [sys.executable, "-m", "heavylift.process", json.dumps(config)])  # noqa: S606  no shell


def _configured(name: str, settings: dict[str, Setting]) -> Heavylift:
    logs.before_import()
    lift = find.application(name)
    given = {key: value for key, value in settings.items() if value is not None}
    if given:
        lift.override(**given)
    return lift


def _announce(lift: Heavylift, address: str, *, own: bool) -> None:
    if logs.is_json(lift.settings):
        facts = {"store": lift.store_url, "tasks": sorted(lift.registry), "role": lift.settings.role}
        logging.getLogger("heavylift").info("Heavylift serves %s", address, extra=facts)
        return
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


if __name__ == "__main__":
    sys.exit(child(json.loads(sys.argv[1])))
