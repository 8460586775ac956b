"""PATCH of a job that waits: another place in the line."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.http.serving import finished, submit


def waiting(client, **params):
    return submit(client, "add", params={"delay": "1h", **params}, a=1)


def patch(client, job, body, **headers):
    return client.patch(f"/v1/jobs/{job}", json=body, headers=headers)


def test_a_waiting_job_gets_another_priority_and_time(client):
    job = waiting(client)
    moved = patch(client, job, {"priority": 9})
    assert moved.status_code == 200
    assert (moved.json()["priority"], moved.headers["etag"]) == (9, '"2"')
    at = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
    later = patch(client, job, {"run_at": at}).json()
    assert datetime.fromisoformat(later["run_at"]) - datetime.fromisoformat(at) < timedelta(seconds=0.01)
    assert later["priority"] == 9
    assert later["waiting_reason"].startswith("scheduled")
    assert client.get(f"/v1/jobs/{job}").json() == later


def test_a_job_that_is_to_run_now_runs(client):
    job = waiting(client)
    assert patch(client, job, {"delay": 0}).status_code == 200
    assert finished(client, job)["state"] == "succeeded"


def test_nothing_to_change_changes_nothing(client):
    job = waiting(client, priority="3")
    for body in ({}, {"priority": 3}):
        moved = patch(client, job, body)
        assert (moved.status_code, moved.headers["etag"]) == (200, '"1"')


def test_only_a_waiting_job_is_moved(client):
    job = submit(client, "add", a=1)
    finished(client, job)
    response = patch(client, job, {"priority": 9})
    assert (response.status_code, response.json()["code"], response.json()["state"]) == (
        409,
        "job-not-waiting",
        "succeeded",
    )
    assert patch(client, "nobody", {"priority": 9}).status_code == 404


def test_a_job_is_moved_only_as_it_was_known(client):
    job = waiting(client)
    assert patch(client, job, {"priority": 1}, **{"If-Match": '"1"'}).status_code == 200
    for tags in ('"1"', '"1", "7"', 'W/"2"', "2"):
        refused = patch(client, job, {"priority": 2}, **{"If-Match": tags})
        assert (refused.status_code, refused.json()["code"]) == (412, "job-changed"), tags
    assert client.get(f"/v1/jobs/{job}").json()["priority"] == 1
    for tags in ('"2"', "*", '"9", "4"'):
        assert patch(client, job, {"delay": "2h"}, **{"If-Match": tags}).status_code == 200, tags


MISTAKES = {
    "range": ({"priority": 12}, "/priority"),
    "text": ({"priority": "high"}, "/priority"),
    "text of a number": ({"priority": "5"}, "/priority"),
    "Unix seconds": ({"run_at": 1800000000}, "/run_at"),
    "null": ({"run_at": None}, "/run_at"),
    "no zone": ({"run_at": "2030-01-01T00:00:00"}, "/run_at"),
    "negative": ({"delay": -1}, "/delay"),
    "unknown": ({"queue": "other"}, "/queue"),
}


@pytest.mark.parametrize(("body", "pointer"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place(client, body, pointer):
    job = waiting(client)
    response = patch(client, job, body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-body")
    [error] = response.json()["errors"]
    assert error["pointer"] == pointer
    assert error["detail"]
    assert client.get(f"/v1/jobs/{job}").headers["etag"] == '"1"'
