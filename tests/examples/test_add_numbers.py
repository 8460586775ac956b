"""Adding numbers: the script that came with the two jobs, every route's shape, and each limit of the queue."""

import sys
import time

import pytest
from tests.http.serving import events, finished

COMMAND = [sys.executable, "-m", "examples.add_numbers", "--port", "0", "--store", "sqlite:///jobs.db"]
TWO, THREE = "/workers/jobs/add-two-numbers", "/workers/jobs/add-three-numbers"
QUEUE = "/api/v1/queues/worker-queue"


def queued(client, path, **body):
    answer = client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    job = answer.json()["jobId"]
    assert answer.json() == {"success": True, "jobId": job, "message": "Job queued successfully"}
    return job


def status_of(client, job):
    answer = client.get(f"/workers/jobs/{job}").json()
    assert answer.keys() == {"success", "status"}
    assert answer["success"] is True
    return answer["status"]


def stats(client):
    answer = client.get("/workers/queue/stats").json()
    assert answer.keys() == {"success", "stats"}
    assert answer["success"] is True
    return answer["stats"]


def test_the_script_two_jobs_the_statistics_both_sums(running, tmp_path):
    with running(tmp_path) as server, server.client() as client, server.client("/api") as native:
        assert stats(client) == {"waiting": 0, "active": 0, "completed": 0, "failed": 0}
        two, three = queued(client, TWO, a=5, b=10), queued(client, THREE, a=1, b=2, c=3)
        assert sum(stats(client).values()) == 2
        for job in (two, three):
            finished(native, job)
        assert status_of(client, two)["returnvalue"]["result"] == 15
        assert status_of(client, three)["returnvalue"]["result"] == 6
        assert stats(client) == {"waiting": 0, "active": 0, "completed": 2, "failed": 0}


def test_the_status_of_a_job_that_is_over(client, native):
    before = time.time() * 1000
    job = queued(client, THREE, a=1, b=2.5, c=-3)
    finished(native, job)
    status = status_of(client, job)
    processed, ended = status.pop("processedOn"), status.pop("finishedOn")
    assert before - 1 <= processed <= ended
    assert status.pop("returnvalue").keys() == {"success", "result", "executionTime"}
    assert status == {
        "id": job,
        "name": "add-three-numbers",
        "data": {"a": 1, "b": 2.5, "c": -3},
        "progress": 0,
        "failedReason": None,
        "state": "completed",
    }


def test_the_api_answers_while_a_job_burns_and_the_job_can_be_stopped(client, native):
    job = queued(client, TWO, a=1, b=2, burn=60)
    next(item for item in events(native, job, after=0) if item.kind == "progress")
    status = status_of(client, job)
    assert (status["state"], status["returnvalue"], status["finishedOn"]) == ("active", None, None)
    assert 0 < status["progress"] < 100
    assert stats(client)["active"] == 1
    answer = client.post(f"/jobs/{job}/cancel")
    assert answer.status_code == 201
    assert answer.json() == {"success": True, "message": f"Cancellation signal sent for job {job}"}
    status = status_of(client, job)
    assert (status["state"], status["failedReason"]) == ("failed", f"Job {job} was cancelled")
    assert client.post(f"/jobs/{job}/cancel").json() == {
        "success": False,
        "message": f"Job {job} is already failed",
    }


def test_the_progress_of_a_job_outlives_it(client, native):
    job = queued(client, TWO, a=1, b=2, burn=0.1)
    finished(native, job)
    answer = client.get(f"/jobs/{job}/progress").json()
    status = status_of(client, job)
    times = {name: status[name] for name in ("processedOn", "finishedOn")}
    assert answer == {"jobId": job, "publicProgress": 100, "state": "completed", "failedReason": None} | times


def test_a_waiting_job_is_in_the_list_and_a_cancelled_one_never_runs(running, tmp_path):
    with running(tmp_path) as server, server.client() as client:
        client.patch(QUEUE, json={"paused": True}).raise_for_status()
        jobs = [queued(client, TWO, a=number, b=1, userId="u-1") for number in range(3)]
        assert [row["id"] for row in client.get("/jobs").json()] == jobs[::-1]
        assert [row["id"] for row in client.get("/jobs", params={"limit": 1, "offset": 1}).json()] == [jobs[1]]
        [row] = client.get("/jobs", params={"offset": 2}).json()
        assert row.pop("createdAt") == row.pop("updatedAt")
        assert row == {
            "id": jobs[0],
            "bullJobId": jobs[0],
            "userId": "u-1",
            "type": "add-two-numbers",
            "status": "PENDING",
            "data": {"a": 0, "b": 1},
            "result": None,
            "error": None,
            "startedAt": None,
            "completedAt": None,
        }
        assert stats(client) == {"waiting": 3, "active": 0, "completed": 0, "failed": 0}
        assert client.post(f"/jobs/{jobs[0]}/cancel").json()["success"] is True
        client.patch(QUEUE, json={"paused": False}).raise_for_status()
        with server.client("/api") as native:
            for job in jobs[1:]:
                finished(native, job)
        assert [row["status"] for row in client.get("/jobs").json()] == ["COMPLETED", "COMPLETED", "CANCELLED"]
        assert status_of(client, jobs[0])["processedOn"] is None


