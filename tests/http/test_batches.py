"""POST /v1/jobs/batch: many jobs, and an answer for each."""

import pytest
from tests.http.serving import finished, submit


def batch(client, *items):
    return client.post("/v1/jobs/batch", json={"items": list(items)})


def add(a=1, **options):
    return {"task": "add", "args": {"a": a}, "options": options}


def test_all_that_is_taken_is_202_and_in_order(client):
    response = batch(client, *(add(number) for number in range(300)))
    assert response.status_code == 202
    items = response.json()["items"]
    assert {item["status"] for item in items} == {202}
    assert len({item["job"]["id"] for item in items}) == 300
    last = items[-1]["job"]["id"]
    assert finished(client, last)["state"] == "succeeded"
    assert client.get(f"/v1/jobs/{last}/result").json() == 300


def test_options_are_those_of_a_submit(client):
    options = {"priority": 5, "delay": "1h", "queue": "batched", "labels": {"tenant": "acme"}, "timeout": 90}
    [item] = batch(client, add(1, **options)).json()["items"]
    job = item["job"]
    assert (job["priority"], job["queue"], job["labels"]) == (5, "batched", {"tenant": "acme"})


def test_a_key_for_sending_it_again_is_refused_and_not_passed_over(client):
    item = add(1, queue="batched-once")
    headers = {"Idempotency-Key": "batch-1"}
    response = client.post("/v1/jobs/batch", json={"items": [item]}, headers=headers)
    assert response.status_code == 400
    assert response.json()["parameter"] == "Idempotency-Key"
    assert "give each item of a batch an id" in response.json()["detail"]
    assert client.get("/v1/jobs", params={"queue": "batched-once"}).json()["items"] == []


def test_what_is_refused_is_the_only_one_refused(client):
    client.patch("/v1/queues/batch-small", json={"max_size": 1})
    later = {"delay": "1h"}
    unique = later | {"unique": "batch-key", "on_conflict": "reject"}
    response = batch(
        client,
        add(1, queue="batch-small", **later),
        add(2, queue="batch-small", **later),
        {"task": "ad", "args": {"a": 1}},
        {"task": "add", "args": {"a": "x"}},
        add(3, priority=12),
        add(4, prioritiy=1),
        add(5, **unique),
        add(6, **unique),
        {"task": "chatty"},
    )
    assert response.status_code == 207
    items = response.json()["items"]
    assert [item["status"] for item in items] == [202, 503, 404, 422, 400, 400, 202, 409, 202]
    codes = [item["problem"]["code"] for item in items if "problem" in item]
    assert codes == [
        *("queue-full", "unknown-task", "invalid-arguments"),
        *("invalid-parameter", "unknown-parameter", "duplicate-job"),
    ]
    assert not any("query" in item["problem"]["title"] for item in items if "problem" in item)
    assert all(("job" in item) == (item["status"] == 202) for item in items)
    assert 1 <= items[1]["problem"]["retry_after"] <= 300
    assert items[3]["problem"]["errors"][0]["pointer"] == "/a"
    assert items[7]["problem"]["existing"] == items[6]["job"]["id"]
    assert client.get("/v1/queues/batch-small").json()["counts"]["queued"] == 1
    taken = [item["job"]["id"] for item in items if "job" in item]
    assert all(client.get(f"/v1/jobs/{job}").status_code == 200 for job in taken)


def test_the_holder_of_a_key_is_the_answer(client):
    response = batch(client, add(1, delay="1h", unique="held"), add(2, delay="1h", unique="held"))
    first, second = response.json()["items"]
    assert (response.status_code, first["status"], second["status"]) == (202, 202, 200)
    assert first["job"]["id"] == second["job"]["id"]


MISTAKES = {
    "none": ({}, "/items"),
    "empty": ({"items": []}, "/items"),
    "too many": ({"items": [add()] * 1001}, "/items"),
    "no object": ({"items": [add(), 7]}, "/items/1"),
    "no task": ({"items": [{"args": {}}]}, "/items/0/task"),
    "list": ({"items": [{"task": "add", "args": [1]}]}, "/items/0/args"),
    "unknown": ({"items": [{"task": "add", "arguments": {"a": 1}}]}, "/items/0/arguments"),
}


@pytest.mark.parametrize(("body", "pointer"), MISTAKES.values(), ids=MISTAKES)
def test_what_is_no_batch_is_refused_as_a_whole(client, body, pointer):
    finished(client, submit(client, "add", a=1))
    before = client.get("/v1/queues/default").json()["counts"]["succeeded"]
    response = client.post("/v1/jobs/batch", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-body")
    assert response.json()["errors"][0]["pointer"] == pointer
    assert client.get("/v1/queues/default").json()["counts"]["succeeded"] == before
