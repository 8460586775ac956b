"""What a task returned, as JSON and back."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Never, NoReturn

import pytest
from pydantic import BaseModel, Field, computed_field

from heavylift.context import Context
from heavylift.core.codec import NotJson
from heavylift.core.options import Options
from heavylift.core.task import define


class Report(BaseModel):
    total: float
    by_year: dict[int, float] = Field(default_factory=dict, alias="byYear")

    @computed_field
    @property
    def mean(self) -> float:
        return self.total / 2


class ReadsAlias(BaseModel):
    total: int = Field(validation_alias="Total")


@dataclass
class Point:
    x: int
    y: float


def returning(hint):
    def task(): ...

    if hint is not ...:
        task.__annotations__ = {"return": hint}
    return define(task, None, Options(), Context)


UNHINTED = {
    "none": (None, None),
    "text": ("ü", "ü"),
    "a number": (616.0, 616.0),
    "a list": ([1, "a", None, True], [1, "a", None, True]),
    "a dict": ({"a": {"b": []}}, {"a": {"b": []}}),
    "a tuple becomes a list": ((1, 2), [1, 2]),
    "a set becomes a list": ({1}, [1]),
    "text as bytes becomes text": (b"abc", "abc"),
    "a time becomes text": (datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00Z"),
    "a dataclass becomes an object": (Point(1, 2.0), {"x": 1, "y": 2.0}),
    "keys become texts": ({1: "a"}, {"1": "a"}),
}


@pytest.mark.parametrize("hint", [..., Any, NoReturn, Never], ids=["no hint", "Any", "NoReturn", "Never"])
@pytest.mark.parametrize(("value", "expected"), UNHINTED.values(), ids=UNHINTED)
def test_a_result_without_a_hint_is_what_json_makes_of_it(hint, value, expected):
    """There is no type to come back to."""
    task = returning(hint)
    assert task.decode_result(task.encode_result(value)) == expected
    assert task.result_schema() == {}


HINTED = {
    "none": (None, None),
    "float": (float, 0.5),
    "float given an int": (float, 2),
    "tuple": (tuple[int, str], (1, "a")),
    "set": (set[int], {1, 2}),
    "int keys": (dict[int, str], {1: "a"}),
    "bytes": (bytes, b"abc"),
    "datetime": (datetime, datetime(2026, 1, 31, tzinfo=UTC)),
    "dataclass": (Point, Point(1, 2.0)),
    "model": (Report, Report(total=1, byYear={2026: 1.5})),
    "model that reads an alias": (ReadsAlias, ReadsAlias.model_validate({"Total": 1})),
    "list of models": (list[Report], [Report(total=1)]),
    "union": (Point | None, None),
}


@pytest.mark.parametrize(("hint", "value"), HINTED.values(), ids=HINTED)
def test_a_hinted_result_comes_back_as_its_own_type(hint, value):
    """`await handle.result()` gives what the function returned."""
    task = returning(hint)
    found = task.decode_result(task.encode_result(value))
    assert found == value
    assert hint is float or type(found) is type(value)


def test_a_models_result_is_written_as_its_schema_says():
    """Under its aliases and with its computed fields, as web frameworks write it."""
    task = returning(Report)
    written = json.loads(task.encode_result(Report(total=1, byYear={2026: 1.5})))
    assert written == {"total": 1.0, "byYear": {"2026": 1.5}, "mean": 0.5}
    assert written.keys() == task.result_schema()["properties"].keys()


class Plain: ...


class Broken:
    def __repr__(self):
        raise RuntimeError


cycle: list[Any] = []
cycle.append(cycle)
deep: list[Any] = []
for _ in range(100_000):
    deep = [deep]

REFUSED = {
    "not a number": (..., math.nan, "NaN"),
    "infinity inside": (..., [{"a": -math.inf}], "NaN or an infinity"),
    "not a number for a float": (float, math.nan, "NaN"),
    "not a number in a model": (Report, Report(total=math.nan), "NaN"),
    "not a number in a model without a hint": (..., [Report(total=math.nan)], "NaN"),
    "not a number in a dataclass": (..., Point(1, math.nan), "NaN"),
    "an object": (..., Plain(), "Plain"),
    "an object without a repr": (..., Broken(), "Broken"),
    "an object in a list": (..., [Plain()], "Plain"),
    "a class": (..., Plain, "type"),
    "a function": (..., print, "builtin_function"),
    "an exception": (..., ValueError("x"), "ValueError"),
    "bytes that are no text": (..., b"\xff", "utf-8"),
    "bytes that are no text, hinted": (bytes, b"\xff", "utf-8"),
    "a lone surrogate": (..., "\ud800", "surrogates"),
    "a cycle": (..., cycle, "Circular"),
    "a hundred thousand lists in each other": (..., deep, "depth"),
    "text for an integer": (int, "7", "valid integer"),
    "a boolean for an integer": (int, True, "valid integer"),
    "a list for a tuple": (tuple[int, ...], [1], "valid tuple"),
    "something for nothing": (None, 7, "None"),
    "a dict for a dataclass": (Point, {"x": 1}, "instance of Point"),
    "a wrong part": (dict[str, list[int]], {"a": [1, "b"]}, "/a/1: "),
}


@pytest.mark.parametrize(("hint", "value", "text"), REFUSED.values(), ids=REFUSED)
def test_a_result_that_json_or_its_hint_cannot_hold_is_refused(hint, value, text):
    """One kind of error for all of them, naming what does not fit; nothing turns into null without a word."""
    with pytest.raises(NotJson, match=text):
        returning(hint).encode_result(value)


def test_a_generator_under_a_hint_of_values_is_written_as_a_list():
    """The values are what was promised; the host refuses a generator that nobody announced."""

    task = returning(Iterable[int])
    assert json.loads(task.encode_result(number for number in range(3))) == [0, 1, 2]


def test_a_generator_that_raises_is_refused():
    """Its code runs late, inside the encoding."""

    def numbers():
        yield 1
        int("boom")

    with pytest.raises(NotJson, match="boom"):
        returning(...).encode_result(numbers())
