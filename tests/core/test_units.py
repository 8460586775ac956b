"""Durations and sizes as people write them."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.core.errors import ConfigError
from heavylift.core.units import seconds, size

CENTURY = 100 * 366 * 86400

DURATIONS = {
    "zero": (0, 0.0),
    "an integer": (90, 90.0),
    "a float": (0.25, 0.25),
    "a bare number as text": ("90", 90.0),
    "an exponent": ("1e3", 1000.0),
    "milliseconds": ("250ms", 0.25),
    "seconds": ("90s", 90.0),
    "minutes": ("10m", 600.0),
    "hours": ("2h", 7200.0),
    "days": ("1d", 86400.0),
    "weeks": ("1w", 604800.0),
    "several units": ("1h30m", 5400.0),
    "several units with spaces": (" 1h 30m 5s ", 5405.0),
    "a fraction": ("1.5h", 5400.0),
    "a timedelta": (timedelta(minutes=10), 600.0),
    "the longest": (CENTURY, float(CENTURY)),
}


@pytest.mark.parametrize(("value", "expected"), DURATIONS.values(), ids=DURATIONS)
def test_a_duration_is_read_as_people_write_it(value, expected):
    """Numbers, texts and timedeltas become seconds."""
    found = seconds(value)
    assert found == pytest.approx(expected)
    assert type(found) is float


HOSTILE_DURATIONS = {
    "negative": -1,
    "negative zero's neighbour": -5e-324,
    "negative text": "-5s",
    "negative timedelta": timedelta(seconds=-1),
    "true": True,
    "none": None,
    "not a number": math.nan,
    "not a number as text": "nan",
    "infinity": math.inf,
    "infinity as text": "inf",
    "too many digits for a float": "9" * 400,
    "too many digits before a unit": "9" * 400 + "s",
    "too large an integer": 10**400,
    "too large to be printed": 10**5000,
    "longer than a century": CENTURY * 1.01,
    "the longest timedelta": timedelta.max,
    "empty": "",
    "blank": "  ",
    "a unit alone": "m",
    "an unknown unit": "3y",
    "a month or a minute": "3M",
    "a number behind": "3m4",
    "two points": "1.2.3s",
    "a list": [1],
    "bytes": b"1s",
    "many parts": "1s" * 5000 + "!",
}


@pytest.mark.parametrize("value", HOSTILE_DURATIONS.values(), ids=HOSTILE_DURATIONS)
def test_what_is_no_duration_is_refused_with_its_name_and_the_fix(value):
    """The message names the option and shows how to write it, and is short whatever came."""
    with pytest.raises(ConfigError, match=r"^timeout: .* is no duration; give seconds .*'10m'") as caught:
        seconds(value, "timeout")
    assert len(str(caught.value)) < 400


SIZES = {
    "an integer": (1, 1),
    "a bare number as text": ("1048576", 2**20),
    "bytes": ("12B", 12),
    "decimal": ("2MB", 2_000_000),
    "binary": ("512MiB", 512 * 2**20),
    "a fraction": ("1.5GiB", 3 * 2**29),
    "a space": (" 1 GiB ", 2**30),
    "large": ("2TiB", 2**41),
    "the largest": (2**63 - 1, 2**63 - 1),
}


@pytest.mark.parametrize(("value", "expected"), SIZES.values(), ids=SIZES)
def test_a_size_is_read_as_people_write_it(value, expected):
    """Integers and texts become bytes."""
    found = size(value)
    assert found == expected
    assert type(found) is int


HOSTILE_SIZES = {
    "zero": 0,
    "zero as text": "0",
    "zero with a unit": "0MiB",
    "less than a byte": "0.1B",
    "negative": -1,
    "a float": 1.5,
    "true": True,
    "none": None,
    "an unknown unit": "5XB",
    "a wrong case": "5mib",
    "a point": "1.5",
    "superscript": "²",
    "too many digits": "9" * 400,
    "too many digits before a unit": "9" * 400 + "GiB",
    "beyond 63 bits": 2**63,
    "beyond 63 bits with a unit": "9000000TiB",
}


@pytest.mark.parametrize("value", HOSTILE_SIZES.values(), ids=HOSTILE_SIZES)
def test_what_is_no_size_is_refused_with_its_name_and_the_fix(value):
    """The message names the option and shows how to write it."""
    with pytest.raises(ConfigError, match=r"^memory: .* is no size; give bytes .*'512MiB'"):
        size(value, "memory")


@given(st.one_of(st.text(max_size=30), st.floats(), st.integers(), st.timedeltas(), st.binary(max_size=5)))
def test_any_value_is_a_finite_duration_or_a_config_error(value):
    """No input makes another error, or a number that a clock could not bear."""
    try:
        found = seconds(value)
    except ConfigError:
        return
    assert 0 <= found <= CENTURY


@given(st.one_of(st.text(max_size=30), st.from_regex(r"\A\d{1,30}(\.\d)? ?[KMGT]?i?B?\Z"), st.integers()))
def test_any_value_is_a_positive_size_or_a_config_error(value):
    """No input makes another error."""
    try:
        found = size(value)
    except ConfigError:
        return
    assert 1 <= found < 2**63
