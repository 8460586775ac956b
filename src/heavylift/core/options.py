"""How a job is to be run: one frozen object that travels whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Protocol, TypedDict, runtime_checkable

from heavylift.core.errors import ConfigError, did_you_mean, shown
from heavylift.core.limits import MAX_KEY, MAX_LIMITS, Concurrency, Limit, Rate, is_text
from heavylift.core.retention import Retention
from heavylift.core.retry import Backoff, Exponential, Fixed, Retry
from heavylift.core.units import Duration, Size, seconds, size

MAX_LABELS = 32
MAX_LABEL = 256
LAST_MOMENT = 253402300799.0
"""The last second of the year 9999: what is later cannot be shown as a date."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
MOST_PROCESSES = 2**22
"""What Linux can have."""
FEWEST_FILES, MOST_FILES = 16, 2**20
RESERVED = "heavylift."
"""A queue whose name begins so is served by workers that name it, and by no others."""


RunIn = Literal["process", "loop", "thread"]
"""Where task code runs: alone in a process; in a process with others, as a coroutine of its loop or in a thread."""
PLACES: tuple[RunIn, ...] = ("process", "loop", "thread")


LIMITS = ("memory", "cpu_time", "processes", "address_space", "open_files", "nice")
"""The options that limit a process, and so hold nowhere but in one that a job has for itself."""


