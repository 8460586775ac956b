"""The options of a job: what may be written, how it travels."""

import json
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.core.errors import ConfigError
from heavylift.core.limits import Concurrency, Rate
from heavylift.core.options import NAME, FollowUp, Options, OptionValues, from_data, to_data
from heavylift.core.retention import Retention
from heavylift.core.retry import Exponential, Fixed, Retry, exponential, fixed

FOLLOW_UP = FollowUp("alert", Options(priority=9))
GOOD = {
    "queue": [("reports", "reports"), ("a.b:c-d_9", "a.b:c-d_9"), ("x" * 128, "x" * 128)],
    "priority": [(0, 0), (9, 9), ("5", 5), (" 7 ", 7)],
    "delay": [(0, 0.0), ("10m", 600.0), (timedelta(seconds=3), 3.0)],
    "run_at": [
        (None, None),
        (0, 0.0),
        (1770000000.5, 1770000000.5),
        ("2026-01-31T09:00:00Z", 1769850000.0),
        ("2026-01-31T10:00:00+01:00", 1769850000.0),
        (datetime(2026, 1, 31, 9, tzinfo=UTC), 1769850000.0),
        (datetime(2026, 1, 31, 10, tzinfo=timezone(timedelta(hours=1))), 1769850000.0),
        ("9999-12-31T23:59:59Z", 253402300799.0),
    ],
    "timeout": [(None, None), ("10m", 600.0), (0.5, 0.5)],
    "grace": [(0, 0.0), ("5s", 5.0)],
    "retry": [(1, Retry(1)), (Retry(5, fixed(1)), Retry(5, fixed(1)))],
    "crashes": [(1, 1), (1000, 1000), ("3", 3)],
    "losses": [(1, 1), (1000, 1000)],
    "unique": [(None, None), ("report:7", "report:7"), ("ü" * 512, "ü" * 512)],
    "on_conflict": [(word, word) for word in ("return", "reject", "replace", "queue-one")],
    "unique_until": [("end", "end"), ("start", "start")],
    "unique_for": [(None, None), ("1h", 3600.0), (0.5, 0.5)],
    "debounce": [(None, None), ("2s", 2.0), (timedelta(minutes=1), 60.0)],
    "limits": [
        ([], ()),
        ([Concurrency(2), Rate("5/s")], (Concurrency(2), Rate("5/s"))),
        (tuple(Rate("1/s", key=f"{number}") for number in range(8)),) * 2,
    ],
    "fair_share": [(None, None), ("{customer}", "{customer}")],
    "expires": [(None, None), ("1h", 3600.0)],
    "on_exhausted": [(None, None), (FOLLOW_UP, FOLLOW_UP)],
    "keep": [(None, None), (Retention("1h", 5), Retention(3600.0, 5, None))],
    "labels": [({}, {}), ({"tenant": "acme"}, {"tenant": "acme"}), ({"n": 7}, {"n": "7"}), ({"a": "x" * 256},) * 2],
    "memory": [(None, None), ("1GiB", 2**30), (4096, 4096), ("4096", 4096)],
    "cpu_time": [(None, None), ("1h", 3600.0)],
    "processes": [(None, None), (1, 1), ("64", 64)],
    "address_space": [(None, None), ("4GiB", 2**32)],
    "open_files": [(None, None), (16, 16), ("1024", 1024)],
    "nice": [(0, 0), ("19", 19)],
    "run_in": [("process", "process"), ("thread", "thread"), ("loop", "loop")],
    "fresh": [(True, True), (False, False)],
}

