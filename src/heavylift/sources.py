"""Where settings come from beside keyword arguments: HEAVYLIFT_* variables, the names that deployments use, and
pyproject.toml. Each process that imports an application reads them, so they cost next to nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavylift.core.errors import ConfigError, did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "HEAVYLIFT_"
PROJECT = "pyproject.toml"
TABLE = "tool.heavylift"

MENTIONS = re.compile(rb"""tool\s*\.\s*["']?heavylift|^\s*["']?heavylift["']?\s*[.=]""", re.MULTILINE)
"""What a pyproject.toml has that holds the table, however it is written: only such a one is worth a parser."""

OTHER_VARIABLES = frozenset({"app", "worker_lock"})
SUITES = "test_"
"""How the names begin of what makes the suites of `heavylift.testing` larger: HEAVYLIFT_TEST_STEPS and others."""
SERVICE_VARIABLES = re.compile(r"service_host|service_port(_.*)?|port_\d+_.*")
"""What Kubernetes tells every container about a service that is called "heavylift"."""

REDIS_PORT = 6379
SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class Given:
    """A setting as somebody gave it: `spelled` is the name as it stands there, `place` the file when it is one."""

    name: str
    value: Any
    spelled: str
    place: str = ""

    @property
    def source(self) -> str:
        """How messages name it."""
        return f"{self.place}.{self.spelled}" if self.place else self.spelled

    def unknown(self, known: Sequence[str]) -> ConfigError:
        """What to raise when there is no such setting: "did you mean" in the spelling of its source."""
        is_variable = self.spelled.startswith(PREFIX)
        names = [f"{PREFIX}{name}".upper() if is_variable else name for name in known]
        hint = did_you_mean(self.spelled, names)
        begin = f"{self.place}: there" if self.place else "There"
        return ConfigError(f"{begin} is no setting {self.spelled!r}.{hint} (settings: {', '.join(names)})")


def keywords(given: Mapping[str, Any]) -> list[Given]:
    """The keyword arguments; None means not given."""
    return [Given(name, value, name) for name, value in given.items() if value is not None]


def variables(environment: Mapping[str, str]) -> list[Given]:
    """The HEAVYLIFT_* variables that are ours."""
    found = []
    for variable, value in environment.items():
        name = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX) and not _is_foreign(name, value):
            found.append(Given(name, value, variable))
    return found


def deployment(environment: Mapping[str, str]) -> list[Given]:
    """What deployments already say under names of their own; an empty one says nothing.

    Raises ConfigError where REDIS_URL contradicts REDIS_HOST, REDIS_PORT or REDIS_PASSWORD.
    """
    there = {name: value.strip() for name, value in environment.items() if value.strip()}
    found = [
        Given(name, there[variable], variable)
        for variable, name in (("SERVICE_TYPE", "role"), ("PORT", "port"))
        if variable in there
    ]
    # Redis is asked for by its own name; DATABASE_URL is often there for the application's own data.
    store = _redis(there) or _database(there)
    return [*found, store] if store is not None else found


def project(folder: Path | None = None) -> list[Given]:
    """The table [tool.heavylift] of the nearest pyproject.toml, from the working directory (or `folder`) upward.

    A relative file of SQLite is relative to that pyproject.toml. Raises ConfigError, with the file and the line, for
    one that cannot be read.
    """
    path, table = _table(folder)
    return [
        Given(name, _anchored(value, path) if name == "store" else value, name, f"{path}: {TABLE}")
        for name, value in table.items()
        if name not in OTHER_VARIABLES
    ]


def project_application(folder: Path | None = None) -> str | None:
    """`app` in that table: the application that commands are about; raises ConfigError as `project` does."""
    path, table = _table(folder)
    value = table.get("app")
    if value is not None and not (isinstance(value, str) and value.strip()):
        message = f"{path}: {TABLE}.app: {shown(value)} is no application; give 'module:attribute'."
        raise ConfigError(message)
    return value


def _table(folder: Path | None) -> tuple[Path, dict[str, Any]]:
    """The nearest pyproject.toml, and its table, empty where there is none."""
    start = Path.cwd() if folder is None else folder
    path = next((place / PROJECT for place in (start, *start.parents) if (place / PROJECT).is_file()), None)
    if path is None:
        return start / PROJECT, {}
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}): let this user read it, or move it away."
        raise ConfigError(message) from None
    if not MENTIONS.search(data):
        return path, {}
    import tomllib  # noqa: PLC0415  most processes have no such table

    try:
        content = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path} is no TOML: {error}. Repair it; heavylift reads the table [{TABLE}] there."
        raise ConfigError(message) from None
    tool = content.get("tool")
    table = tool.get("heavylift", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        message = f"{path}: {TABLE}: {shown(table)} is no table; write [{TABLE}] and a line for each setting."
        raise ConfigError(message)
    return path, table


def _anchored(url: Any, path: Path) -> Any:
    """The URL of a file of SQLite, from the folder of pyproject.toml rather than from the working directory."""
    if not isinstance(url, str) or not url.startswith(SQLITE) or url.startswith(f"{SQLITE}/"):
        return url
    from urllib.parse import quote  # noqa: PLC0415  as tomllib

    relative = url.removeprefix(SQLITE)
    return f"{SQLITE}{quote(str(path.parent))}/{relative}" if relative else url


def _is_foreign(name: str, value: str) -> bool:
    if name in OTHER_VARIABLES or name.startswith(SUITES) or SERVICE_VARIABLES.fullmatch(name):
        return True
    return name == "port" and "://" in value  # from Kubernetes too


def _database(there: Mapping[str, str]) -> Given | None:
    url = there.get("DATABASE_URL")
    if url is None:
        return None
    # As other libraries write it: postgres://, and with the name of a driver.
    scheme, separator, rest = url.partition("://")
    if separator and scheme.split("+")[0] in ("postgres", "postgresql"):
        url = f"postgresql://{rest}"
    return Given("store", url, "DATABASE_URL")


def _redis(there: Mapping[str, str]) -> Given | None:
    """One URL from REDIS_URL, which may be a bare host, or REDIS_HOST, completed by REDIS_PORT and REDIS_PASSWORD."""
    variable = "REDIS_URL" if "REDIS_URL" in there else "REDIS_HOST"
    said = there.get(variable)
    if said is None:
        return None
    from urllib.parse import quote, unquote, urlsplit  # noqa: PLC0415  most processes have no Redis

    parts = urlsplit(said if "://" in said else f"redis://{said}/0")
    if not parts.hostname:
        return Given("store", said, variable)  # such as a socket's path
    try:
        port = None if parts.port is None else str(parts.port)
    except ValueError:
        message = f"{variable}: its port is no number; give redis://HOST:PORT/0, or a host."
        raise ConfigError(message) from None
    password = None if parts.password is None else unquote(parts.password)
    asked = there.get("REDIS_PORT")
    if asked is not None and "://" in asked:
        asked = None  # what Kubernetes says of a service that is called "redis"
    _agreed(variable, "host", parts.hostname, there.get("REDIS_HOST") if variable == "REDIS_URL" else None)
    port = _agreed(variable, "port", port, asked)
    password = _agreed(variable, "password", password, there.get("REDIS_PASSWORD"))
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    secret = "" if password is None else f":{quote(password, safe='')}"
    who = f"{parts.username or ''}{secret}@" if parts.username or secret else ""
    address = f"{who}{host}:{port or REDIS_PORT}"
    return Given("store", parts._replace(netloc=address).geturl(), variable)


def _agreed(variable: str, what: str, there: str | None, beside: str | None) -> str | None:
    """What a URL says, or the variable beside it; raises ConfigError when both do, and differ."""
    if there is not None and beside is not None and there != beside:
        message = (
            f"{variable} and REDIS_{what.upper()} name two different {what}s: unset one of them, or say with"
            " HEAVYLIFT_STORE where jobs live."
        )
        raise ConfigError(message)
    return beside if there is None else there