class Slots(NamedTuple):
    """How many attempts there is room for, by where they run; the names are those of RunIn."""

    process: int = 0
    loop: int = 0
    thread: int = 0


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The job that is submitted when another one has failed: of this task, with these options, and the argument
    `job_id`: the id of the one that failed.
    """

    task: str
    options: Options


@runtime_checkable
class Following(Protocol):
    """A task of which such a job can be, or that says why not."""

    def follow_up(self) -> FollowUp:
        """Raises ConfigError when it does not take what a FollowUp gives it."""


_RETRY = Retry()
"""One for all that give none: options are read from the store by the thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a task or of one job. Durations in seconds, sizes in bytes, times in Unix seconds.

    `run_at` wins over `delay`. `timeout` is per attempt; `grace` is what task code gets to clean up in before it is
    killed. `crashes` and `losses` are budgets like `retry.attempts`: starts that end with a dead host, and with a
    dead worker, in a row and without a new checkpoint. Of one attempt, with all that it has started: `memory` bounds
    the resident bytes, `cpu_time` the CPU seconds, `processes` how many there are at a time below its host (None: as
    the worker's settings say). Of each of its processes: `address_space` bounds the bytes that are mapped,
    `open_files` the descriptors. `nice` is added to the niceness of hosts. `run_in` "thread" is for code that waits
    (for a network, say); coroutines run in a "loop". `fresh`: each attempt gets a new host, and nobody gets it after
    that.

    `unique`, the keys of `limits` and `fair_share` are texts in which "{name}" stands for an argument, until a job is
    submitted. Of jobs with one unique key there is one at a time, from its submit to its start or its end
    (`unique_until` "start", "end") and for `unique_for` seconds from the submit at least. `on_conflict` says what
    becomes of another one: "return" gives the one that is there, "reject" raises DuplicateJob, "replace" cancels what
    waits or runs and takes its place, "queue-one" lets one wait beside the one that runs and then gives that. With
    `debounce` a job waits so many seconds after the last submit of its key, and takes the place of the one that waited.
    Jobs of one lane take turns with those of other values of `fair_share`. A job that was not started `expires`
    seconds after its submit has failed. `on_exhausted` is submitted when the job has failed for good. `keep`: how long
    it is kept when it is over, in place of the queue's or the settings' retention.
    """

    queue: str = "default"
    priority: int = 0
    delay: float = 0.0
    run_at: float | None = None
    timeout: float | None = None
    grace: float = 5.0
    retry: Retry = _RETRY
    crashes: int = 3
    losses: int = 60
    unique: str | None = None
    on_conflict: str = "return"
    unique_until: str = "end"
    unique_for: float | None = None
    debounce: float | None = None
    limits: tuple[Limit, ...] = ()
    fair_share: str | None = None
    expires: float | None = None
    on_exhausted: FollowUp | None = None
    keep: Retention | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    memory: int | None = None
    cpu_time: float | None = None
    processes: int | None = None
    address_space: int | None = None
    open_files: int | None = None
    nice: int = 0
    run_in: RunIn = "process"
    fresh: bool = False

    def using(self, **changes: Any) -> Options:
        """A copy with `changes` as people write them ("10m", timedelta, "1GiB", a datetime).

        Raises ConfigError that names the option, with "did you mean" for one that does not exist, and for options that
        make no sense together.
        """
        clean = cleaned(changes)
        if "max_attempts" in clean:
            # The short form of retry=Retry(n), as URLs and command lines can give it; it keeps the rest of the retry.
            clean["retry"] = replace(clean.get("retry", self.retry), attempts=clean.pop("max_attempts"))
        changed = replace(self, **clean)
        _check_together(changed)
        return changed


def cleaned(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options as people write them, each checked by itself. Raises ConfigError that names it."""
    clean: dict[str, Any] = {}
    for name, value in values.items():
        check = _CHECKS.get(name)
        if check is None:
            known = ", ".join(sorted(_CHECKS))
            message = f"There is no option {shown(name)}.{did_you_mean(name, _CHECKS)} (options: {known})"
            raise ConfigError(message)
        clean[name] = check(value, name)
    return clean


class OptionValues(TypedDict, total=False):
    """The options as people write them: what `using` and `@task` take."""

    queue: str
    priority: int
    delay: Duration
    run_at: datetime | str | float | None
    timeout: Duration | None
    grace: Duration
    retry: Retry | int
    crashes: int
    losses: int
    unique: str | None
    on_conflict: Literal["return", "reject", "replace", "queue-one"]
    unique_until: Literal["start", "end"]
    unique_for: Duration | None
    debounce: Duration | None
    limits: Sequence[Limit]
    fair_share: str | None
    expires: Duration | None
    on_exhausted: Following | FollowUp | None
    keep: Retention | None
    labels: Mapping[str, str]
    memory: Size | None
    cpu_time: Duration | None
    processes: int | None
    address_space: Size | None
    open_files: int | None
    nice: int
    run_in: RunIn
    fresh: bool
    max_attempts: int


def _check_together(options: Options) -> None:
    """Raise ConfigError for options that make no sense together."""
    if options.unique is None:
        needing = (
            *(("on_conflict", options.on_conflict != "return"), ("unique_until", options.unique_until != "end")),
            *(("unique_for", options.unique_for is not None), ("debounce", options.debounce is not None)),
        )
        for name, given in needing:
            if given:
                message = f"{name}: {getattr(options, name)!r} says nothing without a unique key; give unique='…', too."
                raise ConfigError(message)
    if options.debounce is not None and options.run_at is not None:
        message = "debounce: the last submit of its key says when a job runs, so it has no run_at; give one of the two."
        raise ConfigError(message)
    if options.debounce is not None and options.on_conflict == "reject":
        message = (
            "debounce: a job takes the place of the one that waits, so on_conflict='reject' cannot hold; give one of"
            " the two."
        )
        raise ConfigError(message)
    waits = 0.0 if options.run_at is not None else max(options.delay, options.debounce or 0.0)
    if options.expires is not None and options.expires <= waits:
        message = (
            f"expires: {options.expires:g} s after its submit it has to have started, and it waits {waits:g} s first;"
            " give a longer time than delay and debounce have."
        )
        raise ConfigError(message)


def serves(queues: Collection[str], queue: str) -> bool:
    """Whether a worker that was given these queues (none: all that are not reserved) serves that queue."""
    return queue in queues if queues else not queue.startswith(RESERVED)


def to_data(options: Options) -> dict[str, Any]:
    """The options that differ from the defaults, as JSON values.

    Exception classes and functions stay behind: they are the task's own and are asked where it runs, in the host.
    """
    given = zip(_DEFAULTS.items(), _VALUES(options), strict=True)
    data = {name: value for (name, default), value in given if value is not default and value != default}
    if "retry" in data:
        data["retry"] = [options.retry.attempts, _backoff_data(options.retry.backoff)]
    if "labels" in data:
        data["labels"] = dict(options.labels)
    if "limits" in data:
        data["limits"] = [_limit_data(limit) for limit in options.limits]
    if options.on_exhausted is not None:
        data["on_exhausted"] = [options.on_exhausted.task, to_data(options.on_exhausted.options)]
    if options.keep is not None:
        data["keep"] = [options.keep.age, options.keep.succeeded, options.keep.failed]
    return data


def from_data(data: Mapping[str, Any]) -> Options:
    """The inverse of `to_data`."""
    values = dict(data)
    if "retry" in values:
        attempts, backoff = values["retry"]
        values["retry"] = Retry(attempts, Fixed(*backoff) if len(backoff) == 1 else Exponential(*backoff))
    if "limits" in values:
        values["limits"] = tuple(
            Concurrency(*item) if type(item[0]) is int else Rate(*item) for item in values["limits"]
        )
    if "on_exhausted" in values:
        task, its = values["on_exhausted"]
        values["on_exhausted"] = FollowUp(task, from_data(its))
    if "keep" in values:
        values["keep"] = Retention(*values["keep"])
    return Options(**values)


def _limit_of(limit: int | str, key: str) -> Limit:
    return Rate(limit, key) if isinstance(limit, str) else Concurrency(limit, key)


def _limit_data(limit: Limit) -> list[Any]:
    return [limit.most if isinstance(limit, Concurrency) else limit.rate, limit.key]


def _backoff_data(backoff: Backoff) -> list[Any]:
    if isinstance(backoff, Fixed):
        return [backoff.seconds]
    return [backoff.base, backoff.factor, backoff.maximum, backoff.jitter]


def _name(value: Any, name: str) -> str:
    if isinstance(value, str) and NAME.fullmatch(value):
        return value
    message = (
        f"{name}: {shown(value)} is no name; give 1-128 letters, digits, '.', '_', ':' or '-',"
        " the first a letter or a digit."
    )
    raise ConfigError(message)


def _key(value: Any, name: str) -> str | None:
    if value is None or (is_text(value, MAX_KEY) and value):
        return str(value) if value is not None else None
    message = f"{name}: {shown(value)} is no key; give 1-{MAX_KEY} characters of text."
    raise ConfigError(message)


def _integer(low: int, high: int) -> Callable[[Any, str], int]:
    def check(value: Any, name: str) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,9}\s*", value) else value
        if isinstance(number, int) and not isinstance(number, bool) and low <= number <= high:
            return number
        message = f"{name}: {shown(value)} is out of range; give an integer from {low} to {high}."
        raise ConfigError(message)

    return check


