"""Queues, tasks, health and the description of the API."""

import pytest
from tests.http.serving import submit


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


MISTAKES = {
    "rate": ({"rate": "0/s"}, "/rate", "'0/s' is no rate"),
    "rate of ages": ({"rate": "1/1000000h"}, "/rate", "'1/1000000h' is no rate"),
    "number as rate": ({"rate": 10}, "/rate", "10 is no rate"),
    "keep": ({"keep": "7d"}, "/keep", "give an object of age, succeeded, failed"),
    "count": ({"keep": {"failed": -1}}, "/keep", "failed: -1 is no number of jobs"),
    "age": ({"keep": {"age": "soon"}}, "/keep", "age: 'soon' is no duration"),
    "no pause": ({"reason": "x"}, "/reason", 'it goes with a pause; give "paused": true, too'),
    "resumed by": ({"paused": False, "by": "x"}, "/by", "it goes with a pause"),
    "long": ({"paused": True, "by": "x" * 201}, "/by", "1-200 characters"),
    "null": ({"paused": None}, "/paused", "None is neither true nor false"),
    "misspelt": ({"concurency": 2}, "/concurency", "Did you mean 'concurrency'?"),
}


@pytest.mark.parametrize(("body", "pointer", "detail"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place_and_reason(client, body, pointer, detail):
    response = client.patch("/v1/queues/untouched", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-body")
    [error] = response.json()["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]
    assert client.get("/v1/queues/untouched").status_code == 404


def test_a_condition_that_cannot_be_held_is_refused_and_not_passed_over(client):
    client.patch("/v1/queues/conditional", json={"concurrency": 2})
    refused = client.patch("/v1/queues/conditional", json={"concurrency": 3}, headers={"If-Match": '"7"'})
    assert (refused.status_code, refused.json()["parameter"]) == (400, "If-Match")
    assert "a queue has no ETag to compare" in refused.json()["detail"]
    assert client.get("/v1/queues/conditional").json()["concurrency"] == 2


def test_a_pause_says_by_whom_why_and_since_when(client):
    paused = {"paused": True, "by": "anna", "reason": "the mail server is down"}
    first = client.patch("/v1/queues/mail", json=paused).json()
    assert (first["paused"], first["pause"]["by"], first["pause"]["reason"]) == (True, "anna", paused["reason"])
    again = client.patch("/v1/queues/mail", json={"paused": True, "by": "ben"}).json()
    assert again["pause"] == {"since": first["pause"]["since"], "by": "ben", "reason": None}
    assert client.get("/v1/queues/mail").json() == again
    resumed = client.patch("/v1/queues/mail", json={"paused": False}).json()
    assert (resumed["paused"], resumed["pause"]) == (False, None)


def test_all_limits_are_set_and_lifted(client):
    limits = {"concurrency": 2, "rate": "100/min", "max_size": 9, "keep": {"age": "1d", "succeeded": 10.0}}
    queue = client.patch(
        "/v1/queues/limits", json=limits, headers={"Content-Type": "application/merge-patch+json"}
    ).json()
    assert (queue["concurrency"], queue["rate"], queue["max_size"]) == (2, "100/min", 9)
    assert queue["keep"] == {"age": 86400.0, "succeeded": 10, "failed": None}
    lifted = client.patch("/v1/queues/limits", json=dict.fromkeys(limits)).json()
    assert [lifted[name] for name in limits] == [None] * 4


def test_a_size_below_what_waits_is_refused_with_the_number(client):
    for _ in range(3):
        submit(client, "add", params={"queue": "crowded", "delay": "1h"}, a=1)
    response = client.patch("/v1/queues/crowded", json={"max_size": 2, "concurrency": 1})
    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert (error["pointer"], "below the 3 jobs that wait" in error["detail"]) == ("/max_size", True)
    queue = client.get("/v1/queues/crowded").json()
    assert (queue["max_size"], queue["concurrency"], queue["counts"]["queued"]) == (None, None, 3)


def test_a_queue_that_nobody_knows_is_not_there(client):
    client.patch("/v1/queues/reports", json={})
    response = client.get("/v1/queues/reprots")
    assert (response.status_code, response.json()["code"]) == (404, "queue-not-found")
    assert "Did you mean 'reports'?" in response.json()["detail"]


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
