"""docs/http.md names every reason for which a job waits, and every basis of an estimate."""

from pathlib import Path
from typing import get_args

import pytest

from heavylift.core.estimate import Basis
from heavylift.core.waiting import Code

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
ROWS = "\n".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))


@pytest.mark.parametrize("name", [*get_args(Code), *get_args(Basis)])
def test_the_page_names_it(name):
    assert f"`{name}`" in ROWS
