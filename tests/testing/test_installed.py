"""The suites and the fixtures, as somebody else gets them: from the wheel, in a project of their own."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]

SUITES = """
import pathlib

import heavylift
from heavylift.executor import Application
from heavylift.executors import Nanny, Pool
from heavylift.settings import Settings
from heavylift.stores import open_store
from heavylift.testing import ExecutorContract, FakeClock, StoreContract, run_task
from heavylift.testing.executor_tasks import application


def test_it_is_the_wheel():
    assert "unpacked" in pathlib.Path(heavylift.__file__).parts


class TestMyStore(StoreContract):
    def make_store(self, clock):
        assert isinstance(clock, FakeClock)
        return open_store("memory://", clock)

    def make_again(self, store, clock):
        return open_store(store.url, clock)


class TestMyExecutor(ExecutorContract):
    async def make(self, **settings):
        tasks = Application("heavylift.testing.executor_tasks", "application")
        return Pool(await Nanny.start(tasks), Settings.load({}, **({"concurrency": 3} | settings)))
"""

APPLICATION = """
from heavylift import Heavylift
from heavylift.testing import run_task

lift = Heavylift()

@lift.task
def double(number: int) -> int:
    return 2 * number

def test_run():
    assert run_task(double, 4).result == 8

async def test_drain(lift_env):
    await double.submit(4)
    lift_env.drain()
    assert lift_env.result(double) == 8
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """What an installation of the wheel puts beside the other packages."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_a_third_party_uses_the_suites_and_the_fixtures(unpacked, pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(unpacked), os.environ.get("PYTHONPATH", "")]))
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
        "pythonpath = .\nheavylift_app = test_application:lift\nfilterwarnings = error\n"
    )
    pytester.makepyfile(test_suites=SUITES, test_application=APPLICATION)
    some = "wheel or run or drain or unique or claim_returns or returns_is_the_result or forced_stop or death"
    result = pytester.runpytest_subprocess("-k", some)
    outcomes = result.parseoutcomes()
    assert outcomes.keys() <= {"passed", "deselected", "warnings"}
    assert outcomes["passed"] > 15
    assert outcomes["deselected"] > 50
