"""The API inside other applications, each served by a real server: what is theirs stays theirs, and ours works."""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.http.conftest import HERE
from tests.http.serving import events, finished, started, submit

FASTAPI = """
from contextlib import asynccontextmanager
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from jobs_app import lift

@asynccontextmanager
async def lifespan(app):
    app.state.opened = True
    async with lift.lifespan(app):
        yield
    print("closed in order", flush=True, file=__import__("sys").stderr)

async def current_user(x_user: str | None = Header(None)) -> str:
    if x_user is None:
        raise HTTPException(401, "who are you?")
    return x_user

class Job(BaseModel):
    salary: int

app = FastAPI(lifespan=lifespan)
app.include_router(lift.router(prefix="/v1", dependencies=[Depends(current_user)]), prefix="/api")

@app.post("/people")
async def people(job: Job) -> Job:
    return job

@app.get("/opened")
async def opened() -> bool:
    return app.state.opened
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from jobs_app import lift

async def hello(request):
    return PlainTextResponse("hello")

app = Starlette(routes=[Route("/hello", hello), Mount("/api", lift.asgi())], lifespan=lift.lifespan)
"""
DJANGO = """
from django.conf import settings
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="for tests alone", DEBUG=False)
import django
django.setup()
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.routing import Mount
from jobs_app import lift

async def start(request):
    handle = await lift.find_task("add").submit(40, 2)
    return HttpResponse(str(await handle.result(timeout="20s")))

urlpatterns = [path("hello", lambda request: HttpResponse("hello")), path("start", start)]
app = Starlette(routes=[Mount("/api", lift.asgi()), Mount("/", get_asgi_application())], lifespan=lift.lifespan)
"""
# An application of its own: the server runs its lifespan, and there is nothing around it.
ALONE = """
from jobs_app import lift
app = lift.asgi()
"""
UVICORN = """
import sys, uvicorn
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("serves http://127.0.0.1:%d" % self.servers[0].sockets[0].getsockname()[1], file=sys.stderr, flush=True)
Server(uvicorn.Config("host_app:app", port=0, log_level="warning")).run()
"""
USER = {"x-user": "ada"}

pytestmark = pytest.mark.timeout(180)  # two hundred streams are many for a busy machine


@pytest.fixture
def hosted(tmp_path, monkeypatch):
    """Starts uvicorn with an application, given as its source."""
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{tmp_path}")
    monkeypatch.setenv("HEAVYLIFT_STORE", f"sqlite:///{tmp_path}/jobs.db")

    def start(source):
        (tmp_path / "host_app.py").write_text(source)
        return started([sys.executable, "-c", UVICORN], cwd=tmp_path, ready=r"serves (\S+)")

    return start


