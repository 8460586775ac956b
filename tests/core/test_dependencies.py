"""Dependencies of tasks: who provides what, in which order, and what is refused when the task is defined."""

from __future__ import annotations

import functools
import json
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Optional

import pytest
from tests.core.binding import MIB, bind, problems_of, task_of

from heavylift import Heavylift, Provide, provided
from heavylift.context import Context
from heavylift.core import dependency
from heavylift.core.dependency import Kind
from heavylift.core.errors import ConfigError
from heavylift.core.options import Options
from heavylift.core.task import define

if typing.TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers


def engine() -> Iterator[str]:
    yield "engine"


Engine = Annotated[str, Provide(engine, scope="host")]


def settings() -> dict[str, str]:
    return {}


def session(ctx: Context, base: Engine, settings: Annotated[dict, Provide(settings)], size: int = 1) -> Iterator[str]:
    yield "session"


def mailer(db: Annotated[str, Provide(session)], settings: Annotated[dict, Provide(settings)]) -> str:
    return "mailer"


def report(ctx: Context, number: int, *, mail: Annotated[str, Provide(mailer)], db: Annotated[str, Provide(session)]):
    return number


async def fetch() -> str:
    return "fetched"


async def stream() -> AsyncIterator[str]:
    yield "streamed"


class Client:
    def __init__(self, base: Engine) -> None: ...
    def __call__(self, base: Engine) -> str: ...


def names(task):
    return [provider.function for provider in task.plan.providers]


def test_each_provider_comes_once_after_what_it_needs_and_those_of_the_host_first():
    task = task_of(report)
    assert names(task) == [engine, settings, session, mailer]
    found = {provider.function: provider for provider in task.plan.providers}
    assert found[session].context == "ctx"
    assert set(found[session].needs) == {"base", "settings"}
    assert [found[one].kind for one in (engine, mailer)] == [Kind.GENERATOR, Kind.VALUE]
    assert set(task.plan.parameters) == {"mail", "db"}


def test_a_provided_parameter_is_no_argument():
    assert bind(report, 7) == {"number": 7}
    assert list(task_of(report).schema()["properties"]) == ["number"]
    problems = problems_of(lambda: task_of(report).bind((7,), {"db": "mine"}, MIB))
    assert problems == {"/db": "there is no such argument."} or problems["/db"].startswith("there is no such argument")
    body = json.dumps({"number": 7, "mail": "mine"}).encode()
    assert problems_of(lambda: task_of(report).bind_json(body, MIB))["/mail"].startswith("there is no such argument")
    assert task_of(report).faults() == {}


def test_a_type_that_is_imported_for_type_checkers_alone_may_be_that_of_a_provided_parameter_in_the_builder():
    def pay(amount: int, rate: OnlyForTypeCheckers) -> int:
        return amount

    task = define(pay, None, Options(), Context, (), {"rate": Provide(settings)})
    assert list(task.schema()["properties"]) == ["amount"]


def test_classes_partials_and_objects_provide_too():
    def use(
        one: Annotated[Client, Provide(Client)],
        two: Annotated[str, Provide(Client(""))],
        three: Annotated[str, Provide(functools.partial(session, size=2))],
    ): ...

    task = define(use, None, Options(), Context, (), annotated(use, one=Client, two=Client(""), three=session))
    assert [provider.kind for provider in task.plan.providers if provider.function is not engine] == [
        *(Kind.VALUE, Kind.VALUE, Kind.VALUE, Kind.GENERATOR)
    ]
    assert dependency.kind_of(functools.partial(session, size=2)) is Kind.GENERATOR


def annotated(_function, **functions):
    return {name: Provide(function) for name, function in functions.items()}


async def asynchronous(
    value: Annotated[str, Provide(fetch)],
    streamed: Annotated[str, Provide(stream)],
    sync: Annotated[str, Provide(settings)],
): ...


def test_async_tasks_may_have_providers_of_all_kinds():
    kinds = [provider.kind for provider in task_of(asynchronous).plan.providers]
    assert kinds == [Kind.COROUTINE, Kind.ASYNC_GENERATOR, Kind.VALUE]


# --- what is refused ---------------------------------------------------------------------------------------------


def left(other: Annotated[str, Provide(lambda: right)]): ...
def right(other: Annotated[str, Provide(left)]): ...
def lonely(number: int): ...
def positional(number, /): ...
def kept(db: Annotated[str, Provide(session)]): ...
def kept_with_context(ctx: Context): ...
def needs_async(value: Annotated[str, Provide(fetch)]): ...


left.__annotations__["other"] = Annotated[str, Provide(right)]


