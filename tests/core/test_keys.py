"""Keys: what their templates may name, what they become, and that whoever has none pays nothing."""

import json
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.binding import MIB, task_of

from heavylift.context import Context
from heavylift.core import keys
from heavylift.core.dependency import Provide
from heavylift.core.errors import ConfigError, InvalidArguments
from heavylift.core.limits import Concurrency, Rate
from heavylift.core.options import Options
from heavylift.core.task import define


@dataclass
class Order:
    customer: str
    lines: list[int]


def open_session() -> int:
    return 1


def ship(
    ctx: Context,
    order: Order,
    note: Any = None,
    when: date = date(2026, 11, 28),
    *,
    express: bool = False,
    session: Annotated[int, Provide(open_session)] = 0,
) -> None: ...
def about(task: str) -> None: ...


def key_of(template, function=ship, **arguments):
    """The unique key that a submit with these arguments gets."""
    task = task_of(function)
    keys.check(task, options := Options().using(unique=template))
    return keys.resolved(task, task.bind((), arguments, MIB), options).unique


ORDER = Order("acme", [1, 2])
FILLED = {
    "a plain text": ("report", "report"),
    "a text": ("c:{order.customer}", "c:acme"),
    "an object": ("{order}", '{"customer":"acme","lines":[1,2]}'),
    "an array": ("{order.lines}", "[1,2]"),
    "a boolean, by default": ("{express}", "false"),
    "a default that JSON has otherwise": ("{when}", "2026-11-28"),
    "nothing": ("{note}", "null"),
    "several": ("{order.customer}/{express}", "acme/false"),
    "the task": ("{task}:1", "ship:1"),
    "braces": ("{{{order.customer}}}", "{acme}"),
    "braces alone": ("a{{b}}", "a{b}"),
}


@pytest.mark.parametrize(("template", "expected"), FILLED.values(), ids=FILLED)
def test_a_template_becomes_what_the_arguments_say(template, expected):
    """Texts stand as they are, all else as JSON."""
    assert key_of(template, order=ORDER) == expected


