"""Every setting and its default, in one frozen object; from keyword arguments or HEAVYLIFT_* variables."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from heavylift.core.errors import ConfigError, did_you_mean, shown
from heavylift.core.units import seconds, size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "HEAVYLIFT_"
SHORTEST = 0.001
"""Seconds between two rounds of a loop, at least: it must not spin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Durations in seconds, sizes in bytes. `store` is the URL that says where jobs live."""

    store: str = "sqlite:///heavylift.db"
    concurrency: int = 0
    """Exclusive hosts at most; 0: as many as the CPUs that this process may use."""
    coroutines: int = 100
    """Jobs of `async def` tasks that a worker runs at once, at most."""
    threads: int = 32
    """Jobs of tasks with run_in="thread" that a worker runs at once, at most."""
    idle: float = 30.0
    """A host that had nothing to do for this long goes, down to one."""
    nice: int = 10
    """Added to the hosts' niceness, so that the web process and the worker stay quick."""
    recycle_jobs: int = 0
    """A host is replaced after so many jobs; 0: never for this reason."""
    recycle_memory: int = 2 * 2**30
    """A host is replaced when its resident set is over this after a job."""
    recycle_age: float = 3600.0
    """A host is replaced between jobs when it is older than this."""
    lease: float = 15.0
    """How long a worker that was not heard of keeps its right to what it runs."""
    beat: float = 5.0
    """How often a worker renews its lease."""
    sweep: float = 5.0
    """How often a worker looks for dead workers, and what else there is to keep tidy."""
    poll: float = 1.0
    """How often a worker looks for jobs when no hint came."""
    drain: float = 20.0
    """How long running jobs may go on when the worker is asked to stop."""
    max_payload: int = 2**20
    """The largest arguments of a job."""
    max_result: int = 2**20
    """The largest result of a job, and the largest checkpoint."""
    max_log: int = 2**20
    """The largest log of a job; what comes later is counted and dropped."""
    keep: float = 7 * 86400.0
    """How long finished jobs are kept."""
    keep_succeeded: int = 0
    """How many succeeded jobs of a queue are kept at most; 0: all, for as long as `keep` says."""
    keep_failed: int = 0
    """How many failed and cancelled jobs of a queue are kept at most; 0: all, for as long as `keep` says."""

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Settings from keyword arguments, else the environment, else the defaults; values as people write them.

        Raises ConfigError that names the setting, with "did you mean" for one that does not exist.
        """
        environment = os.environ if environment is None else environment
        raw = {
            name.removeprefix(PREFIX).lower(): (value, name)
            for name, value in environment.items()
            if name.startswith(PREFIX) and not _is_foreign(name.removeprefix(PREFIX).lower(), value)
        }
        raw |= {name: (value, name) for name, value in given.items() if value is not None}
        clean = {}
        for name, (value, source) in raw.items():
            if name not in _CHECKS:
                # Suggested as it was spelled: a variable for a variable.
                known = [f"{PREFIX}{known}".upper() if source != name else known for known in _CHECKS]
                message = f"There is no setting {source!r}.{did_you_mean(source, known)} (settings: {', '.join(known)})"
                raise ConfigError(message)
            clean[name] = _CHECKS[name](value, source)
        settings = replace(cls(), **clean)
        if settings.beat * 2 > settings.lease:
            message = f"beat ({settings.beat} s) must be at most half of lease ({settings.lease} s)."
            raise ConfigError(message)
        return settings


OTHER_VARIABLES = frozenset({"app", "worker_lock"})
SERVICE_VARIABLES = re.compile(r"service_host|service_port(_.*)?|port_\d+_.*")
"""What Kubernetes tells every container about a service that is called "heavylift"."""


def _is_foreign(name: str, value: str) -> bool:
    if name in OTHER_VARIABLES or SERVICE_VARIABLES.fullmatch(name):
        return True
    return name == "port" and "://" in value  # from Kubernetes too


def _integer(high: int) -> Callable[[Any, str], int]:
    def check(value: Any, name: str) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value) else value
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= high:
            message = f"{name}: {shown(value)} is out of range; give an integer from 0 to {high}."
            raise ConfigError(message)
        return number

    return check


def _interval(value: Any, name: str) -> float:
    number = seconds(value, name)
    if number < SHORTEST:
        message = f"{name}: {shown(value)} is too short; give at least {SHORTEST} s."
        raise ConfigError(message)
    return number


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        message = f"{name}: {shown(value)} is empty or no text; give text."
        raise ConfigError(message)
    return value.strip()


_BY_TYPE: dict[str, Callable[[Any, str], Any]] = {"int": _integer(10**9), "float": seconds, "str": _text}
_CHECKS = {f.name: _BY_TYPE[str(f.type)] for f in fields(Settings)}
_CHECKS |= dict.fromkeys(("recycle_memory", "max_payload", "max_result", "max_log"), size)
_CHECKS |= dict.fromkeys(("lease", "beat", "sweep", "poll"), _interval)
_CHECKS["nice"] = _integer(19)
