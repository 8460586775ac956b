"""The pytest plugin: fixtures for tests of an application. Loads nothing of Heavylift until one of them is used.

Say which application in pytest's settings (`heavylift_app = "app:lift"`), by a mark
(`@pytest.mark.heavylift_app("app:lift")`), or with a fixture of your own named `heavylift_app`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from heavylift.app import Heavylift
    from heavylift.testing.environment import Environment
    from heavylift.testing.processes import ProcessEnvironment

MARK = "heavylift_app"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The setting."""
    parser.addini(MARK, 'the application that lift_env and lift_env_real test, as "module:attribute"', default="")


def pytest_configure(config: pytest.Config) -> None:
    """The mark."""
    config.addinivalue_line("markers", f'{MARK}("module:attribute"): the application that lift_env tests')


@pytest.fixture
def heavylift_app(request: pytest.FixtureRequest) -> Heavylift:
    """The application under test: as the mark says, or the setting. Override it to return another object."""
    mark = request.node.get_closest_marker(MARK)
    name = str(mark.args[0] if mark is not None and mark.args else request.config.getini(MARK))
    if not name:
        message = (
            f'Which application is tested? Write `{MARK} = "module:attribute"` into the settings of pytest,'
            f' mark the test with @pytest.mark.{MARK}("module:attribute"), or define a fixture {MARK} that returns it.'
        )
        raise pytest.UsageError(message)
    return _found(name)


@pytest.fixture
def lift_env(heavylift_app: Heavylift, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The application on a store of its own, where `drain` and `advance` run its jobs in this process, by a clock of
    the test's own. See `heavylift.testing.Environment`.
    """
    from heavylift.testing.environment import open_environment  # noqa: PLC0415  who has no such test pays nothing

    with open_environment(heavylift_app, tmp_path_factory.mktemp("heavylift")) as found:
        yield found


@pytest.fixture
def lift_env_real(heavylift_app: Heavylift, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessEnvironment]:
    """The application on a store of its own, with a real worker, whose hosts can be killed at an exact moment.
    See `heavylift.testing.ProcessEnvironment`.
    """
    from heavylift.testing.processes import open_process_environment  # noqa: PLC0415  who has no such test pays nothing

    with open_process_environment(heavylift_app, tmp_path_factory.mktemp("heavylift")) as found:
        yield found


def _found(name: str) -> Heavylift:
    from heavylift.app import Heavylift  # noqa: PLC0415  who has no such test pays nothing

    try:
        found = pkgutil.resolve_name(name)
    except (ValueError, ImportError, AttributeError) as error:
        message = f"{MARK} = {name!r} cannot be imported: {error}. Is its folder in the setting `pythonpath`?"
        raise pytest.UsageError(message) from error
    if not isinstance(found, Heavylift):
        message = (
            f"{MARK} = {name!r} is a {type(found).__name__}, not a Heavylift; name the object itself: module:lift."
        )
        raise pytest.UsageError(message)
    return found