VALUES = {
    "an integer": (7, "7"),
    "a large one": (10**30, "1" + "0" * 30),
    "a fraction": (1.5, "1.5"),
    "yes": (True, "true"),
    "a text with braces": ("{order}", "{order}"),
    "a text in another script": ("ü", "ü"),
    "names in any order": ({"b": 1, "a": "ü"}, '{"a":"ü","b":1}'),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_a_given_value_wins_over_the_default(value, expected):
    """And is not read as a template again."""
    assert key_of("{note}", order=ORDER, note=value) == expected


def test_task_is_an_argument_where_one_is_called_so():
    assert key_of("{task}", about, task="x") == "x"


MALFORMED = {
    "an opening brace": ("a{b", "a '{' stands alone; write '{{' for a brace"),
    "a closing brace": ("a}b", "a '}' stands alone; write '}}'"),
    "nothing in braces": ("{}", "'{}' is no name of an argument"),
    "a number": ("{0}", "'{0}' is no name"),
    "a space": ("{ order }", "is no name"),
    "a format": ("{order:>9}", "is no name"),
    "a conversion": ("{order!r}", "is no name"),
    "an open path": ("{order.}", "is no name"),
    "an unknown name": ("{ordr}", r"'ordr' is no argument of task 'ship'\. Did you mean 'order'\?"),
    "the Context": ("{ctx}", "'ctx' is no argument"),
    "what is provided": ("{session}", r"'session' is no argument .*\(arguments: order, note, when, express; give one"),
    "a part of the task": ("{task.name}", "'task' is no argument"),
}


@pytest.mark.parametrize(("template", "message"), MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("option", ["unique", "fair_share", "limits"])
def test_a_template_that_nothing_can_fill_is_refused_where_it_is_written(option, template, message):
    """The message names the option and the key."""
    value = [Rate("5/s", key=template)] if option == "limits" else template
    options = Options().using(**{option: value})
    with pytest.raises(ConfigError, match=f"^{option}: in the key .*{message}"):
        define(ship, None, options, Context)


def test_a_default_that_is_no_json_cannot_stand_in_a_key():
    def odd(handle: Any = object()) -> None: ...  # noqa: B008

    with pytest.raises(ConfigError, match=r"unique: the key '\{handle\}' may need the default of 'handle'"):
        define(odd, None, Options().using(unique="{handle}"), Context)


REFUSED = {
    "empty": ("{note}", {"note": ""}, "/note", "would be empty"),
    "too long": ("{note}", {"note": "x" * 513}, "/note", "would have 513 characters, 512 are the most"),
    "10 KB": ("a{order.customer}{note}", {"note": "x" * 10_000}, "/note", "would have 10,005 characters"),
    "too long in all": ("{order.customer}" + "x" * 400 + "{note}", {"note": "y" * 109}, "/note", "would have 513"),
    "NUL": ("{note}", {"note": "\0"}, "/note", "is no text"),
    "no such member": ("{note.a.b}", {"note": {"a": {}}}, "/note/a/b", "needs it, and it is not there"),
    "no object": ("{note.a}", {"note": "a"}, "/note/a", "needs it"),
    "no object by default": ("{note.a}", {}, "/note/a", "needs it"),
    "a name with a slash": ("{note.a/b}", {}, "/note/a~1b", "needs it"),
}


@pytest.mark.parametrize(("template", "arguments", "where", "detail"), REFUSED.values(), ids=REFUSED)
def test_arguments_that_give_no_key_are_refused_with_a_pointer(template, arguments, where, detail):
    """As any other argument that does not fit."""
    with pytest.raises(InvalidArguments) as caught:
        key_of(template, order=ORDER, **arguments)
    [problem] = caught.value.problems
    assert problem.pointer == where
    assert detail in problem.detail
    assert "of the option unique" in problem.detail
    assert len(problem.detail) < 500


def test_the_longest_key_is_taken():
    assert key_of("{note}", order=ORDER, note="x" * 512) == "x" * 512


def test_a_key_that_the_name_of_the_task_makes_too_long_is_refused_at_once():
    with pytest.raises(ConfigError, match=r"fair_share: .* over 512 characters when it is filled in"):
        define(ship, "n" * 128, Options().using(fair_share="{task}" * 5), Context)


def test_two_limits_of_one_kind_and_key_are_refused():
    for pair in (
        [Concurrency(1), Concurrency(2)],
        [Rate("1/s", key="crm"), Rate("2/s", key="crm")],
        [Rate("1/s", key="ship"), Rate("2/s")],
        [Rate("1/s", key="{note}"), Rate("2/s", key="{note}")],
    ):
        with pytest.raises(ConfigError, match="limits: there are two of the kind"):
            define(ship, None, Options().using(limits=pair), Context)
    for pair in ([Concurrency(1), Rate("1/s")], [Concurrency(1, key="{note}"), Concurrency(1, key="{express}")]):
        define(ship, None, Options().using(limits=pair), Context)


def limited(name, *limits):
    return define(ship, name, Options().using(limits=limits), Context)


def test_tasks_that_share_a_key_agree_on_its_limit():
    first = limited("first", Concurrency(2, key="crm"), Rate("60/min", key="crm"), Rate("1/s", key="{note}"))
    for fits in (
        limited("second", Concurrency(2, key="crm")),
        limited("second", Rate("1/s", key="crm")),  # the same in other words
        limited("second", Rate("9/s", key="{note}")),  # nobody can say whether they ever meet
        limited("second", Concurrency(9)),
    ):
        keys.check_agreement(fits, [first])
    for name, other in (
        ("second", Concurrency(3, key="crm")),
        ("second", Rate("2/s", key="crm")),
        ("crm", Concurrency(3)),
    ):
        with pytest.raises(ConfigError, match=f"limits: tasks 'first' and '{name}' share the key 'crm'"):
            keys.check_agreement(limited(name, other), [first])


PLAIN = {
    "nothing": {},
    "no key": {"priority": 5, "labels": {"a": "{b}"}, "queue": "q"},
    "plain keys": {"unique": "a", "fair_share": "b", "limits": [Concurrency(2, key="c"), Rate("1/s", key="d")]},
}


@pytest.mark.parametrize("values", PLAIN.values(), ids=PLAIN)
def test_options_without_templates_stay_the_same_object(values):
    """The store knows their text by their identity; and the arguments are not even read."""
    options = Options().using(**values)
    assert keys.resolved(task_of(ship), b"no JSON", options) is options


def test_jobs_with_the_same_keys_share_one_object():
    task = task_of(ship)
    options = Options().using(
        priority=3, fair_share="{order.customer}", limits=[Concurrency(2), Rate("5/s", key="{order.customer}")]
    )

    def of(customer, note):
        return keys.resolved(task, task.bind((Order(customer, []), note), {}, MIB), options)

    assert of("acme", 1) is of("acme", 2)
    assert of("acme", 1) == Options().using(
        priority=3, fair_share="acme", limits=[Concurrency(2, key="ship"), Rate("5/s", key="acme")]
    )
    assert of("other", 1).fair_share == "other"
    again = Options().using(fair_share="{order.customer}")
    assert keys.resolved(task, task.bind((ORDER,), {}, MIB), again).limits == ()


def test_the_arguments_that_keys_depend_on_are_known():
    options = Options().using(unique="{task}:{note}", limits=[Rate("1/s", key="{order.customer}")])
    assert keys.arguments_named(task_of(ship), options) == {"note", "order"}


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=100)


@given(texts)
def test_any_text_can_be_written_with_double_braces(text):
    """And comes out as it was."""
    assert key_of(text.replace("{", "{{").replace("}", "}}"), order=ORDER) == text


@given(texts)
def test_a_template_is_refused_or_filled_in_and_never_fails_otherwise(text):
    """Whatever people write."""
    try:
        found = key_of(text, order=ORDER, note={"a": 1})
    except (ConfigError, InvalidArguments):
        return
    assert 1 <= len(found) <= 512


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text("ab{}"), lambda item: st.lists(item, max_size=3))
)
def test_what_is_no_text_can_be_read_back(value):
    """It is JSON."""
    if value == "":
        return
    found = key_of("{note}", order=ORDER, note=value)
    assert (found if isinstance(value, str) else json.loads(found)) == value
