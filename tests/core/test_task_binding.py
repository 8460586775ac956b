"""A call of a task: which arguments fit, how they are written as JSON, and what the function gets."""

from __future__ import annotations

import json
import time
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any, Optional

import pytest
from pydantic import (
    BaseModel,
    Field,
    InstanceOf,
    PlainSerializer,
    SecretStr,
)
from tests.core.binding import MIB, Point, bind, plain, problems_of, task_of, travel, unannotated

from heavylift.context import Context
from heavylift.core.codec import NotJson
from heavylift.core.errors import ConfigError, InvalidArguments, PayloadTooLarge
from heavylift.core.task import MAX_PROBLEMS

if typing.TYPE_CHECKING:
    from heavylift.context import Context as OnlyForTypeCheckers

# --- which signatures can be a task ----------------------------------------------------------------------------


def nothing() -> None: ...
def only_named(a: int, *, b: str = "x") -> None: ...
def with_context(ctx: Context, a: int) -> None: ...
def context_in_between(a: int, context: Context, b: int = 1) -> None: ...
def optional_context(a: int, ctx: Context | None = None) -> None: ...
def old_optional_context(a: int, ctx: Optional[Context] = None) -> None: ...  # noqa: UP045
def unseen_context(ctx: OnlyForTypeCheckers, a: int) -> None: ...


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
    "value",
    [Callable(), Callable, 5, "text", None, __import__("functools").partial(plain, 1)],
    ids=["object", "class", "number", "text", "none", "partial"],
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
