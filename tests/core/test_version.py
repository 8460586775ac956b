"""One version, in the code and in the package."""

import tomllib
from pathlib import Path

from heavylift.core.version import VERSION


def test_the_code_and_the_package_have_one_version():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