def _optional(check: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    return lambda value, name: None if value is None else check(value, name)


def _limit(value: Any, name: str) -> float | None:
    if value is not None and (value := seconds(value, name)) == 0:
        message = f"{name}: 0 would leave no time at all; give a longer duration, or none at all for no limit."
        raise ConfigError(message)
    return value if value is None else float(value)


def _moment(value: Any, name: str) -> float:
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            message = f"{name}: {moment} has no time zone; add one, such as '+00:00'."
            raise ConfigError(message)
        moment = moment.timestamp()
    if isinstance(moment, int | float) and not isinstance(moment, bool) and 0 <= moment <= LAST_MOMENT:
        return float(moment)
    message = (
        f"{name}: {shown(value)} is no time; give RFC 3339, such as '2026-01-31T09:00:00Z', a datetime with a"
        " time zone, or Unix seconds. (To wait for a while, give delay.)"
    )
    raise ConfigError(message)


def _retry(value: Any, name: str) -> Retry:
    if isinstance(value, Retry):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Retry(value)
    message = f"{name}: {shown(value)} is no Retry; give Retry(attempts, delay) or a number of starts."
    raise ConfigError(message)


def _one_of(**meanings: str) -> Callable[[Any, str], str]:
    def check(value: Any, name: str) -> str:
        for choice in meanings:
            if value == (word := choice.replace("_", "-")):
                return word
        known = [f"{choice.replace('_', '-')!r} ({meaning})" for choice, meaning in meanings.items()]
        message = f"{name}: {shown(value)} is unknown; give {', '.join(known[:-1])} or {known[-1]}."
        raise ConfigError(message)

    return check


def _limits(value: Any, name: str) -> tuple[Limit, ...]:
    if isinstance(value, list | tuple) and len(value) <= MAX_LIMITS:
        limits = tuple(limit for limit in value if isinstance(limit, Concurrency | Rate))
        if len(limits) == len(value):
            return limits
    message = (
        f"{name}: {shown(value)} are no limits; give a list of at most {MAX_LIMITS},"
        " such as [Concurrency(2, key='{account_id}'), Rate('100/min', key='crm')]."
    )
    raise ConfigError(message)


def _kept(value: Any, name: str) -> Retention:
    if isinstance(value, Retention):
        return value
    message = f"{name}: {shown(value)} is no Retention; give one, such as Retention(succeeded=10, failed=5)."
    raise ConfigError(message)


def _follow_up(value: Any, name: str) -> FollowUp:
    if isinstance(value, FollowUp):
        return value
    if isinstance(value, Following):
        return value.follow_up()
    message = f"{name}: {shown(value)} is no task; give one that takes `job_id`, the id of the job that has failed."
    raise ConfigError(message)


def _labels(value: Any, name: str) -> dict[str, str]:
    if isinstance(value, Mapping) and len(value) <= MAX_LABELS:
        # A number is as good as its digits; None or a boolean is more likely a mistake.
        labels = {
            _name(key, f"{name} key"): str(text) if type(text) is int and abs(text) < 2**63 else text
            for key, text in value.items()
        }
        if all(is_text(text, MAX_LABEL) for text in labels.values()):
            return labels
    message = (
        f"{name}: {shown(value)} are no labels;"
        f" give at most {MAX_LABELS} names with texts of at most {MAX_LABEL} characters."
    )
    raise ConfigError(message)


def _place(value: Any, name: str) -> RunIn:
    for place in PLACES:
        if value == place:
            return place
    message = f"{name}: {shown(value)} is unknown; give 'process' (the default), or 'thread' for code that waits."
    raise ConfigError(message)


def _flag(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return value
    message = f"{name}: {shown(value)} is neither true nor false."
    raise ConfigError(message)


_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "queue": _name,
    "priority": _integer(0, 9),
    "delay": seconds,
    "run_at": _optional(_moment),
    "timeout": _limit,
    "grace": seconds,
    "retry": _retry,
    "crashes": _integer(1, 1000),
    "losses": _integer(1, 1000),
    "unique": _key,
    "on_conflict": _one_of(
        **{"return": "that job"},
        reject="raise DuplicateJob",
        replace="cancel it and take its place",
        queue_one="one may wait beside one that runs",
    ),
    "unique_until": _one_of(start="the key is free when the job starts", end="when it is over"),
    "unique_for": _limit,
    "debounce": _limit,
    "limits": _limits,
    "fair_share": _key,
    "expires": _limit,
    "on_exhausted": _optional(_follow_up),
    "keep": _optional(_kept),
    "labels": _labels,
    "memory": _optional(size),
    "cpu_time": _limit,
    "processes": _optional(_integer(1, MOST_PROCESSES)),
    "address_space": _optional(size),
    "open_files": _optional(_integer(FEWEST_FILES, MOST_FILES)),
    "nice": _integer(0, 19),
    "run_in": _place,
    "fresh": _flag,
    "max_attempts": _integer(1, 1000),
}
_VALUES = attrgetter(*(item.name for item in fields(Options)))
_DEFAULTS = dict(zip((item.name for item in fields(Options)), _VALUES(Options()), strict=True))
