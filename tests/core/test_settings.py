"""Settings: from keyword arguments, else the environment, else the defaults."""

import pytest

from heavylift.core.errors import ConfigError
from heavylift.settings import Settings
from heavylift.sources import PREFIX

DOCUMENTED = {
    "store": "sqlite:///heavylift.db",
    "role": "monolith",
    "host": "127.0.0.1",
    "port": 8000,
    "queues": {},
    "concurrency": 0,
    "coroutines": 100,
    "threads": 32,
    "idle": 30.0,
    "nice": 10,
    "processes": 500,
    "recycle_jobs": 0,
    "recycle_memory": 2**31,
    "recycle_age": 3600.0,
    "lease": 15.0,
    "beat": 5.0,
    "sweep": 5.0,
    "poll": 1.0,
    "drain": 20.0,
    "max_payload": 2**20,
    "max_result": 2**20,
    "max_log": 2**20,
    "keep": 7 * 86400.0,
    "keep_succeeded": 0,
    "keep_failed": 0,
    "stalled": 300.0,
    "log_level": "info",
    "log_format": "auto",
    "log_jobs": True,
    "job_log_level": "info",
    "metrics_port": 0,
    "metrics_host": "127.0.0.1",
}


NAMES = Settings.__dataclass_fields__.keys() - {"origins"}


def test_the_defaults_are_the_documented_ones():
    """A setting that is added, or a default that changes, has to be written down here too."""
    loaded = Settings.load({})
    assert {name: getattr(loaded, name) for name in NAMES} == DOCUMENTED


GOOD = {
    "store": [(" redis://x ", "redis://x")],
    "role": [("worker", "worker"), (" API ", "api")],
    "host": [("::1", "::1")],
    "port": [("0", 0), (65535, 65535)],
    "queues": [
        ("reports, mail:2", {"reports": 1, "mail": 2}),
        ("a:b", {"a:b": 1}),
        ("a:2:3", {"a:2": 3}),
    ],
    "concurrency": [("4", 4), (4, 4), (0, 0)],
    "coroutines": [("1", 1), (1000, 1000)],
    "threads": [("1", 1), (1000, 1000)],
    "idle": [("1m", 60.0), (0, 0.0)],
    "nice": [("19", 19), (0, 0)],
    "processes": [("100", 100)],
    "recycle_jobs": [("100", 100)],
    "recycle_memory": [("1GiB", 2**30), ("1048576", 2**20), (5, 5)],
    "recycle_age": [("1h", 3600.0)],
    "lease": [("1m", 60.0)],
    "beat": [("100ms", 0.1)],
    "sweep": [("0.05", 0.05)],
    "poll": [(0.001, 0.001)],
    "drain": [("0", 0.0)],
    "max_payload": [("2MiB", 2**21)],
    "max_result": [("2MiB", 2**21)],
    "max_log": [("2MiB", 2**21)],
    "keep": [("1d", 86400.0), ("0s", 0.0)],
    "keep_succeeded": [("5", 5)],
    "keep_failed": [("5", 5)],
    "stalled": [("10m", 600.0), (0, 0.0)],
    "log_level": [("WARNING", "warning"), (" debug ", "debug")],
    "log_format": [("JSON", "json"), ("console", "console")],
    "log_jobs": [("no", False), ("On", True), (False, False), (1, True)],
    "job_log_level": [("off", "off"), ("Error", "error")],
    "metrics_port": [("9100", 9100), (0, 0)],
    "metrics_host": [("0.0.0.0", "0.0.0.0")],
}

BAD = {
    "store": ["", "  ", 5],
    "role": ["wroker", "cron", "frontend", "", 5, ["api"]],
    "host": [""],
    "port": ["65536", "http", -1],
    "queues": [
        "",
        " ",
        ",",
        "a,,b",
        "a b",
        "a:0",
        "a:101",
        "a:1.5",
        "a:-1",
        ["a", 5],
        {"a": True},
        {"a": "2"},
        "a,a:2",
        5,
    ],
    "concurrency": ["-1", -1, "many", 1.5, True, "²", "9" * 5000, 10**10],
    "coroutines": [0, "0", -1, True],
    "threads": [0, "many", 1.5],
    "idle": ["-1s", "soon", "nan"],
    "nice": ["20", -1],
    "processes": [0, "none"],
    "recycle_jobs": ["x"],
    "recycle_memory": ["0", "²", "1.5", True],
    "recycle_age": ["x"],
    "lease": [0, "0.0001"],
    "beat": [0],
    "sweep": ["0s"],
    "poll": [0, -1],
    "drain": ["later"],
    "max_payload": ["0"],
    "max_result": ["none"],
    "max_log": ["9" * 400],
    "keep": ["forever"],
    "keep_succeeded": ["all"],
    "keep_failed": ["-5"],
    "stalled": ["never", -1],
    "log_level": ["loud", "off", 10, ""],
    "log_format": ["xml", True],
    "log_jobs": ["maybe", 2, ""],
    "job_log_level": ["none", False],
    "metrics_port": ["65536", -1, "http"],
    "metrics_host": [""],
}


