"""POST /v1/tasks/{task}/jobs: what is accepted, and that what is refused leaves no trace."""

import json
import socket

import pytest
from tests.http.serving import finished, submit


def post(client, task="add", body=b'{"a": 1}', headers=None, **params):
    given = {"Content-Type": "application/json"} | (headers or {})
    return client.post(f"/v1/tasks/{task}/jobs", content=body, headers=given, params=params)


def test_a_submit_is_accepted_with_its_job_and_where_to_look(client):
    response = post(client)
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert int(response.headers["retry-after"]) >= 1
    assert job["task"] == "add"
    assert job["state"] == "queued"
    assert job["attempt"] == 0
    assert job["links"]["self"] == response.headers["location"]
    assert client.get(response.headers["location"]).json()["id"] == job["id"]


def test_the_job_runs_and_its_result_is_bare_json(client):
    job = submit(client, "add", a=40, b=2)
    assert finished(client, job)["state"] == "succeeded"
    response = client.get(f"/v1/jobs/{job}/result")
    assert (response.status_code, response.text) == (200, "42")


def test_options_come_from_the_query(client):
    params = {
        "queue": "reports",
        "priority": "7",
        "delay": "10m",
        "timeout": "1m",
        "grace": "2",
        "max_attempts": "5",
        "label.tenant": "acme",
        "label.region": "eu",
    }
    response = client.post("/v1/tasks/add/jobs", params=params, json={"a": 1})
    job = response.json()
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("reports", 7, 5)
    assert job["labels"] == {"tenant": "acme", "region": "eu"}
    assert job["waiting"]["code"] == "scheduled"
    assert job["waiting_reason"].startswith("scheduled for ")
    assert response.headers["retry-after"] == "300"


def test_limits_come_from_the_query(client):
    options = {"open_files": "99", "nice": "3", "memory": "1GiB", "cpu_time": "1m", "processes": "5"}
    before, after = (
        client.post("/v1/tasks/bounds/jobs", params=params, headers={"Prefer": "wait=30"}).json()["result"]
        for params in ({}, options)
    )
    assert 99 <= after["open_files"] < 150
    assert after["nice"] == min(19, before["nice"] + 3)


@pytest.mark.parametrize("moment", ["2100-01-31T09:00:00Z", "2100-01-31T10:00:00+01:00", "2100-01-31T09:00+00:00"])
@pytest.mark.parametrize("escaped", [True, False])
def test_a_start_time_may_have_any_zone_and_an_unescaped_plus(client, moment, escaped):
    text = moment.replace("+", "%2B") if escaped else moment
    response = client.post(f"/v1/tasks/add/jobs?run_at={text}", json={"a": 1})
    assert response.json()["run_at"] == "2100-01-31T09:00:00.000Z"


def test_a_number_without_fraction_is_an_integer(client):
    assert post(client, body=b'{"a": 616.0}').status_code == 202


def test_no_body_is_no_arguments(client):
    assert client.post("/v1/tasks/chatty/jobs").status_code == 202
    response = client.post("/v1/tasks/add/jobs")
    assert response.status_code == 422
    assert response.json()["errors"] == [{"pointer": "/a", "detail": "Field required"}]


def test_a_taken_unique_key_answers_with_its_job(client):
    params = {"unique": "only:1", "delay": "1h"}
    first = client.post("/v1/tasks/add/jobs", params=params, json={"a": 1})
    second = client.post("/v1/tasks/add/jobs", params=params, json={"a": 2})
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json()["id"] == first.json()["id"]
    third = client.post("/v1/tasks/add/jobs", params={**params, "on_conflict": "reject"}, json={"a": 3})
    assert (third.status_code, third.json()["code"]) == (409, "duplicate-job")
    assert third.json()["existing"] == first.json()["id"]


REFUSED = {
    "not json": (b"{", {}, 400, "malformed-json"),
    "bad utf-8": (b'{"a": "\xff"}', {}, 400, "malformed-json"),
    "a lone surrogate": (b'{"a": "\\ud800"}', {}, 400, "malformed-json"),
    "NaN": (b'{"a": NaN}', {}, 400, "malformed-json"),
    "an infinity": (b'{"a": -Infinity}', {}, 400, "malformed-json"),
    "deep nesting": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}, 400, "malformed-json"),
    "an array": (b"[1]", {}, 422, "invalid-arguments"),
    "a number": (b"7", {}, 422, "invalid-arguments"),
    "null": (b"null", {}, 422, "invalid-arguments"),
    "a wrong type": (b'{"a": "1"}', {}, 422, "invalid-arguments"),
    "a boolean": (b'{"a": true}', {}, 422, "invalid-arguments"),
    "an unknown name": (b'{"a": 1, "c": 2}', {}, 422, "invalid-arguments"),
    "a form": (b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
    "latin-1": (b'{"a": 1}', {"Content-Type": "application/json; charset=latin-1"}, 415, "unsupported-media-type"),
    "gzip": (b'{"a": 1}', {"Content-Encoding": "gzip"}, 415, "unsupported-media-type"),
    "another web site": (b'{"a": 1}', {"Sec-Fetch-Site": "cross-site"}, 403, "cross-site"),
    "too large": (b'{"a": "' + b"x" * 2**20 + b'"}', {}, 413, "payload-too-large"),
}


