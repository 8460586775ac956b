"""Hosts that start afresh, for applications whose import leaves threads: a process with threads cannot be forked."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_HOME = Path(__file__).absolute().parents[2]


def command(module: str, *arguments: str) -> list[str]:
    """The command of a fresh interpreter that runs `main(*arguments)` of a module of this package.

    The working directory is not on its import path: nothing there may pose as a module that we import ourselves.
    """
    call = ", ".join(arguments)
    code = f"import sys; sys.path.append({str(_HOME)!r}); from {module} import main; main({call})"
    return [sys.executable, "-P", "-c", code]


def start(given: Mapping[str, Any], config: Mapping[str, Any], descriptors: Sequence[int]) -> int:
    """Start a host in a fresh interpreter; its pid. The caller reaps it."""
    argument = repr(json.dumps({"given": dict(given), "config": dict(config), "descriptors": list(descriptors)}))
    process = subprocess.Popen(  # noqa: S603  the very interpreter that runs this
        command(__name__, argument), pass_fds=descriptors, stdin=subprocess.DEVNULL
    )
    process.returncode = 0  # it is not this object's to wait for
    return process.pid


def main(argument: str) -> NoReturn:
    """Import the application, then be a host."""
    from heavylift.core.logline import json_handler  # noqa: PLC0415  as below
    from heavylift.executors import host, nanny  # noqa: PLC0415  the nanny itself imports this module

    order = json.loads(argument)
    if order["given"]["log_json"]:
        logging.lastResort = json_handler()
    application = nanny.load(order["given"])
    nanny.prepare(application)
    hooks, overrides = application.host_start_hooks, application.dependency_overrides
    host.main(application.registry, hooks, order["descriptors"], order["config"], overrides)
