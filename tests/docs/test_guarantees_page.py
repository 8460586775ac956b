"""docs/guarantees.md: every test that it names is there, and its figures are the defaults of the code."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest
from tests.docs.test_settings_page import option_defaults, shown

from heavylift import monolith, worker
from heavylift.core import lifecycle
from heavylift.executors import host_pool, link, shared_pool
from heavylift.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
PROMISED = PAGE.partition("## What is not promised")[0]
TEST = re.compile(r"`((?:src|tests)/[\w/]+\.py)::(\w+)`")
FIGURE = re.compile(r"`(\w+)`(?:\s\(|,\s)(\d[\w.]*|none)\)?")


def functions_of(path):
    """The test functions of a file, those of its classes included."""
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_")}


@pytest.mark.parametrize("path", sorted({path for path, _ in TEST.findall(PAGE)}))
def test_every_test_of_the_page_is_there(path):
    named = {name for found, name in TEST.findall(PAGE) if found == path}
    assert named <= functions_of(ROOT / path), f"{path} has no such test any more"


def test_every_promise_has_a_test():
    for section in PROMISED.split("\n## ")[1:]:
        assert TEST.search(section), f"nothing shows: {section.splitlines()[0]}"


def test_every_bug_of_others_is_on_the_page():
    path = "tests/system/test_bugs_of_others.py"
    listed = {name for found, name in TEST.findall(PAGE) if found == path}
    there = {re.match(r"test_([a-z_]+?_\d+)", name)[1] for name in functions_of(ROOT / path)}
    assert {re.match(r"test_([a-z_]+?_\d+)", name)[1] for name in listed} == there


def test_the_figures_are_the_defaults():
    defaults = option_defaults() | {f.name: shown(f.name, f.default) for f in fields(Settings) if f.name != "origins"}
    found = set(FIGURE.findall(PAGE))
    for name, value in found:
        assert defaults[name] == value, f"`{name}` is {defaults[name]} by default"
    times = {"lease", "beat", "sweep", "poll", "drain", "grace", "timeout", "keep", "max_log"}
    assert {name for name, _ in found} >= times | {"max_attempts", "crashes", "losses"}


def test_what_is_no_setting_is_as_the_code_says():
    for text in (
        f"pauses from {lifecycle.LOSS_BACKOFF.base:g} s to {lifecycle.LOSS_BACKOFF.maximum:g} s",
        f"a new one after {monolith.BACKOFF[0]:g} s; after a longer pause, up to {monolith.BACKOFF[1]:g} s",
        f"tries come every {worker.AWAY[0]:g} s to {worker.AWAY[1]:g} s",
        f"or {worker.LAST_WRITES:g} s later if the store is away",
        f"is blocked by its code | its worker | after {shared_pool.BLOCKED:g} s",
        f"was not started | its worker | after {host_pool.PATIENCE:g} s",
        f"does not report a dead process for {link.SILENCE:g} s",
    ):
        assert text in PAGE, f"the page does not say: {text}"
