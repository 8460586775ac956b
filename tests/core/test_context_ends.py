"""What a Context does without a worker: steps, shields, keys, clean-ups, temporary folders, and what steps keep."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.context import Context
from heavylift.core import checkpoint, codec
from heavylift.core.checkpoint import Saved
from heavylift.core.ending import chained, finish
from heavylift.core.errors import ConfigError


@dataclass
class Row:
    number: int


def row(number: int) -> Row:
    return Row(number)


async def row_later(number: int) -> Row:
    return Row(number)


def never(*_):
    pytest.fail("it was called again")


def again(context):
    """A context of the next attempt: with what this one has saved."""
    saved = [value for kind, value in context.reports if kind == "checkpoint"]
    return Context.fake(checkpoint=saved[-1] if saved else None, attempt=2)


# --- steps -----------------------------------------------------------------------------------------------------------


def test_a_step_gives_the_same_value_again_without_a_call():
    first = Context.fake()
    assert first.step("row", row, 7) == Row(7)
    later = again(first)
    never_row = lambda number: never()  # noqa: E731
    never_row.__annotations__ = {"return": Row}
    assert later.step("row", never_row, 7) == Row(7)
    assert later.resume("nothing") == "nothing"


async def test_a_step_of_a_coroutine_function_is_awaited():
    first = Context.fake()
    assert await first.step("row", row_later, 7) == Row(7)
    assert again(first).step("row", row, 8) == Row(7)


def test_steps_and_checkpoints_live_together():
    first = Context.fake()
    first.checkpoint([1])
    first.step("a", lambda: 1)
    first.checkpoint([2])
    later = again(first)
    assert later.resume() == [2]
    assert later.step("a", never) == 1
    later.step("b", lambda: None)
    last = again(later)
    assert (last.resume(), last.step("a", never), last.step("b", never)) == ([2], 1, None)


def test_a_checkpoint_alone_stands_as_it_is():
    context = Context.fake()
    context.checkpoint({"row": 2})
    assert context.reports == [("checkpoint", {"row": 2})]


def test_a_step_that_fails_is_done_again():
    context = Context.fake()
    with pytest.raises(ZeroDivisionError):
        context.step("a", lambda: 1 // 0)
    assert context.reports == []
    assert again(context).step("a", lambda: 1) == 1


def test_a_name_is_used_once_in_an_attempt():
    context = Context.fake()
    context.step("a", lambda: 1)
    with pytest.raises(ConfigError, match="has begun a step 'a' before; give each step a name"):
        context.step("a", lambda: 2)


def odd() -> Row:
    return "no row"  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (object, "result of step 'a' cannot be kept as JSON"),
        (odd, "result of step 'a' cannot be kept as JSON"),
        (lambda: "x" * 2**20, "checkpoint with the result of step 'a' takes 1,0.*the limit is 1,048,576"),
    ],
)
def test_a_result_that_cannot_be_kept_is_refused_and_harms_nothing(function, words):
    context = Context.fake()
    context.checkpoint([1])
    with pytest.raises(ConfigError, match=words):
        context.step("a", function)
    assert again(context).resume() == [1]


def test_a_kept_result_that_does_not_fit_any_more_is_named():
    first = Context.fake()
    first.step("row", lambda: "text")
    with pytest.raises(ConfigError, match="kept result of step 'row' does not fit"):
        again(first).step("row", row, 7)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.sampled_from(["$heavylift"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("$heavylift"), inner),
    max_leaves=8,
)


@given(
    value=values | st.just({"$heavylift": 1, "steps": {}}), steps=st.dictionaries(st.text(), values), has=st.booleans()
)
def test_what_is_kept_comes_back_whatever_it_looks_like(value, steps, has):
    saved = Saved(codec.encode(value) if has else None, {name: codec.encode(one) for name, one in steps.items()})
    data = checkpoint.written(saved)
    json.loads(data)
    found = checkpoint.read(data)
    assert found.value == saved.value
    assert dict(found.steps) == dict(saved.steps)


@pytest.mark.parametrize("data", [b'{"$heavylift":2,"steps":{}}', b'{"$heavylift":1}', b'["$heavylift"]'])
def test_what_is_no_envelope_is_a_value(data):
    assert checkpoint.read(data) == Saved(data)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_idempotency_keys_differ_by_job_and_name_and_not_by_attempt():
    def context(job, attempt=1):
        return Context(Context.fake()._reporter, job_id=job, task="task", attempt=attempt)

    keys = [context("a").idempotency_key(), context("a").idempotency_key("mail"), context("b").idempotency_key("mail")]
    assert len(set(keys)) == 3
    assert context("a", 5).idempotency_key("mail") == keys[1]


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_fake_context_is_ended_by_with():
    done = []
    with Context.fake() as context:
        context.on_exit(lambda: done.append(1))
        context.on_exit(lambda: done.append(folder.exists()))
        folder = context.tempdir
        (folder / "file").write_text("x")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert done == [True, 1]
    assert not folder.exists()


def test_what_an_exit_raises_is_chained_and_the_others_run():
    done = []
    context = Context.fake()
    context.on_exit(lambda: done.append("last"))
    context.on_exit(lambda: 1 // 0)
    context.on_exit(lambda: done.append("first"))
    error = context.leave(ValueError("the code"))
    assert done == ["first", "last"]
    assert isinstance(error, ZeroDivisionError)
    assert str(error.__context__) == "the code"


def test_a_coroutine_function_as_exit_of_a_plain_task_is_refused():
    context = Context.fake()

    async def later(): ...

    context.on_exit(later)
    error = context.leave(None)
    assert isinstance(error, ConfigError)
    assert "later is a coroutine function" in str(error)


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration(1), KeyboardInterrupt(), GeneratorExit()])
def test_a_provider_sees_any_error_and_cannot_change_it_by_letting_it_pass(error):
    seen = []

    def provider():
        try:
            yield 1
        except BaseException as caught:
            seen.append(caught)
            raise

    generator = provider()
    next(generator)
    finish(generator, "provider", error)
    assert seen == [error]


def test_a_chain_never_becomes_a_circle():
    first, second = ValueError(1), KeyError(2)
    second.__context__ = first
    assert chained(first, second) is second
    assert chained(second, first) is second
    assert chained(third := OSError(3), second) is third
    assert third.__context__ is second
