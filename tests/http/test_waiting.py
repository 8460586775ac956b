"""`Prefer: wait=N` and ETags: who waits is answered as soon as there is news, who knows it all hears nothing."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.http.serving import finished, submit, until

WAIT = {"Prefer": "wait=30"}


def test_a_submit_that_waits_gets_the_finished_job_with_its_result(client):
    response = client.post("/v1/tasks/add/jobs", json={"a": 40, "b": 2}, headers=WAIT)
    job = response.json()
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=30"
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert "retry-after" not in response.headers
    assert (job["state"], job["result"]) == ("succeeded", 42)


def test_a_submit_that_waits_gets_a_failed_job_without_a_result(client):
    response = client.post("/v1/tasks/hopeless/jobs", headers=WAIT)
    job = response.json()
    assert (response.status_code, job["state"], job["error"]["message"]) == (200, "failed", "there is no point")
    assert "result" not in job


def test_a_submit_whose_job_takes_longer_is_accepted(client):
    response = client.post("/v1/tasks/add/jobs", params={"delay": "1h"}, json={"a": 1}, headers={"Prefer": "wait=0"})
    assert response.status_code == 202
    assert response.headers["retry-after"] == "300"
    assert "result" not in response.json()


def test_no_answer_has_a_result_but_that_of_a_submit(client):
    id = submit(client, "add", a=1)
    assert "result" not in finished(client, id)


def test_a_result_is_waited_for(client, gate):
    id = submit(client, "gated", gate=str(gate))
    until(client, id, "progress")
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(client.get, f"/v1/jobs/{id}/result", headers=WAIT)
        gate.write_text("open")
        response = waiting.result()
    assert (response.status_code, response.json()) == (200, "open")
    assert response.headers["preference-applied"] == "wait=30"


def test_a_result_that_does_not_come_is_not_waited_for_longer(client):
    id = submit(client, "add", params={"delay": "1h"}, a=1)
    response = client.get(f"/v1/jobs/{id}/result", headers={"Prefer": "wait=0"})
    assert (response.status_code, response.json()["state"]) == (202, "queued")


def test_a_poll_waits_until_the_job_changes(client, gate):
    id = submit(client, "gated", gate=str(gate))
    while (known := client.get(f"/v1/jobs/{id}")).json()["progress"] is None or known.json()["progress"]["done"] < 3:
        until(client, id, "progress")
    asked = threading.Event()

    def poll():
        asked.set()
        return client.get(f"/v1/jobs/{id}", headers={**WAIT, "If-None-Match": known.headers["etag"]})

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(poll)
        asked.wait()
        gate.write_text("open")
        response = waiting.result()
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=30"
    assert response.json()["state"] == "succeeded"
    assert response.json()["seq"] > known.json()["seq"]


def test_a_poll_that_knows_an_older_state_is_answered_at_once(client):
    id = submit(client, "add", params={"delay": "1h"}, a=1)
    response = client.get(f"/v1/jobs/{id}", headers={"Prefer": "wait=300", "If-None-Match": '"0"'})
    assert (response.status_code, response.json()["seq"]) == (200, 1)


def test_a_poll_of_a_job_that_is_over_is_answered_at_once(client):
    id = submit(client, "add", a=1)
    finished(client, id)
    assert client.get(f"/v1/jobs/{id}", headers={"Prefer": "wait=300"}).json()["state"] == "succeeded"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("part", ["", "/result"])
def test_who_has_it_is_told_so(client, method, part):
    id = submit(client, "add", a=1)
    job = finished(client, id)
    path = f"/v1/jobs/{id}{part}"
    tag = client.request(method, path).headers["etag"]
    assert tag == f'"{job["seq"]}"'
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        response = client.request(method, path, headers={"If-None-Match": known})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == tag
    for other in ('"x"', tag.strip('"')):
        assert client.request(method, path, headers={"If-None-Match": other}).status_code == 200


def test_a_wait_without_news_ends_with_what_the_caller_has(client):
    id = submit(client, "add", params={"delay": "1h"}, a=1)
    tag = client.get(f"/v1/jobs/{id}").headers["etag"]
    response = client.get(f"/v1/jobs/{id}", headers={"Prefer": "wait=0", "If-None-Match": tag})
    assert response.status_code == 304
    assert response.headers["retry-after"]


def test_a_head_is_a_get_without_its_body(client):
    id = submit(client, "add", a=1)
    finished(client, id)
    paths = ["/", "/healthz", "/readyz", "/openapi.json", "/docs", "/v1/tasks", "/v1/tasks/add", "/v1/jobs"]
    paths += ["/v1/queues", "/v1/workers", f"/v1/jobs/{id}", f"/v1/jobs/{id}/result", f"/v1/jobs/{id}/logs"]
    for path in paths:
        head, whole = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]


def test_workers_say_how_they_are(client):
    page = client.get("/v1/workers").json()
    [worker] = page["items"]
    assert (worker["state"], worker["concurrency"], worker["queues"]) == ("alive", 2, [])
    assert worker["started_at"].endswith("Z")
    assert page["next_page_token"] is None


def test_who_meets_the_job_of_another_task_gets_no_result_of_a_wrong_type(client):
    """Unique keys are shared by all tasks; the result of the other one would not be what the caller takes it for."""
    params = {"unique": "shared", "delay": "0.3"}
    first = client.post("/v1/tasks/add/jobs", params=params, json={"a": 1}).json()
    second = client.post("/v1/tasks/chatty/jobs", params=params, headers=WAIT)
    assert (second.status_code, second.json()["id"], second.json()["task"]) == (200, first["id"], "add")
    assert second.json()["state"] == "succeeded"
    assert "result" not in second.json()
