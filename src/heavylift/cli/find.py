"""Finds the application that a command is about, and says what is wrong when there is none."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import pkgutil
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

from heavylift import sources
from heavylift.core.errors import ConfigError, HeavyliftError, StoreUnavailable, did_you_mean

if TYPE_CHECKING:
    from heavylift.app import Heavylift

DEFAULT_STORE = "heavylift.db"
SQLITE = "sqlite:///"


def application(target: str) -> Heavylift:
    """The Heavylift object that `module:attribute` names; the working directory comes first on the import path.

    Raises ConfigError that says what was looked at, and what was probably meant.
    """
    name, colon, attribute = target.partition(":")
    if name.endswith(".py") or "/" in name:
        name = name.removesuffix(".py").strip("./").replace("/", ".")
        message = f"{target!r} is a file; name its module: {name}:{attribute or 'lift'}"
        raise ConfigError(message)
    sys.path.insert(0, str(Path.cwd()))
    module = imported(name)
    if colon and isinstance(found := _attribute(module, attribute), _class()):
        return found
    raise ConfigError(_no_application(module, name, attribute))


def opened_by(store: str | None, app: str | None) -> Heavylift:
    """What a command works on, with its store present; found as `named` does. Raises StoreUnavailable without one."""
    return present(named(store, app))


def named(store: str | None, app: str | None) -> Heavylift:
    """What a command works on: --store, else --app, else HEAVYLIFT_STORE, HEAVYLIFT_APP, `app` of pyproject.toml, the
    store that deployment names or pyproject.toml name, or ./heavylift.db.

    Raises ConfigError when nothing says which.
    """
    from heavylift.app import Heavylift

    if store is not None:
        return Heavylift(store)
    if app is None and "HEAVYLIFT_STORE" not in os.environ:
        app = application_by_default()
    if app is not None:
        return application(app)
    lift = Heavylift()
    if "store" not in lift.settings.origins and not Path(DEFAULT_STORE).exists():
        message = (
            "Which store? Give --store URL (sqlite:///jobs.db) or --app module:attribute,"
            " or set HEAVYLIFT_STORE or HEAVYLIFT_APP."
        )
        raise ConfigError(message)
    return lift


def examined(store: str | None, app: str | None) -> Heavylift:
    """As `named`, but with both given it is that application on that store."""
    if store is None or app is None:
        return named(store, app)
    lift = application(app)
    lift.override(store=store)
    return lift


def application_by_default() -> str | None:
    """The application that HEAVYLIFT_APP names, else `app` in [tool.heavylift] of pyproject.toml."""
    return os.environ.get("HEAVYLIFT_APP") or sources.project_application()


def configured(app: str | None, store: str | None, question: str) -> Heavylift:
    """The application with its own settings: --app, or the one by default (then HEAVYLIFT_STORE holds too), with
    --store in place of its store.

    Raises ConfigError with the question when nothing says which.
    """
    if app is None:
        app = application_by_default()
        store = store or os.environ.get("HEAVYLIFT_STORE")
    if app is None:
        raise ConfigError(question)
    lift = application(app)
    if store is not None:
        lift.override(store=store)
    return lift


def present(lift: Heavylift) -> Heavylift:
    """The same application; raises StoreUnavailable when its store's file is not there."""
    path = lift.store_url.removeprefix(SQLITE)
    if path != lift.store_url and not Path(path).exists():
        # Looking must not create: an empty answer from a mistyped name would be a lie.
        message = f"There is no store at {path}; `heavylift serve` and `heavylift submit` create it."
        raise StoreUnavailable(message)
    return lift


def imported(name: str) -> ModuleType:
    """The module of that name; raises ConfigError with where it was looked for, or its part of the traceback."""
    if not name or not all(part.isidentifier() for part in name.split(".")):
        message = f"{name!r} is no module's name; APP is module:attribute, such as app:lift."
        raise ConfigError(message)
    try:
        # What it prints is not what the command prints: that may be JSON, and read by a program.
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(_broken(name, error)) from None
        near = did_you_mean(error.name, _modules(error.name))
        looked = "\n  ".join(path or str(Path.cwd()) for path in dict.fromkeys(sys.path))
        message = f"There is no module {error.name!r}.{near} It was looked for in\n  {looked}"
        raise ConfigError(message) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a module does when it is imported
        raise ConfigError(_broken(name, error)) from None


def _class() -> type[Heavylift]:
    from heavylift.app import Heavylift

    return Heavylift


def _broken(name: str, error: BaseException) -> str:
    """The user's part of the traceback: what lies between the import and the error."""
    ours = (str(Path(__file__).parents[1]), str(Path(importlib.__file__).parent), "<frozen")
    step: TracebackType | None = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename.startswith(ours):
        step = step.tb_next
    if isinstance(error, HeavyliftError):
        # What it says is about the user's line: how we came to say it is of no use.
        frames = [frame for frame in traceback.extract_tb(step) if not frame.filename.startswith(ours)]
        text = "Traceback (most recent call last):\n" + "".join(traceback.format_list(frames)) + str(error)
    else:
        text = "".join(traceback.format_exception(type(error), error, step, chain=False)).rstrip()
    return f"Module {name!r} was found, but it does not import (working directory {Path.cwd()}):\n\n{text}"


def _attribute(module: ModuleType, path: str) -> object:
    found: object = module
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _no_application(module: ModuleType, name: str, attribute: str) -> str:
    there = sorted(key for key, value in vars(module).items() if isinstance(value, _class()))
    if not there:
        end = f"It makes no Heavylift object at module level: write lift = Heavylift(…) in {module.__file__ or name}."
    elif len(there) == 1:
        end = f"Did you mean {name}:{there[0]}?"
    else:
        near = difflib.get_close_matches(attribute, there, n=1)
        end = f"Did you mean {name}:{near[0]}?" if near else f"It has {', '.join(f'{name}:{key}' for key in there)}."
    if not attribute:
        return f"{name!r} names a module only; APP is module:attribute. {end}"
    value = _attribute(module, attribute)
    what = f"is of type {type(value).__name__}, not Heavylift" if value is not None else "does not exist"
    return f"{name}:{attribute} {what}. {end}"


def _modules(missing: str) -> list[str]:
    """What could have been meant: the modules beside the missing one."""
    parent = missing.rpartition(".")[0]
    places = [str(Path.cwd())]
    if parent:
        places = list(getattr(sys.modules.get(parent), "__path__", []))
    return [f"{parent}.{found.name}" if parent else found.name for found in pkgutil.iter_modules(places)]
