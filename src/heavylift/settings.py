"""Every setting and its default, in one frozen object: the table that docs/settings.md shows."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from heavylift import sources
from heavylift.core.errors import ConfigError, did_you_mean, shown
from heavylift.core.options import NAME
from heavylift.core.units import seconds, size

if TYPE_CHECKING:
    from collections.abc import Callable

ROLES = ("monolith", "api", "worker")
LATER = {
    "frontend": "no dashboard to serve alone",
    "cron": "no schedules",
}
"""Roles that deployments may name, and why this version refuses them."""
SHORTEST = 0.001
"""Seconds between two rounds of a loop, at least: it must not spin."""
LAST_PORT = 65535
MOST_WEIGHT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Durations in seconds, sizes in bytes."""

    store: str = "sqlite:///heavylift.db"
    """The URL that says where jobs live: sqlite:///jobs.db (a file here), sqlite:////var/jobs.db, memory://."""
    role: str = "monolith"
    """What a served application is: monolith (API and a worker), api, or worker."""
    host: str = "127.0.0.1"
    """The address to listen on; loopback only."""
    port: int = 8000
    """The port to listen on; 0 takes a free one."""
    queues: Mapping[str, int] = field(default_factory=dict, hash=False)
    """The queues that a worker serves, with their weights: reports,mail:2 starts two jobs of mail for each of reports
    while both have some. A weight is 1-100, by default 1. None: all queues, each with the same weight.
    """
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
    processes: int = 500
    """Processes that a host may have below it at a time, unless the job in it has a limit of its own."""
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
    """How often a worker looks for workers whose lease ran out, and what else there is to keep tidy; for dead processes
    of its machine at least once a second."""
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

    stalled: float = 300.0
    """A running job that has reported nothing for this long is warned of, once in each attempt; 0: never."""
    log_level: str = "info"
    """The least level of what worker and web process say: debug, info, warning, error."""
    log_format: str = "auto"
    """How they say it: console (for people), json (a JSON object a line), or auto: console on a terminal, else json."""
    log_jobs: bool = True
    """Whether the worker repeats the lines of its jobs' logs among its own."""
    job_log_level: str = "info"
    """The least level of `logging` records that go into the log of their job: debug, info, warning, error, or off."""
    metrics_port: int = 0
    """The port on which the worker answers /metrics for Prometheus; 0: on none."""
    metrics_host: str = "127.0.0.1"
    """The address on which it does so."""

    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """No setting: which source each of them came from, by name; those with their default are not in it."""

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Settings from keyword arguments, else HEAVYLIFT_* variables, else the names that deployments use
        (SERVICE_TYPE, PORT, REDIS_URL …, DATABASE_URL), else [tool.heavylift] of the nearest pyproject.toml, else the
        defaults; values as people write them.

        Raises ConfigError that names the setting and its source, with "did you mean" for one that does not exist.
        """
        environment = os.environ if environment is None else environment
        winners = {}
        for item in (
            *sources.project(),
            *sources.deployment(environment),
            *sources.variables(environment),
            *sources.keywords(given),
        ):
            if item.name not in _CHECKS:
                raise item.unknown(list(_CHECKS))
            winners[item.name] = item
        clean = {name: _CHECKS[name](item.value, item.source) for name, item in winners.items()}
        settings = replace(cls(), **clean, origins={name: item.source for name, item in winners.items()})
        _refuse_late_beats(settings)
        return settings


def _refuse_late_beats(settings: Settings) -> None:
    """Raise ConfigError, with the source of both, when one late beat would cost a worker its lease."""
    if settings.beat * 2 <= settings.lease:
        return
    sources = {name: settings.origins.get(name, "the default") for name in ("beat", "lease")}
    beat, lease = (
        f"{name} ({getattr(settings, name):g} s{'' if source == name else f', {source}'})"
        for name, source in sources.items()
    )
    message = (
        f"{beat} must be at most half of {lease}: one late beat would cost a worker its lease, and what it runs would"
        " be started a second time. Give a shorter beat or a longer lease."
    )
    raise ConfigError(message)


def _integer(low: int, high: int) -> Callable[[Any, str], int]:
    def check(value: Any, name: str) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value) else value
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            message = f"{name}: {shown(value)} is no integer from {low} to {high}."
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


def _role(value: Any, name: str) -> str:
    role = value.strip().lower() if isinstance(value, str) else ""
    if role in ROLES:
        return role
    known = ", ".join(ROLES)
    if role in LATER:
        message = f"{name}: {shown(value)} is not in this version: it has {LATER[role]}; give one of {known}."
    else:
        message = f"{name}: {shown(value)} is no role; give one of {known}.{did_you_mean(role, ROLES)}"
    raise ConfigError(message)


def _choice(*choices: str) -> Callable[[Any, str], str]:
    def check(value: Any, name: str) -> str:
        chosen = value.strip().lower() if isinstance(value, str) else ""
        if chosen not in choices:
            known = ", ".join(choices)
            message = f"{name}: {shown(value)} is not known; give one of {known}.{did_you_mean(chosen, choices)}"
            raise ConfigError(message)
        return chosen

    return check


def _flag(value: Any, name: str) -> bool:
    said = value.strip().lower() if isinstance(value, str) else value
    if said in (True, "true", "yes", "on", "1"):
        return True
    if said in (False, "false", "no", "off", "0"):
        return False
    message = f"{name}: {shown(value)} is neither true nor false; give one of the two."
    raise ConfigError(message)


def _queues(value: Any, name: str) -> dict[str, int]:
    """Names and weights, from a text, a list of such parts, or a table."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    else:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, Sequence) or (isinstance(value, str) and not value.strip()):
            message = f"{name}: {shown(value)} names no queues; give names with commas between, such as reports,mail:2."
            raise ConfigError(message)
        pairs = [_weighted(part) for part in parts]
    weights: dict[str, int] = {}
    for queue, weight in pairs:
        if not isinstance(queue, str) or not NAME.fullmatch(queue):
            message = f"{name}: {shown(queue)} cannot name a queue; give names with commas between: reports,mail:2."
            raise ConfigError(message)
        if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= MOST_WEIGHT:
            message = f"{name}: {shown(weight)} is no weight of {queue!r}; give an integer from 1 to {MOST_WEIGHT}."
            raise ConfigError(message)
        if queue in weights:
            message = f"{name}: {queue!r} is named twice; give it one weight."
            raise ConfigError(message)
        weights[queue] = weight
    return weights


