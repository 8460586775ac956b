"""The long process: the two routes as they were first specified, typed with curl, and one test for each way in which
such a service goes wrong.
"""

import json
import re
import subprocess
import sys
from datetime import datetime
from uuid import UUID

import psutil
import pytest
from tests.http.serving import events, finished, until

from heavylift import Heavylift

COMMAND = [sys.executable, "-m", "examples.long_process", "--port", "0", "--store", "sqlite:///jobs.db"]
TASK_ID = "123e4567-e89b-12d3-a456-426614174000"


def curl(address, line):
    """What a line of curl, written for http://localhost:3000, answers: its status and its body."""
    words = line.replace("http://localhost:3000", address).replace("\\\n", " ")
    ended = subprocess.run(f"{words} -s -w '\\n%{{http_code}}'", shell=True, capture_output=True, text=True, check=True)
    body, _, status = ended.stdout.rpartition("\n")
    return int(status), json.loads(body)


def start(address, duration):
    return curl(
        address,
        f"""curl -X POST http://localhost:3000/long-process/start \\
          -H "Content-Type: application/json" \\
          -d '{{"duration": {duration}}}'""",
    )


def status_of(address, task_id):
    return curl(address, f"curl -X GET http://localhost:3000/long-process/status/{task_id}")


def replayed(example, native, duration):
    """The whole example workflow, with this duration."""
    status, answer = start(example.address, duration)
    assert status == 201
    assert set(answer) == {"taskId", "message"}
    assert answer["message"] == "Task started"
    task_id = answer["taskId"]
    assert str(UUID(task_id)) == task_id
    assert status_of(example.address, task_id) == (200, {"taskId": task_id, "status": {"status": "pending"}})
    finished(native, task_id)
    status, answer = status_of(example.address, task_id)
    assert (status, answer["taskId"], answer["status"]["status"]) == (200, task_id, "completed")
    return answer["status"]["result"]


@pytest.mark.parametrize(
    ("duration", "printed"),
    [
        ("1", "1 seconds"),
        ("0.5", "0.5 seconds"),
        ("1.0", "1 seconds"),
        pytest.param("10", "10 seconds", marks=pytest.mark.slow),
    ],
)
def test_the_workflow_answers_as_specified(example, native, duration, printed):
    result = replayed(example, native, duration)
    assert result.keys() == {"processedAt", "duration", "message"}
    assert result["duration"] == printed
    assert result["message"] == "Long-running task completed successfully"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", result["processedAt"])
    assert datetime.fromisoformat(result["processedAt"])


def test_the_work_is_work_for_all_of_its_duration(example, native):
    _, answer = start(example.address, 1)
    job = native.get(f"/v1/jobs/{answer['taskId']}").json()
    facts = [item.data for item in events(native, job["id"], after=0) if item.kind == "state"]
    usage = facts[-1]["usage"]
    assert usage["wall"] >= 1
    assert usage["cpu"] > 0


@pytest.mark.parametrize("task_id", [TASK_ID, "nonsense", "%20", "x" * 500])
def test_an_unknown_id_is_not_found_with_200(example, task_id):
    status, answer = status_of(example.address, task_id)
    assert (status, answer["status"]) == (200, {"status": "not_found"})


BAD = ['"x"', '"10"', "null", "true", "-1", "3600.1", "1e9", "1e999", "NaN", "Infinity", "[]", "{}"]


@pytest.mark.parametrize("duration", BAD)
def test_hole_no_validation_a_bad_duration_is_refused_before_anything_is_queued(example, native, duration):
    before = native.get("/v1/jobs").json()["items"]
    status, problem = start(example.address, duration)
    assert (status, problem["status"], problem["code"]) == (422, 422, "invalid-body")
    assert problem["errors"][0]["pointer"] == "/duration"
    assert [job["id"] for job in native.get("/v1/jobs").json()["items"]] == [job["id"] for job in before]


@pytest.mark.parametrize("body", ["{}", "", "[]", "{", "7"])
def test_hole_no_validation_a_body_without_duration_is_refused(example, body):
    line = f"curl -X POST http://localhost:3000/long-process/start -H 'Content-Type: application/json' -d '{body}'"
    status, problem = curl(example.address, line)
    assert (status, problem["code"]) == (422, "invalid-body")


def test_hole_eternal_pending_a_process_that_dies_is_failed_with_a_message(example, native):
    _, answer = start(example.address, 600)
    until(native, answer["taskId"], "state")
    assert (
        next(item for item in events(native, answer["taskId"], after=1) if item.kind == "state").data["state"]
        == "running"
    )
    busy_host(example.process.pid).kill()
    finished(native, answer["taskId"])
    _, answer = status_of(example.address, answer["taskId"])
    assert answer["status"]["status"] == "failed"
    assert "SIGKILL" in answer["status"]["result"]


def busy_host(pid):
    """The process that burns: hosts are the leaves of the tree of processes, and only one of them is at work."""
    while True:
        leaves = [child for child in psutil.Process(pid).children(recursive=True) if not child.children()]
        busy = [leaf for leaf in leaves if leaf.cpu_percent(interval=0.05) > 30]
        if len(busy) == 1:
            return busy[0]


def test_hole_no_cancel_a_running_process_is_stopped(example, native):
    _, answer = start(example.address, 3600)
    task_id = answer["taskId"]
    assert busy_host(example.process.pid)
    line = f"curl -X POST http://localhost:3000/api/v1/jobs/{task_id}/cancel -H 'Prefer: wait=20'"
    status, receipt = curl(example.address, line)
    assert (status, receipt["state"], receipt["stopped"]) == (200, "cancelled", "soft")
    _, answer = status_of(example.address, task_id)
    assert answer["status"] == {"status": "failed", "result": "The task was cancelled"}


async def test_hole_no_timeout_each_process_has_one_a_little_over_its_duration(running, tmp_path):
    with running(tmp_path) as server:
        _, answer = start(server.address, 30)
        async with Heavylift(f"sqlite:///{tmp_path / 'jobs.db'}") as lift:
            assert (await lift.get(answer["taskId"])).job.options.timeout == 90
        with server.client("/api") as native:
            native.post(f"/v1/jobs/{answer['taskId']}/cancel", headers={"Prefer": "wait=20"})


def test_hole_no_limit_the_queue_has_an_end(running, tmp_path):
    with running(tmp_path) as server, server.client() as client:
        assert client.patch("/api/v1/queues/long-process", json={"paused": True}).json()["max_size"] == 100
        answers = [client.post("/long-process/start", json={"duration": 1}) for _ in range(101)]
        assert [answer.status_code for answer in answers] == [201] * 100 + [503]
        problem = answers[-1].json()
        assert problem["code"] == "queue-full"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 300


def test_hole_no_eviction_what_is_done_is_forgotten():
    from examples.long_process.tasks import lift

    assert lift.settings.keep == 86400


def test_hole_lost_at_restart_what_was_accepted_is_done_by_the_next_process(running, tmp_path):
    with running(tmp_path) as server:
        _, answer = start(server.address, 1)
        task_id = answer["taskId"]
        with server.client("/api") as native:
            next(item for item in events(native, task_id, after=1) if item.kind == "state")
        server.process.kill()
        server.process.wait()
    with running(tmp_path) as server, server.client("/api") as native:
        finished(native, task_id)
        _, answer = status_of(server.address, task_id)
        assert answer["status"]["status"] == "completed"