BAD = {
    "queue": ["", "-x", "_x", "a b", "x" * 129, "ü", "a\n", None, 5],
    "priority": [-1, 10, 1.0, True, None, "high", "9" * 5000, "1.0"],
    "delay": [-1, "soon", None, True, float("nan"), 10**400],
    "run_at": [
        *("tomorrow", "10m", "", True, -1, float("nan"), float("inf"), 10**400, 253402300800),
        *("2026-01-31T09:00:00", "2026-01-31", datetime(2026, 1, 31), date(2026, 1, 31), timedelta(minutes=10)),  # noqa: DTZ001
        datetime(1969, 12, 31, tzinfo=UTC),
    ],
    "timeout": [0, "0s", -1, "soon", True],
    "grace": [-1, None, "x"],
    "retry": [0, -1, "3", None, True, 1.5, exponential(2)],
    "crashes": [0, 1001, True, None],
    "losses": [0, 1001, 1.5, "x"],
    "unique": ["", "x" * 513, "x" * 10_000, 7, b"x", "\ud800", "a\0b"],
    "on_conflict": ["ignore", None, "", [], True, "queue_one"],
    "unique_until": ["never", None, "", 5],
    "unique_for": [0, -1, "soon", True, float("nan")],
    "debounce": [0, "0s", -1, "soon", True],
    "limits": [
        *(None, "5/s", 5, ["5/s"], Concurrency(2), {Concurrency(2)}, [None]),
        [Rate("1/s", key=f"{number}") for number in range(9)],
    ],
    "fair_share": ["", "x" * 513, "x" * 10_000, 7, "a\0b"],
    "expires": [0, -1, "soon", True],
    "on_exhausted": ["alert", 5, len, Options()],
    "keep": ["7d", 5, {}],
    "labels": [
        *([("a", "b")], None, "a=b", {"a b": "x"}, {"": "x"}, {"a": "x" * 257}, {5: "x"}),
        *({"a": None}, {"a": True}, {"a": 1.5}, {"a": ["x"]}, {"a": "\udfff"}, {"a": "\0"}, {"a": 10**5000}),
        {f"k{number}": "v" for number in range(33)},
    ],
    "memory": [0, -1, 1.5, "lots", True],
    "cpu_time": [0, -1, "soon"],
    "processes": [0, -1, 2**22 + 1, "many", True],
    "address_space": [0, "all", True],
    "open_files": [0, 15, 2**20 + 1, 1.5],
    "nice": [-1, 20, None, True],
    "run_in": ["threads", "", None, 1, True, ["thread"]],
    "fresh": [None, 1, "yes", "true"],
}


KEYED = {"unique": "key"}
NEEDED = {"on_conflict": KEYED, "unique_until": KEYED, "unique_for": KEYED, "debounce": KEYED}
"""What has to be there for an option to make sense."""


def cases(table):
    return [
        pytest.param(name, value, id=f"{name}-{number}") for name in table for number, value in enumerate(table[name])
    ]


def test_the_tables_hold_every_option():
    """An option that is added later has to be tested, and to be known to type checkers."""
    options = set(Options.__dataclass_fields__)
    assert set(GOOD) == set(BAD) == options
    assert OptionValues.__annotations__.keys() == options | {"max_attempts"}


@pytest.mark.parametrize(("name", "case"), cases(GOOD))
def test_a_good_value_is_taken_and_cleaned(name, case):
    """People write durations, sizes and times in several ways; the job holds numbers."""
    given_value, expected = case
    needed = NEEDED.get(name, {})
    changed = Options().using(**{**needed, name: given_value})
    found = getattr(changed, name)
    assert found == expected
    assert type(found) is type(expected)
    assert {other for other in GOOD if getattr(changed, other) != getattr(Options(), other)} <= {name, *needed}


@pytest.mark.parametrize(("name", "value"), cases(BAD))
def test_a_bad_value_is_refused_and_its_option_named(name, value):
    """The message begins with the option, says what to give, and is short whatever came."""
    with pytest.raises(ConfigError) as caught:
        Options().using(**{name: value})
    message = str(caught.value)
    assert message.startswith((name, "attempts"))
    assert any(words in message for words in ("give", "add one", "neither true nor false"))
    assert len(message) < 500


@pytest.mark.parametrize(
    ("typo", "meant"), [("timout", "timeout"), ("que", "queue"), ("prio", "priority"), ("max_attempt", "max_attempts")]
)
def test_an_unknown_option_is_answered_with_did_you_mean(typo, meant):
    """And with all that there are."""
    with pytest.raises(
        ConfigError, match=rf"no option '{typo}'\. Did you mean '{meant}'\? \(options: .*unique_until\)"
    ):
        Options().using(**{typo: 1})