def _weighted(part: Any) -> tuple[Any, Any]:
    """A part such as "mail" or "mail:2"; a name that ends so itself needs its weight behind it."""
    if not isinstance(part, str):
        return part, 1
    found = re.fullmatch(r"(.*):(-?[0-9.]+)", part.strip())
    if found is None:
        return part.strip(), 1
    return found[1], int(found[2]) if re.fullmatch("[0-9]{1,9}", found[2]) else found[2]


LOG_LEVELS = ("debug", "info", "warning", "error")

_BY_TYPE: dict[str, Callable[[Any, str], Any]] = {
    "int": _integer(0, 10**9),
    "float": seconds,
    "str": _text,
    "bool": _flag,
}
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    f.name: _BY_TYPE.get(str(f.type), _queues) for f in fields(Settings) if f.name != "origins"
}
_CHECKS |= dict.fromkeys(("recycle_memory", "max_payload", "max_result", "max_log"), size)
_CHECKS |= dict.fromkeys(("lease", "beat", "sweep", "poll"), _interval)
_CHECKS |= dict.fromkeys(("coroutines", "threads"), _integer(1, 10_000))
_CHECKS["processes"] = _integer(1, 10**6)
_CHECKS["nice"] = _integer(0, 19)
_CHECKS |= dict.fromkeys(("port", "metrics_port"), _integer(0, LAST_PORT))
_CHECKS["log_format"] = _choice("auto", "console", "json")
_CHECKS["log_level"] = _choice(*LOG_LEVELS)
_CHECKS["job_log_level"] = _choice(*LOG_LEVELS, "off")
_CHECKS["role"] = _role