def test_what_a_job_is_comes_from_the_url_never_from_its_body(client, native):
    job = queued(client, TWO, a=5, b=10, type="add-three-numbers", userId="u-1")
    assert finished(native, job)["task"] == "add-two-numbers"
    assert status_of(client, job)["data"] == {"a": 5, "b": 10}


def test_an_unknown_job_is_not_found(client):
    answer = client.get("/workers/jobs/nope")
    assert (answer.status_code, answer.json()) == (404, {"success": False, "message": "Job not found"})
    for answer in (client.get("/jobs/nope/progress"), client.post("/jobs/nope/cancel")):
        assert answer.status_code == 404
        assert answer.json() == {"message": "Job with id nope not found", "error": "Not Found", "statusCode": 404}


BAD = [
    "",
    "{",
    "[]",
    "{}",
    '{"a": 5}',
    '{"a": "5", "b": 10}',
    '{"a": null, "b": 10}',
    '{"a": true, "b": 10}',
    '{"a": [5], "b": 10}',
    '{"a": NaN, "b": 10}',
    '{"a": 1e999, "b": 10}',
    '{"a": -Infinity, "b": 10}',
    f'{{"a": 1{"0" * 400}, "b": 10}}',
    '{"a": 5, "b": 10, "burn": -1}',
    '{"a": 5, "b": 10, "burn": 61}',
    '{"a": 5, "b": 10, "userId": "\\u0000"}',
    '{"a": 5, "b": 10, "userId": "\\ud800"}',
]


@pytest.mark.parametrize("body", BAD)
@pytest.mark.parametrize("path", [TWO, THREE])
def test_a_body_that_does_not_fit_is_refused_before_anything_is_queued(client, path, body):
    newest = [row["id"] for row in client.get("/jobs?limit=1").json()]
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    refused = answer.json()
    assert refused.keys() == {"success", "message", "error"}
    assert (refused["success"], refused["message"]) == (False, "Failed to queue job")
    assert refused["error"]
    assert [row["id"] for row in client.get("/jobs?limit=1").json()] == newest


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "offset=-1"])
def test_a_page_that_cannot_be_is_refused(client, query):
    answer = client.get(f"/jobs?{query}")
    assert answer.status_code == 422
    assert answer.json().keys() == {"message", "error", "statusCode"}


def test_a_full_queue_refuses_the_next_job_and_says_when_to_come_again(running, tmp_path):
    with running(tmp_path) as server, server.client() as client:
        client.patch(QUEUE, json={"paused": True}).raise_for_status()
        for number in range(100):
            queued(client, TWO, a=number, b=1)
        answer = client.post(TWO, json={"a": 100, "b": 1})
        assert answer.status_code == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 300
        assert answer.json()["message"] == "Failed to queue job"
        assert "full" in answer.json()["error"]
        assert stats(client)["waiting"] == 100


def test_two_jobs_run_at_a_time(running, tmp_path):
    with running(tmp_path) as server, server.client() as client, server.client("/api") as native:
        client.patch(QUEUE, json={"paused": True}).raise_for_status()
        jobs = [queued(client, TWO, a=number, b=1, burn=0.3) for number in range(6)]
        client.patch(QUEUE, json={"paused": False}).raise_for_status()
        for job in jobs:
            finished(native, job)
        ends = [status_of(client, job) for job in jobs]
    # At the moment when one begins, so many have begun and are not over.
    at_once = [sum(other["processedOn"] <= one["processedOn"] < other["finishedOn"] for other in ends) for one in ends]
    assert max(at_once) == 2


@pytest.mark.slow
def test_a_job_that_raises_is_started_three_times_after_two_and_four_seconds(client, native):
    failed = stats(client)["failed"]
    job = queued(client, TWO, a=1.5e308, b=1.5e308)
    assert finished(native, job)["attempt"] == 3
    status = status_of(client, job)
    assert (status["state"], status["returnvalue"]) == ("failed", None)
    assert status["failedReason"] == "a number is at most 1.79769e+308"
    assert stats(client)["failed"] == failed + 1
    retries = [item.data for item in events(native, job, after=0) if item.kind == "state" and "run_at" in item.data]
    assert [retry["attempt"] for retry in retries] == [1, 2]


def test_the_pool_the_retries_and_what_is_kept_are_as_specified():
    from examples.add_numbers.tasks import add_three_numbers, add_two_numbers, lift

    settings = lift.settings
    assert (settings.concurrency, settings.idle) == (4, 30)
    assert (settings.keep_succeeded, settings.keep_failed) == (10, 5)
    for task in (add_two_numbers, add_three_numbers):
        retry = task.options.retry
        assert retry.attempts == 3
        assert [retry.backoff.delay(failures, 0.9) for failures in (1, 2)] == [2, 4]


def test_who_answers_and_that_it_lives(client):
    home, health = client.get("/").json(), client.get("/health").json()
    assert home == {"server": "add-numbers", "build_version": health["build_version"]}
    assert health.keys() == {"status", "timestamp", "service", "build_version"}
    assert health["status"] == "alive"