def circle(x: Annotated[str, Provide(left)]): ...
def unprovided(x: Annotated[str, Provide(lonely)]): ...
def unnamed(x: Annotated[str, Provide(positional)]): ...
def host_needs_job(x: Annotated[str, Provide(kept, scope="host")]): ...
def host_needs_context(x: Annotated[str, Provide(kept_with_context, scope="host")]): ...
def plain_needs_async(x: Annotated[str, Provide(fetch)]): ...
def plain_needs_async_below(x: Annotated[str, Provide(needs_async)]): ...
def several(x: Annotated[str, Provide(engine), Provide(settings)]): ...
def inside(x: Optional[Annotated[str, Provide(engine)]]): ...  # noqa: UP045  as people write it
def unresolved(x: Annotated[Missing, Provide(engine)]): ...  # noqa: F821  that is what is tested
def builtin(x: Annotated[str, Provide(dict.fromkeys)]): ...


MISTAKES = {
    circle: ("left → ", "out of the circle"),
    unprovided: ("nobody provides 'number' of its provider lonely", "give it a default"),
    unnamed: ("nobody provides 'number'", "give it a default"),
    host_needs_job: ("needs session, which lives as long as a job", 'scope="host"'),
    host_needs_context: ("a Context is a job's", 'scope="job"'),
    plain_needs_async: ("fetch is async", "`async def`"),
    plain_needs_async_below: ("fetch is async", "`async def`"),
    several: ("several providers", "keep one"),
    inside: ("inside its type", "the whole annotation"),
    unresolved: ("cannot be resolved", "outside `if TYPE_CHECKING`"),
}


@pytest.mark.parametrize(("function", "words"), MISTAKES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_cannot_work_is_refused_with_task_parameter_and_fix(function, words):
    with pytest.raises(ConfigError) as caught:
        task_of(function)
    for word in (f"Task '{function.__name__}', parameter 'x'", *words):
        assert word in str(caught.value)


def too_late(x: LateEngine): ...  # noqa: F821  that is what is tested


def test_a_provider_that_was_not_known_yet_is_refused_at_first_use():
    task = task_of(too_late)
    globals()["LateEngine"] = Engine
    try:
        with pytest.raises(ConfigError, match="parameter 'x': its annotation has a provider, but"):
            task.bind(("mine",), {}, MIB)
    finally:
        del globals()["LateEngine"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Provide(7), "cannot be called"),
        (lambda: Provide(engine, scope="worker"), "give 'job' or 'host'"),
        (lambda: Provide(type("Odd", (), {"__call__": print, "__hash__": None})()), "has no hash"),
    ],
)
def test_a_provide_that_cannot_work_is_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


# --- overrides and the builder -----------------------------------------------------------------------------------


def plain_settings() -> dict[str, str]:
    return {}


def test_an_override_takes_the_place_of_a_provider_and_brings_its_own_needs():
    def fake(ctx: Context, other: Annotated[str, Provide(settings)]) -> str:
        return "fake"

    fake.__annotations__ = {"ctx": Context, "other": Annotated[str, Provide(settings)]}
    task = task_of(report)
    plan = dependency.plan(task.name, report, task.plan.parameters, Context, {session: fake, settings: plain_settings})
    assert [provider.function for provider in plan.providers] == [plain_settings, fake, mailer]
    assert plan.providers[1].provide == Provide(session)


def plain_report(ctx: Context, number: int, db: str, mail: str = "none") -> int:
    """Without annotations of providers."""
    return number


def test_the_builder_makes_the_same_task_as_the_decorator():
    lift = Heavylift("memory://")
    definition = lift.define("report-on").options(timeout="30m").options(retry=2).provide(db=engine)
    task = definition.handler(plain_report)
    assert lift.registry["report-on"] is task.task
    assert (task.options.timeout, task.options.retry.attempts) == (1800, 2)
    assert names(task.task) == [engine]
    assert list(task.task.parameters) == ["number", "mail"]
    assert task(Context.fake(), 7, "db") == 7
    with pytest.raises(ConfigError, match="There is a task 'report-on' already"):
        definition.handler(plain_report)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda define: define.options(timeot="30m"), "Did you mean 'timeout'"),
        (lambda define: define.provide(db=7), "cannot be called"),
        (
            lambda define: define.provide(dbb=engine).handler(plain_report),
            "no parameter of that name. Did you mean 'db'",
        ),
        (lambda define: define.provide(ctx=engine).handler(plain_report), "the Context is not to be provided"),
        (lambda define: define.handler(7), "is no function"),
    ],
)
def test_a_mistake_in_the_builder_is_named(make, words):
    with pytest.raises(ConfigError, match=words):
        make(Heavylift("memory://").define("report-on"))


def test_the_default_of_a_provided_parameter_says_what_it_is():
    assert repr(provided) == "<provided where the task runs>"
