"""A call of a task: which arguments fit, how they are written as JSON, and what the function gets."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import time
import typing
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
    SecretStr,
    computed_field,
)
from pydantic.alias_generators import to_camel

from heavylift.context import Context
from heavylift.core.codec import NotJson
from heavylift.core.errors import ConfigError, InvalidArguments, PayloadTooLarge
from heavylift.core.options import Options
from heavylift.core.task import MAX_PROBLEMS, Task, define

if typing.TYPE_CHECKING:
    from heavylift.context import Context as OnlyForTypeCheckers

MIB = 2**20


def task_of(function, name=None) -> Task:
    return define(function, name, Options(), Context)


def bind(function, *args, **kwargs) -> Any:
    return json.loads(task_of(function).bind(args, kwargs, MIB))


def travel(function, *args, **kwargs) -> dict[str, Any]:
    """The arguments as the function gets them, after the way through the store."""
    task = task_of(function)
    return task.arguments(task.bind(args, kwargs, MIB))


def problems_of(call, *args, **kwargs) -> dict[str, str]:
    with pytest.raises(InvalidArguments) as caught:
        call(*args, **kwargs)
    return {problem.pointer: problem.detail for problem in caught.value.problems}


# --- which signatures can be a task ----------------------------------------------------------------------------


def plain(customer: int, year: int = 2026) -> None: ...
def nothing() -> None: ...
def only_named(a: int, *, b: str = "x") -> None: ...
def with_context(ctx: Context, a: int) -> None: ...
def context_in_between(a: int, context: Context, b: int = 1) -> None: ...
def optional_context(a: int, ctx: Context | None = None) -> None: ...
def old_optional_context(a: int, ctx: Optional[Context] = None) -> None: ...  # noqa: UP045
def unseen_context(ctx: OnlyForTypeCheckers, a: int) -> None: ...
def unannotated(a, b=2) -> None: ...


CONTEXTS = {
    plain: None,
    nothing: None,
    with_context: "ctx",
    context_in_between: "context",
    optional_context: "ctx",
    old_optional_context: "ctx",
    unannotated: None,
}


@pytest.mark.parametrize(("function", "name"), CONTEXTS.items(), ids=[function.__name__ for function in CONTEXTS])
def test_the_context_is_found_by_its_annotation(function, name):
    """Wherever it stands; callers neither give it nor see it."""
    task = task_of(function)
    assert task.context_parameter == name
    assert name not in task.schema().get("properties", {})


def test_a_context_that_is_imported_for_type_checkers_alone_is_found_by_name():
    """Linters move that import under TYPE_CHECKING, so it cannot be evaluated."""
    namespace: dict[str, Any] = {"__name__": __name__}
    source = "from __future__ import annotations\ndef build(ctx: {0}, a: int): ...\n"
    for spelling in ("Context", "heavylift.Context", "hl.Context", "Context | None", "Optional[Context]"):
        exec(source.format(spelling), namespace)
        task = task_of(namespace["build"])
        assert task.context_parameter == "ctx", spelling
        assert task.arguments(task.bind((7,), {}, MIB)) == {"a": 7}


def test_a_second_context_is_refused():
    """The function is named, and both parameters."""

    def twice(a: Context, b: Context) -> None: ...

    with pytest.raises(ConfigError, match="'twice' has several Context parameters: a, b; keep one"):
        task_of(twice)


def test_a_result_annotated_as_a_context_is_no_parameter():
    """Only parameters receive it."""

    def odd() -> Context: ...

    assert task_of(odd).context_parameter is None


def star(*a: int) -> None: ...
def stars(**a: int) -> None: ...
def by_position(a: int, /) -> None: ...


@pytest.mark.parametrize("function", [star, stars, by_position], ids=lambda function: function.__name__)
def test_a_parameter_without_a_name_of_its_own_is_refused(function):
    """Callers of the HTTP API could not give it."""
    with pytest.raises(ConfigError, match=r"has no name that a caller of the HTTP API could use; .* a list or a dict"):
        task_of(function)


class Callable:
    def __call__(self, a: int) -> None: ...


@pytest.mark.parametrize(
    "value", [Callable(), Callable, 5, "text", None, __import__("functools").partial(plain, 1)], ids=repr
)
def test_what_is_no_function_is_no_task(value):
    """Objects, classes and partials have no name and no signature of their own."""
    with pytest.raises(ConfigError, match=r"is no function; define a task with `def`"):
        task_of(value, "name")


def test_a_builtin_that_hides_its_parameters_is_no_task():
    """The message says how to go on."""
    with pytest.raises(ConfigError, match="call it from a function of your own"):
        task_of(max)


@pytest.mark.parametrize("name", ["", "-x", "_private", "a b", "ü", "x" * 129, "<lambda>"])
def test_a_name_that_urls_and_commands_cannot_hold_is_refused(name):
    """The message says what a name is made of."""
    with pytest.raises(ConfigError, match=r"cannot name a task; pass name= with 1-128 letters"):
        task_of(plain, name)


def test_a_lambda_needs_a_name():
    """It has none that could be typed."""
    with pytest.raises(ConfigError, match="'<lambda>' cannot name a task"):
        task_of(lambda a: a)
    assert task_of(lambda a: a, "identity").name == "identity"


# --- which calls fit -------------------------------------------------------------------------------------------

CALLS = {
    "by position": (plain, (7, 2025), {}, {"customer": 7, "year": 2025}),
    "by name": (plain, (), {"year": 2025, "customer": 7}, {"customer": 7, "year": 2025}),
    "mixed": (plain, (7,), {"year": 2025}, {"customer": 7, "year": 2025}),
    "a default is not stored": (plain, (7,), {}, {"customer": 7}),
    "a default that is given is": (plain, (7, 2026), {}, {"customer": 7, "year": 2026}),
    "no arguments": (nothing, (), {}, {}),
    "keyword-only": (only_named, (1,), {"b": "y"}, {"a": 1, "b": "y"}),
    "around the context": (context_in_between, (1, 2), {}, {"a": 1, "b": 2}),
    "after the context": (with_context, (1,), {}, {"a": 1}),
    "without annotations": (unannotated, (None, [1, "x"]), {}, {"a": None, "b": [1, "x"]}),
}


@pytest.mark.parametrize(("function", "args", "kwargs", "expected"), CALLS.values(), ids=CALLS)
def test_a_call_is_bound_by_name(function, args, kwargs, expected):
    """As Python would bind it; only what was given is stored."""
    assert bind(function, *args, **kwargs) == expected
    assert travel(function, *args, **kwargs) == expected


MISFITS = {
    "missing": (plain, (), {}, {"/customer": "Field required"}),
    "too many": (plain, (1, 2, 3), {}, {"": "3 arguments were given by position, the task takes 2 so"}),
    "keyword-only by position": (only_named, (1, "y"), {}, {"": "2 arguments were given by position"}),
    "twice": (plain, (1,), {"customer": 2}, {"/customer": "given twice: by position and by name"}),
    "unknown": (plain, (1,), {"yeer": 2}, {"/yeer": "there is no such argument. Did you mean 'year'?"}),
    "unknown, like none": (plain, (1,), {"zz": 2}, {"/zz": "there is no such argument"}),
    "the context": (with_context, (1,), {"ctx": 2}, {"/ctx": "there is no such argument"}),
    "the model's own field": (plain, (1,), {"0": 2}, {"/0": "there is no such argument"}),
    "a pointer is escaped": (plain, (1,), {"a/b~c": 2}, {"/a~1b~0c": "there is no such argument"}),
    "everything at once": (
        plain,
        ("x",),
        {"year": True, "z": 1},
        {"/z": "there is no", "/customer": "valid integer", "/year": "valid integer"},
    ),
}


@pytest.mark.parametrize(("function", "args", "kwargs", "expected"), MISFITS.values(), ids=MISFITS)
def test_a_call_that_does_not_fit_is_refused_with_one_problem_per_argument(function, args, kwargs, expected):
    """Each problem points at its argument and says what is wrong."""
    found = problems_of(bind, function, *args, **kwargs)
    assert found.keys() == expected.keys()
    for pointer, detail in expected.items():
        assert detail in found[pointer]


@pytest.mark.parametrize(
    "body", [b'{"customer": 1, "yeer": 2}', b'{"customer": "1"}', b'{"year": 1}', b'{"customer": 1, "0": 1}']
)
def test_json_arguments_are_refused_by_the_same_rules(body):
    """The HTTP API is no way around the checks."""
    assert problems_of(task_of(plain).bind_json, body, MIB)


@pytest.mark.parametrize(
    ("body", "what"),
    [(b"[1]", "an array"), (b'"x"', "a string"), (b"1", "a number"), (b"true", "a boolean"), (b"null", "null")],
)
def test_a_body_that_is_no_object_is_refused(body, what):
    """Arguments have names."""
    assert problems_of(task_of(plain).bind_json, body, MIB) == {
        "": f"the arguments are a JSON object of names and values, not {what}"
    }


BROKEN = {
    "nothing": b"",
    "half": b'{"a": 1',
    "a trailing comma": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "not a number": b'{"a": NaN}',
    "infinity": b'{"a": Infinity}',
    "no UTF-8": b'{"a": "\xff"}',
    "a byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "a lone surrogate": b'{"a": "\\ud800"}',
    "a control character": b'{"a": "\x01"}',
    "too deep": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_a_body_that_is_no_json_is_told_apart(body):
    """It is no problem of one argument: HTTP answers 400 to it, not 422."""
    with pytest.raises(NotJson):
        task_of(unannotated).bind_json(body, MIB)


# --- parameters named as anything ------------------------------------------------------------------------------


def awkward(json=0, schema=0, copy=0, model_config=0, model_fields=0, _x=0, self=0) -> None: ...


def test_a_parameter_may_have_any_name():
    """Also those that pydantic keeps for itself, and `self`."""
    names = [*task_of(awkward).parameters]
    expected = {name: number for number, name in enumerate(names)}
    assert travel(awkward, **expected) == expected
    assert travel(awkward, *range(len(names))) == expected
    assert set(task_of(awkward).schema()["properties"]) == set(names)


def test_names_that_look_like_numbers_of_fields_are_not_mixed_up():
    """A parameter never takes the value of another."""

    def swapped(p1: int = 1, p0: int = 0) -> None: ...

    assert travel(swapped, p0=9) == {"p0": 9}
    assert travel(swapped, p1=9) == {"p1": 9}


# --- types -----------------------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    y: float = 0.5


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


# --- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("extra", "fits"), [(-1, True), (0, True), (1, False)])
def test_arguments_may_take_exactly_the_limit(extra, fits):
    """One byte more is refused with both numbers and the way out."""
    text = "x" * (MIB - len(b'{"a":""}') + extra)
    task = task_of(unannotated)
    for call in (lambda: task.bind((text,), {}, MIB), lambda: task.bind_json(json.dumps({"a": text}).encode(), MIB)):
        if fits:
            assert len(call()) == MIB + extra
        else:
            with pytest.raises(
                PayloadTooLarge, match=r"1,048,577 bytes, the limit is 1,048,576.*a reference"
            ) as caught:
                call()
            assert (caught.value.size, caught.value.limit) == (MIB + 1, MIB)


def hostile_bodies():
    many = 60_000
    yield "unknown names", plain, json.dumps({f"k{number}": 1 for number in range(many)})
    yield "wrong elements", Annotated[list[int], ()], json.dumps({"x": ["a"] * 4 * many})
    yield "wrong values", dict[str, int], json.dumps({"x": {f"k{number}": "" for number in range(many)}})
    yield "wrong in a union", list[int | Point], json.dumps({"x": [""] * 4 * many})
    yield "wrong sets", list[set[int]], json.dumps({"x": [[""]] * 2 * many})


@pytest.mark.parametrize(("hint", "body"), [pytest.param(*case[1:], id=case[0]) for case in hostile_bodies()])
def test_a_body_full_of_mistakes_is_refused_without_ado(hint, body):
    """A megabyte of wrong values neither holds up the event loop for long nor makes a megabyte of answer."""

    def task(x): ...

    task.__annotations__ = {"x": hint}
    bound = task_of(plain if hint is plain else task)
    _ = bound.model
    began = time.process_time()
    with pytest.raises(InvalidArguments) as caught:
        bound.bind_json(body.encode(), MIB)
    assert time.process_time() - began < 2  # 0.3 s at most here; seconds when every mistake is collected
    assert 1 <= len(caught.value.problems) <= MAX_PROBLEMS
    assert len(str(caught.value)) < 20_000


def test_a_million_keys_are_refused_for_their_size_alone():
    """Many keys are no mistake; fewer of them are bound."""
    value = dict.fromkeys(map(str, range(1_000_000)), 0)
    with pytest.raises(PayloadTooLarge):
        task_of(unannotated).bind((value,), {}, MIB)
    fewer = dict.fromkeys(map(str, range(50_000)), 0)
    assert travel(unannotated, fewer) == {"a": fewer}


# --- types that cannot be, and names that are not there ---------------------------------------------------------


def test_a_forward_reference_is_resolved_at_first_use():
    """A task may stand above the types that it names."""

    def task(later: Later) -> Later: ...

    bound = task_of(task)
    assert bound.arguments(bound.bind((Later(a=1),), {}, MIB)) == {"later": Later(a=1)}
    assert bound.decode_result(bound.encode_result(Later(a=2))) == Later(a=2)


class Later(BaseModel):
    a: int


def missing_type(x: Missing) -> None: ...  # noqa: F821
def no_json(x: __import__("socket").socket) -> None: ...
def no_json_result() -> __import__("socket").socket: ...
def secret(x: SecretStr) -> None: ...
def nested_secret(x: list[SecretStr | None]) -> None: ...


UNUSABLE = {
    missing_type: r"annotation cannot be resolved: name 'Missing' is not defined.*outside `if TYPE_CHECKING`",
    no_json: r"cannot be read from JSON: .*socket",
    no_json_result: r"cannot be read from JSON: .*socket",
    secret: r"a SecretStr would be stored as '\*+'; submit a reference",
    nested_secret: r"a SecretStr would be stored as '\*+'; submit a reference",
}


@pytest.mark.parametrize(("function", "message"), UNUSABLE.items(), ids=[function.__name__ for function in UNUSABLE])
def test_a_type_that_cannot_travel_is_a_config_error(function, message):
    """It names the task and the type, in one line, instead of an error from inside pydantic."""
    task = task_of(function)
    with pytest.raises(ConfigError, match=message) as caught:
        _ = task.model, task.result_type
    assert f"Task {function.__name__!r}" in str(caught.value)
    assert "\n" not in str(caught.value)


def faulty(
    fine: int,
    no_type: list[__import__("socket").socket],
    no_schema: typing.Callable[[int], int],
    no_pattern: Annotated[str, Field(pattern="(")],
    secret: SecretStr,
) -> typing.Iterator[int]: ...


def written_as_number() -> Annotated[InstanceOf[type(pytest)], PlainSerializer(lambda module: 1, return_type=int)]: ...


def test_each_part_of_a_signature_that_is_no_json_is_a_fault():
    faults = task_of(faulty).faults()
    assert list(faults) == ["no_type", "no_schema", "no_pattern", "secret", "return"]
    reasons = ["socket", "CallableSchema", "regex", "submit a reference", "Iterator"]
    for fault, reason in zip(faults.values(), reasons, strict=True):
        assert reason in fault
        assert "\n" not in fault
        assert "model_config" not in fault
    assert task_of(plain).faults() == {}
    assert task_of(written_as_number).faults() == {}
    with pytest.raises(ConfigError, match="Missing"):
        task_of(missing_type).faults()


def test_a_decorated_function_is_bound_by_what_it_wraps():
    """`functools.wraps` keeps signature, name and annotations."""
    import functools

    @functools.wraps(plain)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    assert task_of(wrapper).name == "plain"
    assert travel(wrapper, 7, year=1) == {"customer": 7, "year": 1}


# --- the stored arguments of another version --------------------------------------------------------------------


@pytest.mark.parametrize("stored", [b'{"customer": 1, "gone": 2}', b"{}", b'{"customer": "x"}', b"[]", b"nonsense"])
def test_stored_arguments_that_no_longer_fit_are_refused(stored):
    """A job may have been stored by another version of the application."""
    assert problems_of(task_of(plain).arguments, stored)


@dataclass(frozen=True)
class Holder:
    value: int = 1
    more: list[int] = field(default_factory=list)


def test_only_given_arguments_reach_the_function():
    """So the function's own defaults hold, each time it is called."""
    task = task_of(plain)
    assert task.arguments(b'{"customer": 1}') == {"customer": 1}


def test_nested_defaults_of_a_dataclass_travel():
    """A given value is whole: what its class filled in is part of it."""

    def task(holder: Holder) -> None: ...

    assert bind(task, Holder()) == {"holder": {"value": 1, "more": []}}


def test_the_description_is_the_docstring():
    """Cleaned as `help` shows it, empty if there is none."""

    def task() -> None:
        """Build it.

        Slowly.
        """

    assert task_of(task).description == "Build it.\n\nSlowly."
    assert task_of(plain).description == ""