@pytest.mark.parametrize(("body", "headers", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_a_bad_body_is_refused_and_nothing_is_queued(client, body, headers, status, code):
    response = post(client, body=body, headers=headers, queue="refused")
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == "/v1/tasks/add/jobs"
    assert client.get("/v1/jobs", params={"queue": "refused"}).json()["items"] == []


def test_every_wrong_argument_has_its_pointer(client):
    response = client.post("/v1/tasks/bounded/jobs", json={"share": 2, "name": 3, "x/y": 1})
    assert {error["pointer"] for error in response.json()["errors"]} == {"/share", "/name", "/x~1y"}


def test_a_body_without_a_length_is_bounded_too(client):
    def endless():
        for _ in range(64):
            yield b" " * 65536

    response = client.post("/v1/tasks/add/jobs", content=endless(), headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "payload-too-large")


def test_a_caller_who_goes_away_in_the_middle_of_a_body_queues_nothing(server, client):
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = "POST /v1/tasks/add/jobs?queue=halfway HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n"
        connection.sendall(head.encode() + b'{"a"')
    assert client.get("/v1/jobs", params={"queue": "halfway"}).json()["items"] == []
    assert client.get("/healthz").status_code == 200


QUERIES = {
    "prioritiy": ({"prioritiy": "1"}, "unknown-parameter", "Did you mean 'priority'?"),
    "argument": ({"a": "1"}, "unknown-parameter", "There is no query parameter 'a' here."),
    "priority": ({"priority": "12"}, "invalid-parameter", "from 0 to 9"),
    "delay": ({"delay": "soon"}, "invalid-parameter", "delay: 'soon'"),
    "negative": ({"timeout": "-1"}, "invalid-parameter", "timeout"),
    "nan": ({"delay": "nan"}, "invalid-parameter", "delay"),
    "run_at": ({"run_at": "2026-01-31T09:00:00"}, "invalid-parameter", "time zone"),
    "queue": ({"queue": "a b"}, "invalid-parameter", "queue"),
    "label": ({"label.": "x"}, "invalid-parameter", "label"),
    "attempts": ({"max_attempts": "0"}, "invalid-parameter", "max_attempts"),
    "memory": ({"memory": "lots"}, "invalid-parameter", "memory: 'lots' is no size"),
    "nice": ({"nice": "20"}, "invalid-parameter", "nice: '20' is out of range"),
    "twice": ({"queue": ["a", "b"]}, "invalid-parameter", "given twice"),
}


@pytest.mark.parametrize(("params", "code", "detail"), QUERIES.values(), ids=QUERIES)
def test_a_query_that_cannot_be_used_is_refused_by_name(client, params, code, detail):
    response = client.post("/v1/tasks/add/jobs", params=params, json={"a": 1})
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert detail in response.json()["detail"]


def test_an_unknown_task_is_named_with_what_was_meant(client):
    response = post(client, task="ad")
    assert (response.status_code, response.json()["code"]) == (404, "unknown-task")
    assert "Did you mean 'add'?" in response.json()["detail"]


def test_a_full_queue_says_when_to_come_again(client):
    queue = "narrow"
    client.patch(f"/v1/queues/{queue}", json={"paused": True, "max_size": 1})
    submit(client, "add", params={"queue": queue}, a=1)
    response = post(client, queue=queue)
    assert (response.status_code, response.json()["code"]) == (503, "queue-full")
    assert 1 <= int(response.headers["retry-after"]) <= 300
    assert len(client.get("/v1/jobs", params={"queue": queue}).json()["items"]) == 1


def test_a_hundred_at_once_are_a_hundred_jobs(client):
    ids = {submit(client, "add", params={"queue": "many", "delay": "1h"}, a=number) for number in range(100)}
    page = client.get("/v1/jobs", params={"queue": "many", "page_size": 1000}).json()
    assert {job["id"] for job in page["items"]} == ids
    assert json.dumps(page["next_page_token"]) == "null"
