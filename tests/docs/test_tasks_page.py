"""The page on tasks: its code is a module whose tasks do what the page says."""

import re
import sys
import types
from pathlib import Path

import pytest

from heavylift.core.options import LIMITS
from heavylift.testing import run_task

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"


@pytest.fixture(scope="module")
def page():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = types.ModuleType("tasks_page")
    sys.modules["tasks_page"] = module
    exec(compile("\n".join(blocks), str(PAGE), "exec"), vars(module))
    yield module
    del sys.modules["tasks_page"]


@pytest.mark.parametrize(
    ("task", "arguments", "result"),
    [
        ("build_report", {"customer": 7}, {"customer": 7, "year": 2026, "months": 12}),
        ("add_numbers", {"a": 1, "b": 2}, 3),
        ("fetch", {"url": "four"}, 4),
        ("call_api", {"name": "x"}, "X"),
        ("call_for_all", {"names": ["x", "y"]}, ["X", "Y"]),
        ("fetch_all", {"account_id": 7, "urls": ["four", "a"]}, [4, 1]),
        ("count_records", {"table": "seven77"}, 7),
    ],
)
def test_a_task_of_the_page_gives_what_it_promises(page, task, arguments, result):
    assert run_task(getattr(page, task), **arguments).result == result


def test_places_are_those_of_the_table(page):
    places = {name: task.options.run_in for name, task in page.lift.registry.items()}
    assert places["fetch"] == "loop"
    assert places["call_api"] == "thread"
    assert places["build_report"] == places["transcode"] == "process"


def test_the_sizes_are_the_defaults(page):
    text = PAGE.read_text()
    assert f"up to {page.lift.settings.coroutines} others" in text
    assert f"up to {page.lift.settings.threads} others" in text
    assert f"the worker's setting of that name ({page.lift.settings.processes}) holds" in text


def test_every_limit_is_in_the_table(page):
    named = re.findall(r"^\| `(\w+)` \|", PAGE.read_text().partition("## Limits")[2].partition("## ")[0], re.MULTILINE)
    assert named == ["timeout", *LIMITS]