def test_what_resembles_no_option_gets_the_list_alone():
    """No wild guesses."""
    with pytest.raises(ConfigError, match=r"no option 'zzz'\. \(options: "):
        Options().using(zzz=1)


@pytest.mark.parametrize("bad", [0, 1001, "x", True])
def test_max_attempts_is_in_range(bad):
    """The short form of retry=Retry(n) is checked under its own name."""
    with pytest.raises(ConfigError, match=r"^max_attempts: .*from 1 to 1000"):
        Options().using(max_attempts=bad)


def test_max_attempts_keeps_the_rest_of_the_retry():
    """Whether the retry was there before or is given beside it, in either order."""
    fast = Retry(3, fixed(1), on=(OSError,))
    expected = Retry(7, fixed(1), on=(OSError,))
    assert Options(retry=fast).using(max_attempts="7").retry == expected
    assert Options().using(retry=fast, max_attempts=7).retry == expected
    assert Options().using(max_attempts=7, retry=fast).retry == expected


def test_using_leaves_the_original_alone():
    """Options are frozen; labels are copied, so that a caller's dict may change later."""
    labels = {"tenant": "acme"}
    changed = Options().using(labels=labels, priority=5)
    labels["tenant"] = "other"
    assert changed.labels == {"tenant": "acme"}
    assert Options().priority == 0
    with pytest.raises(AttributeError):
        changed.priority = 9


TOGETHER = {
    "a mode without a key": ({"on_conflict": "replace"}, "on_conflict: 'replace' says nothing without a unique key"),
    "a scope without a key": ({"unique_until": "start"}, "unique_until: 'start' says nothing without"),
    "a period without a key": ({"unique_for": "1h"}, "unique_for: 3600.0 says nothing without"),
    "debounce without a key": ({"debounce": 5}, "debounce: 5.0 says nothing without"),
    "debounce at a fixed time": ({**KEYED, "debounce": 5, "run_at": 99.0}, "debounce: .* no run_at"),
    "debounce that rejects": ({**KEYED, "debounce": 5, "on_conflict": "reject"}, "debounce: .* on_conflict='reject'"),
    "over before it starts": ({"expires": "1m", "delay": "1m"}, "expires: 60 s .* waits 60 s first"),
    "over before it is quiet": ({**KEYED, "expires": 5, "debounce": 9}, "expires: 5 s .* waits 9 s first"),
}


@pytest.mark.parametrize(("values", "message"), TOGETHER.values(), ids=TOGETHER)
def test_options_that_make_no_sense_together_are_refused(values, message):
    """Whether they come at once, or one after the other."""
    with pytest.raises(ConfigError, match=f"^{message}"):
        Options().using(**values)
    with pytest.raises(ConfigError, match=f"^{message}"):  # noqa: PT012  the last step, or one before it
        changed = Options()
        for name, value in values.items():
            changed = changed.using(**{name: value})


def test_what_excludes_nothing_is_taken():
    """The other side of each rule."""
    Options().using(**KEYED, debounce=5, delay=9, on_conflict="queue-one", unique_for="1h", expires="10s")
    Options().using(expires=60, delay=59.9)
    Options().using(expires=1, delay=60, run_at=99.0)  # run_at wins over delay
    Options().using(on_conflict="return", unique_until="end", unique_for=None)


