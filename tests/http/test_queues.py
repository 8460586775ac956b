"""Queues, tasks, health and the description of the API."""

import pytest


def test_a_patch_creates_a_queue_and_null_lifts_a_limit(client):
    response = client.patch("/v1/queues/heavy", json={"paused": True, "concurrency": 2, "max_size": 100})
    assert response.status_code == 200
    queue = response.json()
    assert (queue["name"], queue["paused"], queue["concurrency"], queue["max_size"]) == ("heavy", True, 2, 100)
    queue = client.patch("/v1/queues/heavy", json={"paused": False, "concurrency": None}).json()
    assert (queue["paused"], queue["concurrency"], queue["max_size"]) == (False, None, 100)
    listed = client.get("/v1/queues").json()["items"]
    assert queue in listed
    assert set(queue["counts"]) == {"blocked", "queued", "running", "succeeded", "failed", "cancelled"}


BAD = {
    "unknown": {"pause": True},
    "text": {"paused": "yes"},
    "zero": {"concurrency": 0},
    "boolean": {"max_size": True},
    "fraction": {"max_size": 1.5},
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_setting_that_does_not_fit_changes_nothing(client, body):
    response = client.patch("/v1/queues/untouched", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-body")
    assert "untouched" not in {queue["name"] for queue in client.get("/v1/queues").json()["items"]}


def test_a_queue_has_a_name_that_urls_can_hold(client):
    assert client.patch("/v1/queues/a%20b", json={}).status_code == 400


def test_tasks_say_what_they_take(client):
    tasks = {task["name"]: task for task in client.get("/v1/tasks").json()["items"]}
    add = tasks["add"]
    assert add["description"] == "The sum of two numbers."
    assert add["arguments"]["required"] == ["a"]
    assert add["result"] == {"type": "integer"}
    assert add["links"]["submit"] == "/v1/tasks/add/jobs"
    assert client.get("/v1/tasks/add").json() == add
    assert client.get("/v1/tasks/ad").status_code == 404


def test_the_server_says_how_it_is(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok", "worker": True}


def test_the_description_has_an_operation_for_each_task(client):
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v1/tasks/add/jobs"]["post"]
    assert operation["operationId"] == "submit_add"
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert document["components"]["schemas"][reference.split("/")[-1]]["required"] == ["a"]
    assert "get" in document["paths"]["/v1/jobs/{id}"]


def test_the_front_door_leads_on(client):
    links = client.get("/").json()["links"]
    assert all(client.get(link).status_code == 200 for link in links.values())