@pytest.fixture(scope="module")
def fastapi(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fastapi")
    (folder / "host_app.py").write_text(FASTAPI)
    variables = {"PYTHONPATH": f"{HERE}:{folder}", "HEAVYLIFT_STORE": f"sqlite:///{folder}/jobs.db"}
    command = [sys.executable, "-c", UVICORN]
    with started(command, cwd=folder, ready=r"serves (\S+)", variables=variables) as server:
        yield server


@pytest.fixture
def outer(fastapi):
    with fastapi.client() as found:
        found.headers.update(USER)
        yield found


@pytest.fixture
def inner(fastapi):
    with fastapi.client("/api") as found:
        found.headers.update(USER)
        yield found


def test_a_router_runs_jobs_and_follows_them(inner):
    id = submit(inner, "add", a=40, b=2)
    assert finished(inner, id)["state"] == "succeeded"
    assert inner.get(f"/v1/jobs/{id}/result").json() == 42


def test_its_links_lead_to_where_it_was_included(inner, outer):
    response = inner.post("/v1/tasks/add/jobs", json={"a": 1}, headers={"Prefer": "wait=20"})
    links = response.json()["links"]
    assert response.headers["location"] == links["self"]
    assert links["self"].startswith("/api/v1/jobs/")
    assert outer.get(links["self"]).status_code == 200
    task = inner.get("/v1/tasks/add").json()
    assert task["links"]["submit"] == "/api/v1/tasks/add/jobs"


def test_its_operations_are_in_the_description_of_the_application(outer):
    document = outer.get("/openapi.json").json()
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    operation = document["paths"]["/api/v1/tasks/plan/jobs"]["post"]
    arguments = operation["requestBody"]["content"]["application/json"]["schema"]
    assert arguments["properties"]["hours"]["maximum"] == 24
    assert arguments["properties"]["job"]["properties"]["title"]["type"] == "string"
    job = operation["responses"]["202"]["content"]["application/json"]["schema"]["allOf"]
    assert job[0]["$ref"] == "#/components/schemas/HeavyliftFinishedJob"
    assert "application/problem+json" in operation["responses"]["422"]["content"]
    names = {item["name"] for item in operation["parameters"]}
    assert {"queue", "priority", "Prefer", "x-user"} <= names
    assert {"/api/v1/jobs", "/api/v1/jobs/{id}", "/api/v1/workers", "/people"} <= document["paths"].keys()
    # Both schemas called Job are there, each under a name of its own.
    assert set(document["components"]["schemas"]["Job"]["properties"]) == {"salary"}
    assert "state" in document["components"]["schemas"]["HeavyliftJob"]["properties"]


REQUESTS = [
    ("GET", "/v1/tasks"),
    ("GET", "/v1/tasks/add"),
    ("POST", "/v1/tasks/add/jobs"),
    ("GET", "/v1/jobs"),
    ("HEAD", "/v1/jobs"),
    ("GET", "/v1/jobs/x"),
    ("PATCH", "/v1/jobs/x"),
    ("POST", "/v1/jobs/batch"),
    ("GET", "/v1/jobs/x/result"),
    ("GET", "/v1/jobs/x/events"),
    ("GET", "/v1/jobs/x/logs"),
    ("GET", "/v1/jobs/x/checkpoint"),
    ("GET", "/v1/jobs/x/stack"),
    ("POST", "/v1/jobs/x/cancel"),
    ("POST", "/v1/jobs/x/retry"),
    ("GET", "/v1/queues"),
    ("GET", "/v1/queues/x"),
    ("PATCH", "/v1/queues/x"),
    ("GET", "/v1/workers"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_its_dependencies_guard_every_route(fastapi, method, path):
    with fastapi.client("/api") as stranger:
        response = stranger.request(method, path, json={"a": 1} if method == "POST" else None)
        assert response.status_code == 401
        assert method == "HEAD" or response.json() == {"detail": "who are you?"}
        assert stranger.get("/v1/jobs", headers=USER).json()["items"] is not None


def test_every_route_of_the_router_is_in_that_list():
    from heavylift.http.operations import RESOURCES

    paths = {(method, path) for method, path in REQUESTS if method != "HEAD"}
    assert len(paths) == len(RESOURCES)


PROBLEMS = {
    "arguments": ("POST", "/v1/tasks/add/jobs", b'{"a": "x"}', 422, "invalid-arguments"),
    "json": ("POST", "/v1/tasks/add/jobs", b"{", 400, "malformed-json"),
    "task": ("POST", "/v1/tasks/ad/jobs", b"{}", 404, "unknown-task"),
    "job": ("GET", "/v1/jobs/nobody", b"", 404, "job-not-found"),
    "method": ("DELETE", "/v1/jobs", b"", 405, "method-not-allowed"),
    "query": ("GET", "/v1/jobs?stat=failed", b"", 400, "unknown-parameter"),
}


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), PROBLEMS.values(), ids=PROBLEMS)
def test_its_problems_stay_problems(inner, method, path, body, status, code):
    response = inner.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


def test_the_errors_of_other_routes_stay_as_they_are(outer):
    response = outer.post("/people", json={"salary": "much"})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/json"
    assert response.json()["detail"][0]["loc"] == ["body", "salary"]
    assert outer.get("/nothing").json() == {"detail": "Not Found"}
    assert outer.get("/opened").json() is True


def test_both_lifespans_run_and_end_in_order(hosted):
    with hosted(FASTAPI) as server, server.client("/api") as client:
        client.headers.update(USER)
        assert client.get("/v1/workers").json()["items"][0]["state"] == "alive"
        server.stop()
    said = "".join(server.said)
    assert "drained" in said
    assert said.index("drained") < said.index("closed in order")
    assert "never ran" not in said


def test_a_router_whose_lifespan_is_missing_says_so(hosted):
    source = (
        "from fastapi import FastAPI\nfrom jobs_app import lift\napp = FastAPI()\napp.include_router(lift.router())"
    )
    with hosted(source) as server, server.client() as client:
        assert client.get("/v1/jobs").status_code == 200
        server.stop()
    assert "its own lifespan never ran" in "".join(server.said)


@pytest.mark.parametrize("source", [STARLETTE, DJANGO], ids=["starlette", "django"])
def test_a_mounted_api_works_beside_the_routes_of_the_application(hosted, source):
    with hosted(source) as server, server.client("/api") as client, server.client() as outer:
        assert outer.get("/hello").text == "hello"
        id = submit(client, "add", a=40, b=2)
        assert finished(client, id)["state"] == "succeeded"
        response = outer.get(client.get(f"/v1/jobs/{id}").json()["links"]["result"])
        assert response.json() == 42
        assert client.get("/v1/jobs/nobody").json()["code"] == "job-not-found"
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/api"}]
    assert "never ran" not in "".join(server.said)


def test_a_view_of_django_submits_and_waits(hosted):
    with hosted(DJANGO) as server, server.client() as outer:
        assert outer.get("/start").text == "42"


@pytest.mark.parametrize(
    ("source", "root"),
    [(FASTAPI, "/api"), (STARLETTE, "/api"), (DJANGO, "/api"), (ALONE, "")],
    ids=["fastapi", "starlette", "django", "alone"],
)
def test_two_hundred_open_streams_do_not_hold_up_the_stop(hosted, source, root):
    with hosted(source) as server, server.client(root, connections=210) as client:
        client.headers.update(USER)
        id = submit(client, "add", params={"delay": "1h"}, a=1)
        streams = [events(client, id, after=0) for _ in range(200)]
        for stream in streams:
            assert next(stream).kind == "state"
        with ThreadPoolExecutor(200) as threads:
            rests = threads.map(list, streams)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) in (0, -signal.SIGTERM)
            assert list(rests) == [[]] * 200  # it is not over, so none of them says so


def test_a_log_that_is_followed_does_not_hold_up_the_stop(hosted):
    with hosted(STARLETTE) as server, server.client("/api") as client:
        id = submit(client, "add", params={"delay": "1h"}, a=1)
        with client.stream("GET", f"/v1/jobs/{id}/logs", params={"follow": "1"}) as response:
            assert response.status_code == 200
            server.process.send_signal(signal.SIGTERM)
            assert response.read() == b""
        assert server.process.wait(20) in (0, -signal.SIGTERM)
