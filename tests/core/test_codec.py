"""Values as JSON bytes, strictly."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.core.codec import NotJson, checked, decode, encode

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(values)
def test_every_json_value_comes_back(value):
    """Exactly, numbers of any size and texts of any characters included, and as other parsers read it."""
    data = encode(value)
    assert decode(data) == value
    assert json.loads(data) == value


def test_the_bytes_are_compact():
    """No spaces, no escapes that are not needed."""
    assert encode({"a": [1, "ü"], "b": None}) == '{"a":[1,"ü"],"b":null}'.encode()


@given(st.one_of(st.binary(max_size=40), st.text(max_size=40)))
def test_any_bytes_are_decoded_or_refused(data):
    """No input makes another error."""
    try:
        value = decode(data)
    except NotJson:
        return
    assert json.loads(encode(value)) is not None or value is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan], {"a": {"b": math.inf}}], ids=str)
def test_numbers_that_are_none_are_refused(value):
    """With a message that says what they are."""
    with pytest.raises(NotJson, match="NaN or an infinity"):
        encode(value)


@pytest.mark.parametrize("data", [b"NaN", b"[Infinity]", b'{"a":-Infinity}'])
def test_numbers_that_are_none_are_not_read(data):
    """Parsers that are not strict let these pass."""
    with pytest.raises(NotJson):
        decode(data)


def test_checked_tells_words_from_numbers():
    """The words may stand in texts and keys."""
    for data in (b'["NaN"]', b'{"Infinity":1}', b"[1]"):
        assert checked(data) is data
    for data in (b"[NaN]", b'["NaN",NaN]', b"-Infinity"):
        with pytest.raises(NotJson):
            checked(data)


def test_the_last_of_two_equal_keys_counts():
    """As JavaScript and Python have it."""
    assert decode(b'{"a":1,"a":2}') == {"a": 2}


def test_not_json_is_a_value_error():
    """So that code which knows `json` is not surprised."""
    assert issubclass(NotJson, ValueError)
