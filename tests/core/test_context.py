"""What running code sees: progress, checkpoints, the log, and the news that it is to stop."""

import json
import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift import context as context_module
from heavylift.context import Context
from heavylift.core import codec
from heavylift.core.errors import Cancelled, ConfigError


class Reporter:
    """Records what it is told, and says stop when the test does."""

    def __init__(self):
        self.stop = False
        self.heard = []

    def progress(self, value):
        self.heard.append(("progress", value))

    def checkpoint(self, value):
        self.heard.append(("checkpoint", value))

    def log(self, level, message):
        self.heard.append(("log", level, message))

    def cancelled(self):
        return self.stop


@pytest.fixture
def reporter():
    return Reporter()


@pytest.fixture
def ctx(reporter):
    return Context(reporter, job_id="j1", task="build", attempt=3, failures=1, max_checkpoint=20)


@pytest.fixture
def clock(monkeypatch):
    """A monotonic clock that the test sets."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

        def time(self):
            return 1770000000.0

    clock = Clock()
    monkeypatch.setattr(context_module, "time", clock)
    return clock


def last(reporter):
    return reporter.heard[-1][1]


# --- progress --------------------------------------------------------------------------------------------------


def test_progress_has_a_percent_when_the_total_is_known(ctx, reporter, clock):
    """Between 0 and 100, whatever the numbers."""
    ctx.progress(7, 10, "half-way", phase="load", unit="rows")
    assert last(reporter) == {
        "done": 7,
        "total": 10,
        "percent": 70.0,
        "message": "half-way",
        "phase": "load",
        "unit": "rows",
        "at": 1770000000.0,
    }


PERCENTS = {
    "over the total": (11, 10, 100.0),
    "below nothing": (-1, 10, 0.0),
    "no total": (5, None, None),
    "a total of nothing": (0, 0, None),
    "a message alone": (None, None, None),
    "a total alone": (None, 10, None),
    "seven of a hundred": (7, 100, 7.0),
    "huge": (10**400, 10**400, None),
    "overflowing": (1e308, 1e308, 100.0),
    "a decimal": (Decimal("2.5"), 10, 25.0),
    "a fraction": (Fraction(1, 2), 1, 50.0),
    "not a number": (math.nan, 10, None),
    "of infinity": (1, math.inf, None),
}


@pytest.mark.parametrize(("done", "total", "percent"), PERCENTS.values(), ids=PERCENTS)
def test_a_percent_is_between_0_and_100_or_absent(ctx, reporter, done, total, percent):
    """Odd numbers make a report poorer; they never fail the job."""
    ctx.progress(done, total)
    assert last(reporter)["percent"] == percent
    codec.encode(last(reporter))


@given(
    st.none() | st.floats() | st.integers(),
    st.none() | st.floats() | st.integers(),
    st.text() | st.integers() | st.none(),
)
def test_any_progress_can_be_written_as_json(done, total, message):
    """NaN, huge numbers and texts with lone surrogates included."""
    reporter = Reporter()
    Context(reporter, job_id="j1", task="build", attempt=1).progress(done, total, message)
    value = json.loads(codec.encode(last(reporter)))
    assert value["percent"] is None or 0 <= value["percent"] <= 100


def test_texts_of_file_names_are_cleaned(ctx, reporter):
    """Names that are no UTF-8 come as lone surrogates, which JSON cannot hold."""
    ctx.progress(message="reading \udcff.csv")
    assert last(reporter)["message"] == "reading \\udcff.csv"
    ctx.log.info("read %s", "\udcff.csv")
    assert reporter.heard[-1] == ("log", "info", "read \\udcff.csv")


# --- track -----------------------------------------------------------------------------------------------------


def test_track_yields_all_items_and_counts_them(ctx, reporter):
    """One report before the first, one after each."""
    assert list(ctx.track("abc", message="letters", unit="letters")) == ["a", "b", "c"]
    reports = [value for _, value in reporter.heard]
    assert [(value["done"], value["total"]) for value in reports] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert {(value["message"], value["unit"]) for value in reports} == {("letters", "letters")}


def test_track_knows_no_total_of_a_generator(ctx, reporter):
    """Unless it is told."""
    assert list(ctx.track(iter("ab"))) == ["a", "b"]
    assert last(reporter)["total"] is None
    assert list(ctx.track(iter("ab"), total=2)) == ["a", "b"]
    assert last(reporter)["percent"] == 100.0


def test_track_goes_on_counting_where_the_last_attempt_was(ctx, reporter):
    """`items` are those that are left, `start` those that were done."""
    assert list(ctx.track([3, 4], start=2)) == [3, 4]
    assert (last(reporter)["done"], last(reporter)["total"]) == (4, 4)


def test_track_is_a_cancel_point_at_each_item(ctx, reporter):
    """The item that would come next is not begun."""
    items = ctx.track([1, 2, 3])
    assert [next(items), next(items)] == [1, 2]
    reporter.stop = True
    with pytest.raises(Cancelled):
        next(items)
    assert last(reporter)["done"] == 2


# --- cancel ----------------------------------------------------------------------------------------------------


def test_a_cancel_point_raises_only_when_the_job_is_to_stop(ctx, reporter):
    """Cancelled is no Exception, so that `except Exception` does not swallow it."""
    ctx.raise_if_cancelled()
    assert ctx.cancelled is False
    reporter.stop = True
    assert ctx.cancelled is True
    with pytest.raises(Cancelled) as caught:
        ctx.raise_if_cancelled()
    assert not isinstance(caught.value, Exception)


# --- checkpoints -----------------------------------------------------------------------------------------------


def test_a_checkpoint_is_resumed_from(ctx, reporter):
    """At once, and by the next attempt with what was reported."""
    assert ctx.resume() is None
    assert ctx.resume({"row": 0}) == {"row": 0}
    ctx.checkpoint({"row": 5})
    assert ctx.resume({"row": 0}) == {"row": 5}
    following = Context(reporter, job_id="j1", task="build", attempt=4, checkpoint=last(reporter))
    assert following.resume() == {"row": 5}


def test_a_saved_null_is_a_checkpoint_too(ctx):
    """It is a value like any other, not the absence of one."""
    ctx.checkpoint(None)
    assert ctx.resume("default") is None


def test_a_resumed_value_may_be_changed_freely(ctx):
    """Each call gives a fresh one."""
    ctx.checkpoint({"row": 1})
    ctx.resume()["row"] = 99
    assert ctx.resume() == {"row": 1}


def test_checkpoints_with_an_interval_are_saved_that_often_at_most(ctx, reporter, clock):
    """The first one at once; one without an interval counts too."""
    for now, value in [(100, 1), (104, 2), (105, 3), (109, 4), (110, 5)]:
        clock.now = now
        ctx.checkpoint(value, every="5s")
    assert [value for _, value in reporter.heard] == [b"1", b"3", b"5"]
    clock.now = 114
    ctx.checkpoint(6)
    clock.now = 116
    ctx.checkpoint(7, every=5)
    assert ctx.resume() == 6


def test_a_refused_checkpoint_does_not_count_as_saved(ctx, reporter, clock):
    """The next one is not held back for it, and the last good one stands."""
    ctx.checkpoint(1, every=5)
    clock.now += 5
    with pytest.raises(ConfigError):
        ctx.checkpoint(math.nan, every=5)
    ctx.checkpoint(2, every=5)
    assert [value for _, value in reporter.heard] == [b"1", b"2"]


@pytest.mark.parametrize("value", [math.nan, object(), b"\xff", "\ud800"])
def test_a_checkpoint_that_is_no_json_is_refused(ctx, reporter, value):
    """When it is saved, not when somebody resumes."""
    with pytest.raises(ConfigError, match="checkpoint cannot be written as JSON: "):
        ctx.checkpoint(value)
    assert reporter.heard == []


@pytest.mark.parametrize(("length", "fits"), [(18, True), (19, False)])
def test_a_checkpoint_may_take_exactly_the_limit(ctx, length, fits):
    """One byte more is refused with both numbers and the way out."""
    if fits:
        ctx.checkpoint("x" * length)
        return
    with pytest.raises(ConfigError, match=r"takes 21 bytes, the limit is 20\..*a reference to it, or raise max_result"):
        ctx.checkpoint("x" * length)


def test_an_interval_that_is_no_duration_is_refused(ctx):
    """It is named."""
    with pytest.raises(ConfigError, match=r"^every: "):
        ctx.checkpoint(1, every="often")


# --- the log ---------------------------------------------------------------------------------------------------

LINES = {
    "plain": (("100 %",), "100 %"),
    "an argument": (("row %d of %s", 5, "x"), "row 5 of x"),
    "a mapping": (("%(a)s", {"a": 1}), "1"),
    "an object": (([1, 2],), "[1, 2]"),
    "too few arguments": (("%s and %s", 1), "%s and %s (1,)"),
    "too many arguments": (("no place", 1), "no place (1,)"),
    "a wrong kind": (("%d", "x"), "%d ('x',)"),
    "a missing name": (("%(b)s", {"a": 1}), "%(b)s ({'a': 1},)"),
    "a wrong format": (("%!", 1), "%! (1,)"),
}


@pytest.mark.parametrize(("args", "line"), LINES.values(), ids=LINES)
def test_a_line_is_formatted_as_logging_does(ctx, reporter, args, line):
    """And as there, a wrong format costs no job."""
    ctx.log.info(*args)
    assert reporter.heard == [("log", "info", line)]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_a_line_has_its_level(ctx, reporter, level):
    """Named as in `logging`."""
    getattr(ctx.log, level)("hello")
    assert reporter.heard == [("log", level, "hello")]


# --- who it is -------------------------------------------------------------------------------------------------


def test_the_fence_is_the_job_and_its_attempt(ctx):
    """Other systems refuse a lower attempt of the same job with it."""
    assert ctx.fence == ("j1", 3)
    assert (ctx.task, ctx.failures) == ("build", 1)


def test_a_fake_context_lets_a_task_be_called_as_a_function():
    """Its reports are kept for the test, in order, as plain values."""
    ctx = Context.fake(checkpoint={"row": 4}, attempt=2)
    assert ctx.resume() == {"row": 4}
    ctx.log.info("at %d", 4)
    ctx.checkpoint({"row": 5})
    ctx.progress(5, 10)
    assert ctx.cancelled is False
    assert [kind for kind, _ in ctx.reports] == ["log", "checkpoint", "progress"]
    assert ctx.reports[:2] == [("log", ("info", "at 4")), ("checkpoint", {"row": 5})]
    assert ctx.attempt == 2
