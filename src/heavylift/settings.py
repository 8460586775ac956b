"""Every setting and its default, in one frozen object; from keyword arguments or HEAVYLIFT_* variables."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from heavylift.core.errors import ConfigError, did_you_mean
from heavylift.core.units import seconds, size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "HEAVYLIFT_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Durations in seconds, sizes in bytes. `store` is the URL that says where jobs live."""

    store: str = "sqlite:///heavylift.db"
    concurrency: int = 0
    """Exclusive hosts at most; 0: as many as the CPUs that this process may use."""
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
            if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in OTHER_VARIABLES
        }
        raw |= {name: (value, name) for name, value in given.items() if value is not None}
        clean = {}
        for name, (value, source) in raw.items():
            if name not in _CHECKS:
                hint = did_you_mean(name, _CHECKS)
                message = f"There is no setting {source!r}.{hint} (settings: {', '.join(_CHECKS)})"
                raise ConfigError(message)
            clean[name] = _CHECKS[name](value, source)
        settings = replace(cls(), **clean)
        if settings.beat * 2 > settings.lease:
            message = f"beat ({settings.beat} s) must be at most half of lease ({settings.lease} s)."
            raise ConfigError(message)
        return settings


OTHER_VARIABLES = frozenset({"app", "worker_lock"})


def _integer(low: int) -> Callable[[Any, str], int]:
    def check(value: Any, name: str) -> int:
        try:
            number = int(str(value).strip())
        except ValueError:
            number = low - 1
        if number < low or isinstance(value, bool):
            message = f"{name}: {value!r} is out of range; give an integer ≥ {low}."
            raise ConfigError(message)
        return number

    return check


def _size(value: Any, name: str) -> int:
    return size(int(value) if isinstance(value, str) and value.strip().isdigit() else value, name)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        message = f"{name}: {value!r} is empty; give text."
        raise ConfigError(message)
    return value.strip()


_BY_TYPE = {"int": _integer(0), "float": seconds, "str": _text}
_CHECKS: dict[str, Callable[[Any, str], Any]] = {f.name: _BY_TYPE[str(f.type)] for f in fields(Settings)} | {
    name: _size for name in ("recycle_memory", "max_payload", "max_result", "max_log")
}
