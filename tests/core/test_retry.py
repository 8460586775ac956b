"""When a failed job is tried again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.core.errors import ConfigError
from heavylift.core.retry import Exponential, Fixed, Retry, exponential, fixed

CHANCE = st.floats(0, 1, exclude_max=True)


def test_the_default_is_three_starts_from_two_seconds_with_jitter():
    """The documented default budget and backoff."""
    assert Retry() == Retry(3, Exponential(base=2.0, factor=2.0, maximum=3600.0, jitter=True))


def test_an_exponential_delay_doubles_up_to_its_maximum():
    """Without jitter the delays are the plain powers, capped."""
    backoff = exponential(2, maximum="1m", jitter=False)
    assert [backoff.delay(failures, 0.9) for failures in range(1, 8)] == [2, 4, 8, 16, 32, 60, 60]


def test_a_factor_of_one_keeps_the_delay():
    """The smallest factor is allowed."""
    assert exponential("3s", 1, jitter=False).delay(9, 0) == 3.0


@given(st.floats(0, 1e9), st.floats(1, 1000), st.floats(0, 1e9), st.integers(1, 10_000), CHANCE)
def test_jitter_takes_half_to_all_of_the_capped_delay(base, factor, maximum, failures, random):
    """However many failures: never an overflow, never over the maximum, never under half of it."""
    backoff = exponential(base, factor, maximum)
    whole = exponential(base, factor, maximum, jitter=False).delay(failures, random)
    assert whole / 2 <= backoff.delay(failures, random) <= whole <= maximum


@given(st.integers(1, 99), CHANCE)
def test_the_delay_never_shrinks_with_more_failures(failures, random):
    """The same chance gives at least the same wait the next time."""
    backoff = exponential()
    assert backoff.delay(failures, random) <= backoff.delay(failures + 1, random)


def test_jitter_spreads_the_retries():
    """A thousand jobs that fail at once do not come back at once."""
    delays = {exponential(2).delay(1, number / 1000) for number in range(1000)}
    assert len(delays) == 1000
    assert (min(delays), max(delays)) == pytest.approx((1, 2), abs=0.01)


def test_a_fixed_delay_is_always_the_same():
    """Durations are read as everywhere."""
    assert [fixed("1m").delay(failures, 0.3) for failures in (1, 50)] == [60.0, 60.0]


@pytest.mark.parametrize("factor", [0, 0.99, -2, math.nan, math.inf, 1001, "2", None, True])
def test_a_factor_that_is_no_growth_is_refused(factor):
    """A factor below one, or one that overflows, is named."""
    with pytest.raises(ConfigError, match=r"^factor: .*from 1 to 1000"):
        exponential(2, factor)


@pytest.mark.parametrize(
    ("make", "name", "wrong"), [(exponential, "base", -1), (exponential, "maximum", None), (fixed, "delay", "soon")]
)
def test_a_delay_that_is_no_duration_is_refused(make, name, wrong):
    """The parameter is named in the message."""
    with pytest.raises(ConfigError, match=rf"^{name}: .* is no duration"):
        make(**{name: wrong})


@pytest.mark.parametrize("attempts", [0, -1, 1.0, "3", True, None])
def test_a_number_of_starts_is_an_integer_from_one(attempts):
    """Zero starts would be no job; a boolean is no number."""
    with pytest.raises(ConfigError, match=r"^attempts: .*integer ≥ 1"):
        Retry(attempts)


@pytest.mark.parametrize(
    "delay", ["10s", 10, None, exponential, fixed], ids=["text", "number", "none", "exponential", "fixed"]
)
def test_a_delay_must_be_a_backoff_or_a_function(delay):
    """A bare duration, or `exponential` without its call, is refused when it is written, not when a job fails."""
    with pytest.raises(ConfigError, match=r"^delay: .*exponential\(2\)"):
        Retry(3, delay)


@pytest.mark.parametrize("classes", [ValueError, [ValueError], (ValueError("x"),), ("ValueError",), None])
@pytest.mark.parametrize("name", ["on", "but"])
def test_exception_classes_are_a_tuple_of_classes(name, classes):
    """What `isinstance` could not take is refused at once."""
    with pytest.raises(ConfigError, match=rf"^{name}: .*{name}=\(ConnectionError,\)"):
        Retry(**{name: classes})


def test_a_function_decides_with_the_failures_and_the_exception():
    """It is kept as it is; where no exception is at hand, the default backoff serves."""
    policy = Retry(5, lambda failures, error: failures * 10 if isinstance(error, OSError) else None)
    assert policy.delay(2, OSError()) == 20
    assert policy.delay(1, ValueError()) is None
    assert policy.backoff == Exponential()


def test_a_backoff_of_its_own_serves_timeouts_too():
    """`backoff` is the given one when it is no function."""
    assert Retry(3, fixed(7)).backoff == Fixed(7.0)


COVERED = {
    "any exception by default": (Retry(), ValueError(), True),
    "no SystemExit by default": (Retry(), SystemExit(), False),
    "no KeyboardInterrupt by default": (Retry(), KeyboardInterrupt(), False),
    "one that is named": (Retry(on=(OSError,)), OSError(), True),
    "a subclass": (Retry(on=(OSError,)), ConnectionError(), True),
    "another": (Retry(on=(OSError,)), ValueError(), False),
    "one that is excepted": (Retry(but=(ValueError,)), ValueError(), False),
    "excepted wins over named": (Retry(on=(OSError,), but=(ConnectionError,)), ConnectionResetError(), False),
    "none at all": (Retry(on=()), ValueError(), False),
}


@pytest.mark.parametrize(("policy", "error", "covered"), COVERED.values(), ids=COVERED)
def test_exceptions_are_tried_again_by_class(policy, error, covered):
    """`on` names who is tried again, `but` who is not."""
    assert policy.covers(error) is covered
