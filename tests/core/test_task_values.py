"""The values of arguments: each comes back as its own type, or is refused where it is given."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    computed_field,
)
from pydantic.alias_generators import to_camel
from tests.core.binding import MIB, Point, bind, plain, problems_of, task_of, travel, unannotated

from heavylift.core.codec import NotJson
from heavylift.core.errors import InvalidArguments

# --- types -----------------------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Order(BaseModel):
    id: int
    tags: list[str] = Field(default_factory=lambda: ["made"])
    at: str = Field(default_factory=lambda: str(time.monotonic_ns()))


class Measured(BaseModel):
    value: float


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    total_sum: int = Field()


class ReadsAlias(BaseModel):
    total: int = Field(validation_alias="Total")


class WritesAlias(BaseModel):
    model_config = ConfigDict(alias_generator=AliasGenerator(serialization_alias=to_camel))
    total_sum: int


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int

    @computed_field
    @property
    def area(self) -> int:
        return self.side**2


class Node(BaseModel):
    next: Node | None = None


UserId = NewType("UserId", int)

ROUND_TRIPS = {
    "int": (int, 7),
    "large int": (int, 2**80),
    "float": (float, 0.1),
    "float given an int": (float, 2),
    "bool": (bool, True),
    "str": (str, "ü\n☃\x00"),
    "none": (None, None),
    "optional": (int | None, None),
    "union": (int | str, "7"),
    "list": (list[int], [1, 2]),
    "dict": (dict[str, list[int]], {"a": [1]}),
    "dict with int keys": (dict[int, str], {1: "a"}),
    "tuple": (tuple[int, str], (1, "a")),
    "long tuple": (tuple[int, ...], (1, 2, 3)),
    "set": (set[int], {1, 2}),
    "frozenset": (frozenset[str], frozenset("ab")),
    "sequence": (Sequence[int], [1, 2]),
    "mapping": (Mapping[str, int], {"a": 1}),
    "literal": (Literal["a", "b"], "b"),
    "new type": (UserId, 5),
    "annotated": (Annotated[int, Field(gt=3)], 4),
    "datetime": (datetime, datetime(2026, 1, 31, 9, 0, 0, 123456, tzinfo=UTC)),
    "naive datetime": (datetime, datetime(2026, 1, 31, 9)),  # noqa: DTZ001
    "date": (date, date(2026, 1, 31)),
    "timedelta": (timedelta, timedelta(days=1, microseconds=5)),
    "uuid": (uuid.UUID, uuid.UUID(int=5)),
    "decimal": (Decimal, Decimal("1.10")),
    "path": (Path, Path("/tmp/x")),
    "bytes": (bytes, b"abc"),
    "enum": (Color, Color.RED),
    "int enum": (Level, Level.HIGH),
    "dataclass": (Point, Point(1)),
    "list of dataclasses": (list[Point], [Point(1), Point(2, 3.0)]),
    "model": (Order, Order(id=1)),
    "optional model": (Order | None, Order(id=1, tags=[])),
    "dict of models": (dict[str, Order], {"a": Order(id=1)}),
    "model with aliases": (Camel, Camel.model_validate({"totalSum": 1})),
    "model that reads an alias": (ReadsAlias, ReadsAlias.model_validate({"Total": 1})),
    "model that writes an alias": (WritesAlias, WritesAlias(total_sum=1)),
    "strict model with computed fields": (Computed, Computed(side=3)),
    "recursive model": (Node, Node(next=Node())),
}


@pytest.mark.parametrize(("hint", "value"), ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_a_value_comes_back_as_its_own_type(hint, value):
    """What the caller gave is what the function gets, equal and of the same type."""

    def task(x): ...

    task.__annotations__ = {"x": hint}
    found = travel(task, value)["x"]
    assert found == value
    assert hint in (float, Sequence[int]) or type(found) is type(value)


def test_a_model_keeps_what_its_factories_made_for_the_caller():
    """A value that was made at submit is not made again in the host."""

    def task(order: Order) -> None: ...

    order = Order(id=1)
    assert travel(task, order)["order"].at == order.at


def test_a_default_is_the_functions_own():
    """It is looked up when the job runs, so that a new version may change it; none is ever checked or shared."""

    def task(a: int = None, b: list = [], c: object = object()) -> None: ...  # noqa: B006, RUF013

    assert bind(task) == {}
    assert travel(task) == {}
    assert set(task_of(task).schema()["properties"]) == {"a", "b", "c"}


STRICT = {
    "a string is no integer": (int, '"1"'),
    "a boolean is no integer": (int, "true"),
    "a fraction is no integer": (int, "1.5"),
    "null is no integer": (int, "null"),
    "a number beyond floats is no integer": (int, "1e400"),
    "a boolean is no float": (float, "true"),
    "a string is no float": (float, '"1.5"'),
    "a number beyond floats is no float": (float, "1e400"),
    "one is no boolean": (bool, "1"),
    "text is no boolean": (bool, '"true"'),
    "a number is no string": (str, "1"),
    "an object is no list": (list[int], "{}"),
    "a string is no list": (list[str], '"abc"'),
    "a boolean in a list": (list[int], "[true]"),
    "a string in a dict": (dict[str, int], '{"a": "1"}'),
    "a string in an optional": (int | None, '"1"'),
    "a string in a dataclass": (Point, '{"x": "1"}'),
    "an unknown name in a dataclass": (Point, '{"x": 1, "z": 1}'),
    "a number is no date": (date, "5"),
    "text is no date": (date, '"soon"'),
    "an unknown member": (Color, '"blue"'),
    "out of bounds": (Annotated[int, Field(gt=3)], "3"),
}


@pytest.mark.parametrize(("hint", "text"), STRICT.values(), ids=STRICT)
def test_a_json_value_of_another_type_is_refused(hint, text):
    """Strict: nothing is guessed, and the problem points into the argument."""

    def task(x): ...

    task.__annotations__ = {"x": hint}
    pointers = problems_of(task_of(task).bind_json, f'{{"x": {text}}}'.encode(), MIB).keys()
    assert all(pointer.startswith("/x") for pointer in pointers)


PYTHON_STRICT = {
    "a string is no integer": (int, "1"),
    "a boolean is no integer": (int, True),
    "a fraction is no integer": (int, 1.5),
    "not a number is no integer": (int, math.nan),
    "infinity is no integer": (int, math.inf),
    "not a number is no float": (float, math.nan),
    "infinity is no float": (float, -math.inf),
    "text is no date": (date, "2026-01-31"),
    "a value is no member": (Color, "red"),
    "a list is no tuple": (tuple[int, ...], [1]),
    "a dict is no dataclass": (Point, {"x": 1}),
}


@pytest.mark.parametrize(("hint", "value"), PYTHON_STRICT.values(), ids=PYTHON_STRICT)
def test_a_python_value_of_another_type_is_refused(hint, value):
    """A caller in Python has the types at hand, so they are asked for."""

    def task(x): ...

    task.__annotations__ = {"x": hint}
    assert problems_of(bind, task, value).keys() == {"/x"}


WHOLE = {
    "int": (int, "616.0", 616),
    "exponent": (int, "6.16e2", 616),
    "negative zero": (int, "-0.0", 0),
    "optional": (int | None, "616.0", 616),
    "union": (int | str, "616.0", 616),
    "list": (list[int], "[616.0, 1]", [616, 1]),
    "nested": (dict[str, list[int | None]], '{"a": [616.0, null]}', {"a": [616, None]}),
    "tuple": (tuple[int, ...], "[616.0]", (616,)),
    "set": (set[int], "[616.0]", {616}),
    "sequence": (Sequence[int], "[616.0]", [616]),
    "mapping": (Mapping[str, int], '{"a": 616.0}', {"a": 616}),
    "new type": (UserId, "616.0", 616),
    "annotated": (Annotated[int, Field(gt=3)], "616.0", 616),
    "model": (Order, '{"id": 616.0, "tags": [], "at": ""}', Order(id=616, tags=[], at="")),
}


@pytest.mark.parametrize(("hint", "text", "expected"), WHOLE.values(), ids=WHOLE)
def test_a_whole_number_is_an_integer_however_it_is_written(hint, text, expected):
    """JSON has one kind of number: JavaScript and jq write 616.0 where they mean 616."""

    def task(x): ...

    task.__annotations__ = {"x": hint}
    bound = task_of(task)
    found = bound.arguments(bound.bind_json(f'{{"x": {text}}}'.encode(), MIB))["x"]
    assert found == expected
    assert not isinstance(found, float)
    assert b".0" not in bound.bind_json(f'{{"x": {text}}}'.encode(), MIB)


def test_the_schema_of_a_lenient_integer_is_an_integer():
    """What is documented is the plain type."""
    assert task_of(plain).schema()["properties"]["customer"]["type"] == "integer"
    assert task_of(plain).schema()["required"] == ["customer"]
    assert task_of(plain).schema()["additionalProperties"] is False


def test_a_problem_in_a_union_points_at_the_value():
    """The names of the members that pydantic tried are no part of the pointer."""

    def task(x: int | str, y: list[int | Point]) -> None: ...

    assert problems_of(bind, task, 1.5, [1, True]).keys() == {"/x", "/y/1"}
    body = b'{"x": 1, "y": [1, {"x": 1, "y": "a"}, {"y": 1}]}'
    assert problems_of(task_of(task).bind_json, body, MIB).keys() <= {"/y/1", "/y/1/y", "/y/2", "/y/2/x"}


def test_a_whole_model_may_be_given_as_a_dict():
    """A model says itself how strict it is."""

    def task(order: Order) -> None: ...

    assert travel(task, {"id": 1, "tags": [], "at": "x"})["order"] == Order(id=1, tags=[], at="x")


# --- values of any type ----------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_any_json_value_comes_back_as_it_was(value):
    """Without an annotation every JSON value is an argument, by Python and by HTTP alike."""
    task = task_of(unannotated)
    stored = task.bind((value,), {}, MIB)
    assert task.arguments(stored) == {"a": value}
    assert task.arguments(task.bind_json(json.dumps({"a": value}).encode(), MIB)) == {"a": value}
    assert task.bind_json(stored, MIB) == stored


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_bound_or_refused(body):
    """No bytes make another error than the two that HTTP knows."""
    with contextlib.suppress(InvalidArguments, NotJson):
        json.loads(task_of(plain).bind_json(body, MIB))


class Broken:
    def __repr__(self):
        raise RuntimeError


cycle: list[Any] = []
cycle.append(cycle)
deep: list[Any] = []
for _ in range(100_000):
    deep = [deep]

UNWRITABLE = {
    "not a number": math.nan,
    "infinity in a dict": {"a": [math.inf]},
    "not a number in a model": Measured(value=math.nan),
    "not a number in a dataclass": Point(1, math.nan),
    "a lone surrogate": "\ud800",
    "a lone surrogate as a key": {"\udfff": 1},
    "bytes that are no text": b"\xff",
    "an object": object(),
    "an object without a repr": Broken(),
    "a class": Point,
    "a function": print,
    "an exception": ValueError("x"),
    "a lock": __import__("threading").Lock(),
    "a cycle": cycle,
    "a hundred thousand lists in each other": deep,
}


@pytest.mark.parametrize("value", UNWRITABLE.values(), ids=UNWRITABLE)
def test_a_value_that_json_cannot_hold_is_refused_not_bent(value):
    """Nothing is queued, and nothing turns into null without a word."""
    [detail] = problems_of(bind, unannotated, value).values()
    assert detail.startswith("cannot be written as JSON: ")


def test_the_message_about_nan_says_so():
    """Not where some parser stumbled."""
    [detail] = problems_of(bind, unannotated, [math.nan]).values()
    assert "NaN or an infinity" in detail


def test_a_number_beyond_floats_is_refused_without_an_annotation_too():
    """Parsers read it as an infinity."""
    [detail] = problems_of(task_of(unannotated).bind_json, b'{"a": [1e400]}', MIB).values()
    assert "NaN or an infinity" in detail


def test_the_words_nan_and_infinity_are_plain_text():
    """Only the numbers are refused."""
    assert bind(unannotated, ["NaN", {"Infinity": "-Infinity"}]) == {"a": ["NaN", {"Infinity": "-Infinity"}]}


def test_the_schema_of_a_bounded_integer_has_its_bounds():
    def bounded(hours: Annotated[int, Field(ge=1, le=24)]) -> None: ...

    hours = task_of(bounded).schema()["properties"]["hours"]
    assert (hours["type"], hours["minimum"], hours["maximum"]) == ("integer", 1, 24)
    assert task_of(bounded).bind_json(b'{"hours": 24.0}', 100) == b'{"hours":24}'
