"""Where other processes find an application."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavylift.core.errors import ConfigError
from heavylift.executor import Application

if TYPE_CHECKING:
    from collections.abc import Mapping


def application(lift: object, module: str, namespace: Mapping[str, Any], imports: tuple[str, ...]) -> Application:
    """Where an object is found that was made in this module. Raises ConfigError when it is no module-level name."""
    attribute = next((name for name, value in namespace.items() if value is lift), None)
    if attribute is None:
        message = (
            f"The Heavylift object made in {module!r} has no name there; its worker could not find it."
            " Assign it to a module-level variable: lift = Heavylift(…)."
        )
        raise ConfigError(message)
    return Application(_target(module, namespace), attribute, imports, (str(Path.cwd()),))


def _target(module: str, namespace: Mapping[str, Any]) -> str:
    """The module's name, or for a program that was run, what it was run from (as multiprocessing does it)."""
    if module != "__main__":
        return module
    spec = namespace.get("__spec__")
    if spec is not None and spec.name:
        return str(spec.name)
    path = namespace.get("__file__")
    if path is None:
        message = "A Heavylift object made in an interactive session cannot have a worker; put it into a file."
        raise ConfigError(message)
    return str(Path(path).absolute())