def cases(table):
    return [
        pytest.param(name, value, id=f"{name}-{number}") for name in table for number, value in enumerate(table[name])
    ]


def test_the_tables_hold_every_setting():
    """One that is added later has to be tested."""
    assert set(GOOD) == set(BAD) == set(DOCUMENTED)


@pytest.mark.parametrize(("name", "case"), cases(GOOD))
def test_a_good_value_is_taken_from_either_side(name, case):
    """As a keyword argument and as a variable, written as people write it."""
    value, expected = case
    assert getattr(Settings.load({}, **{name: value}), name) == expected
    assert getattr(Settings.load({f"{PREFIX}{name.upper()}": str(value)}), name) == expected


@pytest.mark.parametrize(("name", "value"), cases(BAD))
def test_a_bad_value_is_refused_and_named_as_it_was_given(name, value):
    """The message names the keyword or the variable, and says what to give."""
    with pytest.raises(ConfigError, match=rf"^{name}: .*(give |no integer from )") as caught:
        Settings.load({}, **{name: value})
    assert len(str(caught.value)) < 500
    if isinstance(value, str):
        with pytest.raises(ConfigError, match=rf"^HEAVYLIFT_{name.upper()}: .*(give |no integer from )"):
            Settings.load({f"HEAVYLIFT_{name.upper()}": value})


def test_a_keyword_wins_over_the_environment_and_that_over_the_default():
    """And None as a keyword means: not given."""
    environment = {"HEAVYLIFT_DRAIN": "1m", "HEAVYLIFT_IDLE": "2m", "OTHER": "x"}
    loaded = Settings.load(environment, drain="5s", idle=None)
    assert (loaded.drain, loaded.idle, loaded.poll) == (5.0, 120.0, 1.0)


def test_the_environment_of_the_process_is_read_by_default(monkeypatch):
    """Nothing has to be passed."""
    monkeypatch.setenv("HEAVYLIFT_CONCURRENCY", "3")
    assert Settings.load().concurrency == 3


def test_an_unknown_keyword_is_answered_with_did_you_mean():
    """And with all that there are."""
    with pytest.raises(ConfigError, match=r"no setting 'leese'\. Did you mean 'lease'\? \(settings: store, "):
        Settings.load({}, leese=1)


def test_an_unknown_variable_is_answered_with_the_name_of_a_variable():
    """What is suggested can be copied."""
    expected = r"no setting 'HEAVYLIFT_LEESE'\. Did you mean 'HEAVYLIFT_LEASE'\? \(settings: HEAVYLIFT_STORE, "
    with pytest.raises(ConfigError, match=expected):
        Settings.load({"HEAVYLIFT_LEESE": "1"})


def test_variables_that_kubernetes_makes_for_a_service_of_that_name_are_no_settings():
    """Every container gets them; an application must not refuse to start for it."""
    environment = {
        "HEAVYLIFT_SERVICE_HOST": "10.0.0.1",
        "HEAVYLIFT_SERVICE_PORT": "80",
        "HEAVYLIFT_SERVICE_PORT_HTTP": "80",
        "HEAVYLIFT_PORT": "tcp://10.0.0.1:80",
        "HEAVYLIFT_PORT_80_TCP": "tcp://10.0.0.1:80",
        "HEAVYLIFT_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert Settings.load(environment) == Settings()
    assert Settings.load({"HEAVYLIFT_PORT": "8080"}).port == 8080


@pytest.mark.parametrize(("lease", "beat", "good"), [("10s", "5s", True), ("10s", "5.1s", False), ("5s", None, False)])
def test_a_lease_is_at_least_two_beats(lease, beat, good):
    """One late beat must not cost a worker its jobs."""
    if good:
        assert Settings.load({}, lease=lease, beat=beat).lease == 10.0
    else:
        with pytest.raises(ConfigError, match=r"beat \(.*\) must be at most half of lease \(.*\)"):
            Settings.load({}, lease=lease, beat=beat)


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        (["reports", "mail:100"], {"reports": 1, "mail": 100}),
        ({"reports": 1, "a:2": 3}, {"reports": 1, "a:2": 3}),
        ([], {}),
        ({}, {}),
    ],
)
def test_queues_may_be_a_list_or_a_table(given, weights):
    """As code and pyproject.toml write it; none means all, so that it can be lifted there."""
    loaded = Settings.load({"HEAVYLIFT_QUEUES": "other"}, queues=given).queues
    assert (loaded, list(loaded)) == (weights, list(weights))


def test_settings_are_frozen():
    """They are read once."""
    with pytest.raises(AttributeError):
        Settings().lease = 1.0