LIMIT_MISTAKES = {
    "no job": (lambda: Concurrency(0), "Concurrency: 0 is no number of jobs"),
    "fewer than none": (lambda: Concurrency(-1), "Concurrency: -1 is no number"),
    "a switch": (lambda: Concurrency(True), "Concurrency: True is no number"),
    "a text": (lambda: Concurrency("2"), "Concurrency: '2' is no number"),
    "a rate of 0": (lambda: Rate("0/s"), "rate: '0/s' is no rate"),
    "no time": (lambda: Rate("5/0s"), "rate: '5/0s' is no rate"),
    "no rate": (lambda: Rate("fast"), "rate: 'fast' is no rate"),
    "a number": (lambda: Rate(5), "rate: 5 is no rate"),
    "an empty key": (lambda: Rate("5/s", key=""), "Rate: '' is no key"),
    "a key of 10 KB": (lambda: Concurrency(2, key="x" * 10_000), "Concurrency: 'xxx.*… is no key; give 1-512"),
    "no key": (lambda: Concurrency(2, key=None), "Concurrency: None is no key"),
    "NUL in a key": (lambda: Concurrency(2, key="a\0"), "Concurrency: .* is no key"),
    "a negative age": (lambda: Retention(-1), "age: -1 is no duration"),
    "fewer kept than none": (lambda: Retention(succeeded=-1), "succeeded: -1 is no number of jobs to keep"),
    "half a job": (lambda: Retention(failed=1.5), "failed: 1.5 is no number of jobs to keep"),
}


@pytest.mark.parametrize(("make", "message"), LIMIT_MISTAKES.values(), ids=LIMIT_MISTAKES)
def test_a_limit_that_is_none_is_refused_where_it_is_written(make, message):
    """With the reason, and short."""
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        make()
    assert len(str(caught.value)) < 500


keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=512)
durations = st.floats(0, 1e9)
options = st.builds(
    Options,
    queue=st.from_regex(NAME, fullmatch=True),
    priority=st.integers(0, 9),
    delay=durations,
    run_at=st.none() | durations,
    timeout=st.none() | durations,
    grace=durations,
    retry=st.builds(
        Retry,
        st.integers(1, 1000),
        st.builds(Fixed, durations) | st.builds(Exponential, durations, st.floats(1, 1000), durations, st.booleans()),
    ),
    crashes=st.integers(1, 1000),
    losses=st.integers(1, 1000),
    unique=st.none() | st.text(min_size=1, max_size=512),
    on_conflict=st.sampled_from(["return", "reject", "replace", "queue-one"]),
    unique_until=st.sampled_from(["start", "end"]),
    unique_for=st.none() | durations,
    debounce=st.none() | durations,
    limits=st.lists(
        st.builds(Concurrency, st.integers(1, 10**6), keys) | st.builds(Rate, st.just("5/30s"), keys), max_size=8
    ).map(tuple),
    fair_share=st.none() | keys,
    expires=st.none() | durations,
    on_exhausted=st.none() | st.just(FOLLOW_UP),
    keep=st.none() | st.builds(Retention, durations, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9)),
    labels=st.dictionaries(st.from_regex(NAME, fullmatch=True), st.text(max_size=256), max_size=5),
    memory=st.none() | st.integers(1, 2**63 - 1),
    cpu_time=st.none() | durations,
    processes=st.none() | st.integers(1, 2**22),
    address_space=st.none() | st.integers(1, 2**63 - 1),
    open_files=st.none() | st.integers(16, 2**20),
    nice=st.integers(0, 19),
)


@given(options)
def test_options_come_back_from_json_as_they_were(value):
    """Every combination survives the way to the store and back."""
    assert from_data(json.loads(json.dumps(to_data(value)))) == value


def test_plain_options_travel_as_nothing():
    """A job with defaults costs no bytes."""
    assert to_data(Options()) == {}
    assert from_data({}) == Options()


def test_functions_and_classes_of_a_retry_stay_behind():
    """They are the task's own; the job carries what is a number."""
    policy = Retry(4, lambda failures, _error: failures, on=(OSError,))
    assert from_data(to_data(Options(retry=policy))).retry == Retry(4, Exponential())


def test_cleaned_values_are_taken_again():
    """What `using` made may be given to `using`: the second look changes nothing."""
    apart = {"debounce", "run_at"}  # these two exclude each other
    first = Options().using(**{name: values[-1][0] for name, values in GOOD.items() if name not in apart})
    again = {name: getattr(first, name) for name in GOOD}
    assert Options().using(**again) == first
