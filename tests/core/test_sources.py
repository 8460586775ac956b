"""Where settings come from: which source wins, what each may say, and how each one's mistakes are named."""

import os
import subprocess
import sys

import pytest

from heavylift import Heavylift, sources
from heavylift.core.errors import ConfigError
from heavylift.settings import Settings


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that writes the pyproject.toml of the working directory, a folder below it."""
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")

    def write(text):
        (tmp_path / "pyproject.toml").write_text(text)
        return tmp_path / "pyproject.toml"

    return write


def test_the_nearest_pyproject_is_read_upward_and_its_file_is_relative_to_it(project, tmp_path):
    project('[tool.heavylift]\nstore = "sqlite:///data/jobs.db"\nlease = "1m"\nkeep_failed = 5\napp = "app:lift"\n')
    loaded = Settings.load({})
    assert (loaded.store, loaded.lease, loaded.keep_failed) == (f"sqlite:///{tmp_path}/data/jobs.db", 60.0, 5)
    assert loaded.origins["lease"] == f"{tmp_path}/pyproject.toml: tool.heavylift.lease"
    assert sources.project_application() == "app:lift"
    assert Heavylift().store_url == f"sqlite:///{tmp_path}/data/jobs.db"
    (tmp_path / "below" / "pyproject.toml").write_text("[tool.other]\n# heavylift\n")
    assert Settings.load({}) == Settings()
    assert sources.project_application() is None


@pytest.mark.parametrize("url", ["memory://", "sqlite:////var/jobs.db"])
def test_a_store_that_is_nowhere_in_the_project_stays_as_it_is(project, url):
    project(f"[tool.heavylift]\nstore = '{url}'")
    assert Settings.load({}).store == url


@pytest.mark.parametrize(
    "text",
    ["[tool]\nheavylift = {lease = 60}", "[tool]\nheavylift.lease = 60", "[ tool . 'heavylift' ]\nlease = 60"],
)
def test_the_table_may_be_written_in_any_way_that_toml_has(project, text):
    project(text)
    assert Settings.load({}).lease == 60.0


WRONG_PROJECTS = {
    "no toml": ("[tool.heavylift\nlease = 1", r"pyproject\.toml is no TOML: .*\(at line 1, column 16\)"),
    "no text": (b"# tool.heavylift \xff", r"pyproject\.toml is no TOML: .*Repair it"),
    "no table": (
        "[tool]\nheavylift = 3",
        r"pyproject\.toml: tool\.heavylift: 3 is no table; write \[tool\.heavylift\]",
    ),
    "unknown": (
        "[tool.heavylift]\nleese = 1",
        r"pyproject\.toml: tool\.heavylift: there is no setting 'leese'\. Did you mean 'lease'\? \(settings: store, ",
    ),
    "dashes": ("[tool.heavylift]\nmax-log = 1", r"no setting 'max-log'\. Did you mean 'max_log'\?"),
    "value": (
        "[tool.heavylift]\nlease = 'soon'",
        r"pyproject\.toml: tool\.heavylift\.lease: 'soon' is no duration; give",
    ),
    "type": ("[tool.heavylift]\nconcurrency = true", r"tool\.heavylift\.concurrency: True is no integer from 0 to"),
    "role": ("[tool.heavylift]\nrole = ['api']", r"tool\.heavylift\.role: \['api'\] is no role; give one of monolith,"),
    "store": ("[tool.heavylift]\nstore = 5", r"tool\.heavylift\.store: 5 is empty or no text; give"),
}


@pytest.mark.parametrize(("content", "said"), WRONG_PROJECTS.values(), ids=WRONG_PROJECTS)
def test_a_bad_project_says_file_key_and_why(project, content, said):
    path = project("")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=said) as caught:
        Settings.load({})
    assert str(caught.value).startswith(str(path))


def test_an_application_of_a_project_is_text(project):
    project("[tool.heavylift]\napp = 5")
    with pytest.raises(ConfigError, match=r"tool\.heavylift\.app: 5 is no application; give 'module:attribute'"):
        sources.project_application()


def test_a_source_wins_over_those_below_it(project):
    """Keyword, variable, deployment name, project, default; and None as a keyword means: not given."""
    project('[tool.heavylift]\nport = 1\nstore = "sqlite:////p.db"\nrole = "worker"\n')
    said = {"PORT": "2", "DATABASE_URL": "sqlite:////d.db", "SERVICE_TYPE": "api"}
    ours = {"HEAVYLIFT_PORT": "3", "HEAVYLIFT_STORE": "sqlite:////h.db", "HEAVYLIFT_ROLE": "monolith"}
    found = [
        Settings.load({}),
        Settings.load(said),
        Settings.load(said | ours),
        Settings.load(said | ours, port=4, store="sqlite:////k.db", role="api"),
    ]
    assert [loaded.port for loaded in found] == [1, 2, 3, 4]
    assert [loaded.store[-4] for loaded in found] == ["p", "d", "h", "k"]
    assert [loaded.role for loaded in found] == ["worker", "api", "monolith", "api"]
    assert [loaded.origins["port"].rpartition(".")[2] for loaded in found] == ["port", "PORT", "HEAVYLIFT_PORT", "port"]


def test_what_makes_the_suites_larger_is_no_setting():
    """It reaches the applications that the tests start, too."""
    assert Settings.load({"HEAVYLIFT_TEST_STEPS": "100000"}) == Settings.load({})


def test_what_loses_is_not_judged():
    """A port of another program must not keep one from starting that was given its own."""
    assert Settings.load({"PORT": "http"}, port=80).port == 80
    with pytest.raises(ConfigError, match=r"^PORT: 'http' is no integer from 0 to 65535"):
        Settings.load({"PORT": "http"})


STORES = {
    "a bare host": ({"REDIS_URL": "localhost"}, "redis://localhost:6379/0"),
    "with its port": ({"REDIS_URL": "cache:6380"}, "redis://cache:6380/0"),
    "and the rest beside": (
        {"REDIS_URL": "localhost", "REDIS_PORT": "6380", "REDIS_PASSWORD": "a/b@"},
        "redis://:a%2Fb%40@localhost:6380/0",
    ),
    "the triple": ({"REDIS_HOST": "h", "REDIS_PORT": "1", "REDIS_PASSWORD": "p"}, "redis://:p@h:1/0"),
    "a host alone": ({"REDIS_HOST": "h"}, "redis://h:6379/0"),
    "a whole URL": ({"REDIS_URL": "rediss://u:p@h:7/3?x=1"}, "rediss://u:p@h:7/3?x=1"),
    "a URL that is completed": ({"REDIS_URL": "redis://u@h/2", "REDIS_PASSWORD": "p"}, "redis://u:p@h:6379/2"),
    "the same twice": ({"REDIS_URL": "redis://h:7", "REDIS_HOST": "h", "REDIS_PORT": "7"}, "redis://h:7"),
    "IPv6": ({"REDIS_URL": "redis://[::1]:7/0"}, "redis://[::1]:7/0"),
    "a socket": ({"REDIS_URL": "unix:///run/redis.sock"}, "unix:///run/redis.sock"),
    "Kubernetes' own port": ({"REDIS_HOST": "h", "REDIS_PORT": "tcp://10.0.0.1:6379"}, "redis://h:6379/0"),
    "a port alone says nothing": ({"REDIS_PORT": "6379", "REDIS_PASSWORD": "p"}, Settings().store),
    "empty ones say nothing": ({"REDIS_URL": "", "REDIS_HOST": " ", "DATABASE_URL": ""}, Settings().store),
    "Postgres": ({"DATABASE_URL": "postgres://u:p@h/db"}, "postgresql://u:p@h/db"),
    "Postgres with a driver": ({"DATABASE_URL": "postgresql+asyncpg://u@h/db?x=1"}, "postgresql://u@h/db?x=1"),
    "both": ({"DATABASE_URL": "postgres://h/db", "REDIS_HOST": "r"}, "redis://r:6379/0"),
    "ours": ({"HEAVYLIFT_STORE": "memory://", "REDIS_URL": "r"}, "memory://"),
}


@pytest.mark.parametrize(("environment", "store"), STORES.values(), ids=STORES)
def test_the_store_that_a_deployment_names(environment, store):
    assert Settings.load(environment).store == store


CONTRADICTIONS = {
    "host": {"REDIS_URL": "redis://a/0", "REDIS_HOST": "b"},
    "port": {"REDIS_URL": "a:1", "REDIS_PORT": "2"},
    "password": {"REDIS_URL": "redis://:x@a", "REDIS_PASSWORD": "y"},
}


@pytest.mark.parametrize(("what", "environment"), CONTRADICTIONS.items(), ids=CONTRADICTIONS)
def test_a_contradiction_is_refused(what, environment):
    with pytest.raises(ConfigError, match=f"REDIS_URL and REDIS_{what.upper()} name two different {what}s: unset one"):
        Settings.load(environment)


def test_a_port_of_redis_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="REDIS_URL: its port is no number"):
        Settings.load({"REDIS_URL": "localhost:many"})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REDIS_URL", "redis://:secret@h/0"),
        ("DATABASE_URL", "postgres://u:secret@h/db"),
        ("DATABASE_URL", "mysql://h/d"),
    ],
)
def test_a_store_that_does_not_exist_yet_is_refused_with_its_source_and_without_its_password(
    monkeypatch, variable, value
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=rf"^{variable}: There is no store for .*HEAVYLIFT_STORE wins") as caught:
        Heavylift()
    assert "secret" not in str(caught.value)
    assert Heavylift("memory://").store_url == "memory://"


@pytest.mark.parametrize("role", ["cron", "frontend"])
def test_a_role_of_a_later_version_is_named_as_such(role):
    expected = f"^SERVICE_TYPE: '{role}' is not in this version: .*; give one of monolith, api, worker"
    with pytest.raises(ConfigError, match=expected):
        Settings.load({"SERVICE_TYPE": role})


def test_a_role_that_does_not_exist_names_those_that_do():
    expected = r"^SERVICE_TYPE: 'wroker' is no role; give one of monolith, api, worker\. Did you mean 'worker'\?"
    with pytest.raises(ConfigError, match=expected):
        Settings.load({"SERVICE_TYPE": "wroker"})


async def test_a_web_process_refuses_to_be_a_worker_and_starts_none_as_an_api(tmp_path, monkeypatch):
    monkeypatch.setenv("SERVICE_TYPE", "worker")
    lift = Heavylift(f"sqlite:///{tmp_path}/jobs.db")
    with pytest.raises(ConfigError, match=r"^SERVICE_TYPE is 'worker', and this is a web process"):
        async with lift.lifespan():
            pass
    monkeypatch.setenv("SERVICE_TYPE", "api")
    lift = Heavylift(f"sqlite:///{tmp_path}/jobs.db")
    async with lift.lifespan():
        assert await lift.client.workers() == []


def test_whoever_imports_an_application_loads_no_library_for_its_settings(tmp_path):
    """Hosts and nanny do. A project without our table costs them no parser either."""
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["heavylift"]\n[tool.other]\n')
    code = (
        "import sys; from heavylift import Heavylift; Heavylift();"
        "print(sorted({'pydantic_settings', 'tomllib', 'asyncio'} & sys.modules.keys()))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_START"}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"
