"""The description of the API is OpenAPI 3.1, says everything, and can be read without any other server."""

import gzip
import hashlib
import re

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import ConfigDict, TypeAdapter, with_config
from tests.http.serving import ROOT, finished, submit

from heavylift.http import operations, problems, resources
from heavylift.http.operations import RESOURCES, SITE

TEMPLATED = {item.name for item in (*RESOURCES, *SITE)} - {"submit"}


@pytest.fixture(scope="module")
def document(server):
    with server.client() as client:
        return client.get("/openapi.json").json()


def described(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_it_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_operation_is_described_once(document):
    names = [operation["operationId"] for _, _, operation in described(document)]
    assert len(names) == len(set(names))
    assert set(names) >= TEMPLATED
    assert {"submit_add", "submit_plan"} <= set(names)


def resolved(document, part):
    """What a reference to a component stands for."""
    for name in part.get("$ref", "#").split("/")[1:]:
        document = document[name]
    return document if "$ref" in part else part


def test_every_operation_says_all_that_may_happen(document):
    for path, method, operation in described(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        for parameter in operation.get("parameters", []):
            assert resolved(document, parameter)["description"], where
            assert resolved(document, parameter)["schema"], where
        assert "500" in operation["responses"], where
        for status, found in operation["responses"].items():
            response = resolved(document, found)
            if int(status) >= 400:
                problem = response["content"]["application/problem+json"]
                assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}, where
                assert all(item["value"]["status"] == int(status) for item in problem["examples"].values())
            elif status not in ("204", "304"):
                assert response["content"], where


def test_a_task_is_described_by_its_signature_and_docstring(document):
    operation = document["paths"]["/v1/tasks/plan/jobs"]["post"]
    assert operation["summary"] == "Divides a job."
    assert "as long as the whole" in operation["description"]
    assert operation["requestBody"]["required"] is True
    schemas = document["components"]["schemas"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/plan.arguments")
    arguments = schemas["plan.arguments"]
    assert arguments["properties"]["job"] == {"$ref": "#/components/schemas/plan.Job"}
    assert arguments["properties"]["hours"]["maximum"] == 24
    assert arguments["additionalProperties"] is False
    # A type of the application's, which refers to itself, is not taken for our own of the same name.
    assert schemas["plan.Job"]["properties"]["parts"]["items"] == {"$ref": "#/components/schemas/plan.Job"}
    assert "state" in schemas["Job"]["properties"]
    job = operation["responses"]["202"]["content"]["application/json"]["schema"]["allOf"]
    assert job[1]["properties"] == {"task": {"const": "plan"}, "result": {"$ref": "#/components/schemas/plan.result"}}
    assert schemas["plan.result"]["items"] == {"$ref": "#/components/schemas/plan.Job"}
    assert document["paths"]["/v1/tasks/chatty/jobs"]["post"]["requestBody"]["required"] is False


def test_every_documented_problem_is_one_that_can_happen():
    named = {code for item in (*RESOURCES, *SITE) for code in item.problems}
    assert named <= set(problems.CODES)
    assert set(problems.CODES) - named == {"internal-error"} | ({"store-unavailable"} - named)
    assert set(problems.CODES) <= set(problems.TITLES)


def closed(kind):
    """The shape, without room for anything else."""
    return with_config(ConfigDict(extra="forbid", strict=True))(kind)


def test_what_is_answered_is_what_is_described(client):
    id = submit(client, "add", params={"label.tenant": "acme"}, a=1)
    finished(client, id)
    waiting = submit(client, "add", params={"delay": "1h"}, a=1)
    shapes = {
        "/": resources.Index,
        "/healthz": resources.Health,
        "/readyz": resources.Readiness,
        "/v1/tasks": resources.TaskPage,
        "/v1/tasks/plan": resources.Task,
        f"/v1/jobs/{id}": resources.Job,
        "/v1/jobs": resources.JobPage,
        f"/v1/jobs/{waiting}/result": resources.Unfinished,
        f"/v1/jobs/{id}/logs": resources.LogPage,
        "/v1/queues": resources.QueuePage,
        "/v1/queues/default": resources.Queue,
        "/v1/workers": resources.WorkerPage,
    }
    for path, shape in shapes.items():
        TypeAdapter(closed(shape)).validate_json(client.get(path).content)
    moved = client.patch(f"/v1/jobs/{waiting}", json={"priority": 2})
    TypeAdapter(closed(resources.Job)).validate_json(moved.content)
    batch = client.post("/v1/jobs/batch", json={"items": [{"task": "add", "args": {"a": 1}}, {"task": "nothing"}]})
    TypeAdapter(closed(resources.BatchAnswer)).validate_json(batch.content)
    receipt = client.post(f"/v1/jobs/{waiting}/cancel")
    TypeAdapter(closed(resources.Receipt)).validate_json(receipt.content)
    TypeAdapter(closed(resources.Problem)).validate_json(client.get("/v1/jobs/nobody").content)
    set_ = {"concurrency": 3, "paused": True, "by": "anna", "keep": {"failed": 3}, "rate": "5/s"}
    queue = client.patch("/v1/queues/shaped", json=set_)
    TypeAdapter(closed(resources.Queue)).validate_json(queue.content)


def test_the_page_needs_no_other_server(client):
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"(?:src|href)=\"(?!docs/|data:)", page.text)
    for name in re.findall(r"(?:src|href)=\"(docs/[^\"]+)\"", page.text):
        packed = client.get(f"/{name}", headers={"Accept-Encoding": "gzip"})
        plain = client.get(f"/{name}", headers={"Accept-Encoding": "identity"})
        assert packed.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert packed.content == plain.content
        assert len(plain.content) > 10_000
    assert client.get("/docs/nothing.js").status_code == 404


VENDORED = {
    "swagger-ui-bundle.js.gz": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css.gz": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}


@pytest.mark.parametrize(("name", "digest"), VENDORED.items(), ids=VENDORED)
def test_what_is_vendored_is_what_was_released(name, digest):
    assets = ROOT / "src" / "heavylift" / "http" / "assets"
    assert hashlib.sha256(gzip.decompress((assets / name).read_bytes())).hexdigest() == digest
    assert "Apache License" in (assets / "LICENSE.swagger-ui").read_text()


def test_the_table_of_operations_is_what_is_served():
    assert all(item.handler.__module__.startswith("heavylift.http.") for item in RESOURCES)
    assert operations.SUBMIT in RESOURCES
