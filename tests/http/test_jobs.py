"""Jobs over HTTP: look, list, result, cancel, retry."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.http.serving import finished, submit, until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
FIELDS = (
    *("id", "task", "state", "queue", "priority", "labels", "progress", "estimate", "attempt", "max_attempts"),
    *("error", "created_at", "run_at", "expires_at", "started_at", "finished_at", "cancel_requested", "stopped"),
    *("waiting_reason", "waiting", "links", "seq"),
)


def test_a_job_resource_has_all_its_fields(client, gate):
    id = submit(client, "gated", gate=str(gate))
    until(client, id, "progress")
    response = client.get(f"/v1/jobs/{id}")
    job = response.json()
    assert tuple(job) == FIELDS
    assert job["state"] == "running"
    assert set(job["progress"]) == {"percent", "done", "total", "unit", "phase", "message", "updated_at"}
    assert job["progress"]["unit"] == "steps"
    for name in ("created_at", "run_at", "started_at"):
        assert TIME.fullmatch(job[name]), name
    assert response.headers["retry-after"]
    waiting = client.get(f"/v1/jobs/{id}/result")
    assert waiting.status_code == 202
    assert waiting.headers["retry-after"]
    assert waiting.json()["state"] == "running"
    gate.write_text("done")
    over = finished(client, id)
    assert TIME.fullmatch(over["finished_at"])
    assert "retry-after" not in client.get(f"/v1/jobs/{id}").headers


ENDS = {
    "broken": ("failed", "job-failed", "ValueError: no luck today"),
    "hopeless": ("failed", "job-failed", "there is no point"),
    "dies": ("failed", "job-crashed", "SIGKILL"),
}


@pytest.mark.parametrize(("task", "expected"), ENDS.items(), ids=ENDS)
def test_a_job_without_result_says_why(client, task, expected):
    state, code, reason = expected
    id = submit(client, task)
    job = finished(client, id)
    assert job["state"] == state
    assert "traceback" not in job["error"]
    assert "stderr" not in job["error"]
    response = client.get(f"/v1/jobs/{id}/result")
    assert (response.status_code, response.json()["code"]) == (409, code)
    assert reason.split(": ")[-1] in response.json()["detail"]


def test_a_timeout_is_an_end_of_its_own(client):
    id = submit(client, "slow", params={"timeout": "0.2"})
    assert finished(client, id)["error"]["code"] == "timed-out"
    response = client.get(f"/v1/jobs/{id}/result")
    assert (response.status_code, response.json()["code"]) == (409, "job-timed-out")


@pytest.mark.parametrize("part", ["", "/result", "/events"])
def test_an_unknown_job_is_not_found(client, part):
    response = client.get(f"/v1/jobs/nobody{part}")
    assert (response.status_code, response.json()["code"]) == (404, "job-not-found")
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/v1/jobs/a/b", "/v1/jobs/a%2Fb", "/v1/jobs/..%2f..", "/v1/jobs/%00", "/v1/jobs/", "/nothing"]
)
def test_odd_paths_are_not_found(client, path):
    response = client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_a_wrong_method_names_the_right_ones(client):
    response = client.delete("/v1/queues")
    assert (response.status_code, response.json()["code"]) == (405, "method-not-allowed")
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}
    several = client.delete("/v1/queues/mail")
    assert set(several.headers["allow"].split(", ")) == {"GET", "HEAD", "PATCH"}
    assert "allowed: GET, HEAD, PATCH." in several.json()["detail"]
    assert client.options("/v1/jobs").status_code == 405
    assert client.head("/v1/jobs").status_code == 200


def test_a_running_job_is_stopped_and_the_receipt_says_how(client):
    id = submit(client, "spin")
    until(client, id, "progress")
    response = client.post(f"/v1/jobs/{id}/cancel", json={"reason": "enough"}, headers={"Prefer": "wait=20"})
    receipt = response.json()
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=20"
    assert (receipt["job_id"], receipt["state"], receipt["final"]) == (id, "cancelled", True)
    assert (receipt["stopped"], receipt["reason"]) == ("soft", "enough")
    assert receipt["after_ms"] > 0
    job = client.get(f"/v1/jobs/{id}").json()
    assert job["stopped"] == "soft"
    assert job["cancel_requested"]["reason"] == "enough"
    assert client.get(f"/v1/jobs/{id}/result").json()["code"] == "job-cancelled"


def test_a_stubborn_job_is_killed_after_its_grace(client):
    id = submit(client, "spin", stubborn=True)
    until(client, id, "progress")
    response = client.post(f"/v1/jobs/{id}/cancel", json={"grace": 0.2}, headers={"Prefer": "wait=20"})
    assert (response.status_code, response.json()["stopped"]) == (200, "killed")


def test_a_cancel_does_not_wait_unless_it_is_asked_to(client):
    id = submit(client, "spin", stubborn=True)
    until(client, id, "progress")
    response = client.post(f"/v1/jobs/{id}/cancel", json={"grace": 300})
    assert (response.status_code, response.json()["final"]) == (202, False)
    sharper = client.post(f"/v1/jobs/{id}/cancel", json={"force": True}, headers={"Prefer": "wait=20"})
    assert (sharper.status_code, sharper.json()["stopped"]) == (200, "killed")


def test_two_cancels_at_once_stop_one_job_once(client):
    id = submit(client, "spin")
    until(client, id, "progress")

    def cancel(_):
        return client.post(f"/v1/jobs/{id}/cancel", headers={"Prefer": "wait=20"})

    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(cancel, range(2)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert any(answer.status_code == 200 for answer in answers)
    assert finished(client, id)["state"] == "cancelled"


def test_a_waiting_job_is_cancelled_before_it_starts(client):
    id = submit(client, "add", params={"delay": "1h"}, a=1)
    response = client.post(f"/v1/jobs/{id}/cancel")
    assert (response.status_code, response.json()["stopped"]) == (200, "before-start")
    again = client.post(f"/v1/jobs/{id}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "job-finished")


BODIES = {
    "unknown": ({"graze": 1}, "/graze", "Did you mean 'grace'?"),
    "negative": ({"grace": -1}, "/grace", "duration"),
    "boolean": ({"grace": True}, "/grace", "duration"),
    "text": ({"force": "yes"}, "/force", "neither true nor false"),
    "long": ({"reason": "x" * 2000}, "/reason", "at most"),
}


@pytest.mark.parametrize(("body", "pointer", "detail"), BODIES.values(), ids=BODIES)
def test_a_cancel_that_cannot_be_read_stops_nothing(client, body, pointer, detail):
    id = submit(client, "add", params={"delay": "1h"}, a=1)
    response = client.post(f"/v1/jobs/{id}/cancel", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-body")
    [error] = response.json()["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]
    assert client.get(f"/v1/jobs/{id}").json()["state"] == "queued"


def test_a_running_job_says_where_its_code_is(client):
    id = submit(client, "spin")
    until(client, id, "progress")
    response = client.get(f"/v1/jobs/{id}/stack")
    found = response.json()
    assert response.headers["cache-control"] == "no-store"
    assert set(found) == {"at", "attempt", "source", "text", "process", "children"}
    assert TIME.fullmatch(found["at"])
    assert (found["source"], found["attempt"], found["children"]) == ("interpreter", 1, [])
    assert "in spin" in found["text"]
    assert found["process"]["command"] == "heavylift-host"
    assert client.get(f"/v1/jobs/{id}").json()["links"]["stack"] == f"/v1/jobs/{id}/stack"
    client.post(f"/v1/jobs/{id}/cancel", headers={"Prefer": "wait=20"})
    over = client.get(f"/v1/jobs/{id}/stack")
    assert (over.status_code, over.json()["code"], over.json()["state"]) == (409, "job-not-running", "cancelled")


def test_a_job_that_is_over_starts_anew(client):
    id = submit(client, "broken")
    finished(client, id)
    response = client.post(f"/v1/jobs/{id}/retry")
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/jobs/{id}"
    assert finished(client, id)["attempt"] == 2


def test_a_retry_goes_on_from_the_checkpoint_or_from_the_start(client, tmp_path):
    (tmp_path / "gate").write_text("open")
    id = submit(client, "resuming", gate=str(tmp_path / "gate"), fail=True)
    failed = finished(client, id)
    assert (failed["state"], failed["progress"]["done"]) == ("failed", 1), "how far it came is kept"
    kept = client.get(f"/v1/jobs/{id}/checkpoint")
    assert kept.json() == {"value": 1, "steps": {"greet": "Hello"}, "size": kept.json()["size"]}
    assert kept.headers["etag"] == f'"{failed["seq"]}"'
    for body, result in (({}, 2), ({"from_checkpoint": True}, 3), ({"from_checkpoint": False}, None)):
        assert client.post(f"/v1/jobs/{id}/retry", json=body).status_code == 202
        over = finished(client, id)
        assert over["state"] == ("failed" if result is None else "succeeded")
        assert client.get(f"/v1/jobs/{id}/checkpoint").json()["value"] == (result or 1)


def test_who_saved_nothing_has_no_checkpoint(client):
    id = submit(client, "add", a=1)
    finished(client, id)
    response = client.get(f"/v1/jobs/{id}/checkpoint")
    assert (response.status_code, response.json()["code"]) == (404, "no-checkpoint")


def test_a_job_whose_unique_key_is_taken_by_now_is_not_retried(client):
    params = {"unique": "one at a time", "delay": "1h"}
    old = submit(client, "add", params=params, a=1)
    assert client.post(f"/v1/jobs/{old}/cancel").status_code == 200
    new = submit(client, "add", params=params, a=1)
    response = client.post(f"/v1/jobs/{old}/retry")
    assert (response.status_code, response.json()["code"]) == (409, "duplicate-job")
    assert response.json()["existing"] == new
    assert client.get(f"/v1/jobs/{old}").json()["state"] == "cancelled"
    client.post(f"/v1/jobs/{new}/cancel")
    assert client.post(f"/v1/jobs/{old}/retry").status_code == 202
    client.post(f"/v1/jobs/{old}/cancel")


def test_a_job_that_is_not_over_is_not_retried(client):
    id = submit(client, "add", params={"delay": "1h"}, a=1)
    response = client.post(f"/v1/jobs/{id}/retry")
    assert (response.status_code, response.json()["code"]) == (409, "job-not-finished")


def test_lists_are_filtered_and_paged(client):
    common = {"queue": "listed", "delay": "1h"}
    ids = [submit(client, "add", params={**common, "label.tenant": "acme"}, a=number) for number in range(5)]
    other = submit(client, "bounded", params=common, share=0.5)

    def found(**params):
        return [job["id"] for job in client.get("/v1/jobs", params={"queue": "listed", **params}).json()["items"]]

    assert found() == [other, *reversed(ids)]
    assert found(task="bounded") == [other]
    assert found(**{"label.tenant": "acme"}) == ids[::-1]
    assert found(state="queued,running") == [other, *reversed(ids)]
    assert found(state="failed") == []
    first = client.get("/v1/jobs", params={"queue": "listed", "page_size": 4}).json()
    rest = client.get(
        "/v1/jobs", params={"queue": "listed", "page_size": 4, "page_token": first["next_page_token"]}
    ).json()
    assert [job["id"] for job in first["items"] + rest["items"]] == [other, *reversed(ids)]
    assert rest["next_page_token"] is None


LISTS = {
    "state": ({"state": "runing"}, "Did you mean 'running'?"),
    "zero": ({"page_size": "0"}, "from 1 to 1000"),
    "many": ({"page_size": "1001"}, "from 1 to 1000"),
    "text": ({"page_size": "x"}, "from 1 to 1000"),
    "token": ({"page_token": "nonsense"}, "page_token"),
    "unknown": ({"stat": "queued"}, "Did you mean 'state'?"),
}


@pytest.mark.parametrize(("params", "detail"), LISTS.values(), ids=LISTS)
def test_a_list_that_cannot_be_read_is_refused(client, params, detail):
    response = client.get("/v1/jobs", params=params)
    assert response.status_code == 400
    assert detail in response.json()["detail"]


def test_a_job_says_what_it_waits_for(client):
    client.patch("/v1/queues/stopped", json={"paused": True})
    paused = submit(client, "add", params={"queue": "stopped"}, a=1)
    later = submit(client, "add", params={"delay": "1h"}, a=1)
    response = client.get(f"/v1/jobs/{paused}")
    found = response.json()
    assert found["waiting"] == {"code": "queue-paused", "until": None, "ahead": 0, "holders": []}
    assert found["waiting_reason"].startswith("queue 'stopped' is paused since ")
    assert found["estimate"] is None
    assert response.headers["retry-after"] == "10"
    response = client.get(f"/v1/jobs/{later}")
    found = response.json()
    assert found["waiting"]["code"] == "scheduled"
    assert found["waiting"]["until"] == found["estimate"]["starts_at"] == found["run_at"]
    assert re.fullmatch(r"scheduled for \S+Z \(in (59 min|1 h).*\)", found["waiting_reason"])
    assert found["estimate"]["basis"] == "schedule"
    assert response.headers["retry-after"] == "300"
    listed = {job["id"]: job for job in client.get("/v1/jobs").json()["items"]}
    assert [listed[id]["waiting"]["code"] for id in (paused, later)] == ["queue-paused", "scheduled"]
    client.patch("/v1/queues/stopped", json={"paused": False})
    assert finished(client, paused)["state"] == "succeeded"


def test_a_job_says_when_it_expires_and_that_it_has(client):
    client.patch("/v1/queues/stopped", json={"paused": True})
    late = submit(client, "add", params={"expires": "0.05", "queue": "stopped"}, a=1)
    job = client.get(f"/v1/jobs/{late}").json()
    assert TIME.fullmatch(job["expires_at"])
    over = finished(client, late)
    assert (over["state"], over["error"]["code"], over["attempt"]) == ("failed", "expired", 0)
    refused = client.get(f"/v1/jobs/{late}/result")
    assert (refused.status_code, refused.json()["code"]) == (409, "job-failed")
    assert "within 0.05 s" in refused.json()["detail"]
