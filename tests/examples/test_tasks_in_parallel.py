"""Tasks in parallel: every route's shape, what blocks whom, and what the log of answers may and may not hold."""

import asyncio
import contextlib
import json
import logging
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psutil
import pytest
from tests.http.serving import events, finished, submit, until

from heavylift import Heavylift
from heavylift.core.options import Options

COMMAND = [sys.executable, "-m", "examples.tasks_in_parallel", "--port", "0", "--store", "sqlite:///jobs.db"]
HOME = {"message": "Home sweet home"}


@pytest.fixture
def beside():
    """Runs a function in a thread beside the test."""
    with ThreadPoolExecutor() as threads:
        yield threads.submit


def ask(server, path):
    """An answer, however long it takes; None when the server went."""
    with httpx2.Client(base_url=server.address, timeout=None) as client, contextlib.suppress(httpx2.TransportError):
        return client.get(path)
    return None


def heard(server, text, after=0):
    """Waits for a line of the server's log; its number."""
    while True:
        for number in range(after, len(server.said)):
            if text in server.said[number]:
                return number
        time.sleep(0.01)


def job_of(native, state):
    """Waits for the one job in this state."""
    while True:
        jobs = native.get("/v1/jobs", params={"state": state}).json()["items"]
        if len(jobs) == 1:
            return jobs[0]["id"]
        time.sleep(0.01)


def programs(server):
    """The child programs that run below a server."""
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(word.endswith("burn.py") for word in process.cmdline()):
                found.append(process)
    return found


def newest(native):
    return [job["id"] for job in native.get("/v1/jobs", params={"page_size": 1}).json()["items"]]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", HOME),
        ("/blocking", {"message": "/blocking route", "data": None}),
        ("/blocking?CPUTimeMs=300", {"message": "/blocking route", "data": 300}),
        ("/non-blocking-worker", {"CPUTimeMs": 1000}),
        ("/non-blocking-worker?CPUTimeMs=300", {"CPUTimeMs": 300}),
        ("/non-blocking-worker?CPUTimeMs=0", {"CPUTimeMs": 0}),
        ("/child-process", {"CPUTimeMs": 1000}),
        ("/child-process?CPUTimeMs=300", {"CPUTimeMs": 300}),
    ],
)
def test_every_route_answers_as_specified(client, path, body):
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (200, body)


@pytest.mark.parametrize("path", ["/blocking", "/non-blocking-worker", "/child-process"])
@pytest.mark.parametrize("value", ["abc", "", "-1", "60001", "1e9", "0.5", "NaN", "null", "300&CPUTimeMs=abc"])
def test_a_time_that_does_not_fit_is_refused_before_any_work_and_the_server_lives(client, native, path, value):
    before = newest(native)
    answer = client.get(f"{path}?CPUTimeMs={value}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "invalid-parameter"
    assert "CPUTimeMs" in problem["detail"]
    assert newest(native) == before
    assert client.get("/").json() == HOME


@pytest.mark.parametrize("task", ["worker", "child-process"])
def test_a_time_that_does_not_fit_is_refused_by_the_native_api_too(native, task):
    before = newest(native)
    assert native.post(f"/v1/tasks/{task}/jobs", json={"cpu_time": 60_001}).status_code == 422
    assert newest(native) == before


def test_an_unknown_path_is_a_page_that_says_so(client):
    answer = client.get("/<b>nope</b>")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "Cannot GET /&lt;b&gt;nope&lt;/b&gt;" in answer.text


@pytest.mark.parametrize("path", ["/non-blocking-worker", "/child-process"])
def test_home_answers_while_the_work_is_done_elsewhere(example, client, native, beside, path):
    work = beside(ask, example, f"{path}?CPUTimeMs=60000")
    job = job_of(native, "running")
    assert client.get("/").json() == HOME
    assert not work.done()
    assert native.get(f"/v1/jobs/{job}").json()["state"] == "running"
    receipt = native.post(f"/v1/jobs/{job}/cancel", headers={"Prefer": "wait=20"}).json()
    assert receipt["state"] == "cancelled"
    assert receipt["stopped"] in ("soft", "before-start")  # running is claimed: its host may not have begun it
    answer = work.result()
    assert (answer.status_code, answer.json()) == (500, {"message": "The task was cancelled"})


def test_home_answers_only_after_blocking_is_over(example, client, beside):
    before = len(example.said)
    work = beside(ask, example, "/blocking?CPUTimeMs=2000")
    heard(example, "/blocking holds the event loop for 2000 ms", before)
    assert client.get("/").json() == HOME
    assert work.result().json() == {"message": "/blocking route", "data": 2000}
    # The server's own order of its answers: that of two clients would depend on who was scheduled first.
    assert heard(example, "/blocking 200", before) < heard(example, "/ 200", before)


async def test_jobs_go_on_while_blocking_burns(running, tmp_path, beside):
    with running(tmp_path) as server:
        work = beside(ask, server, "/blocking?CPUTimeMs=60000")
        heard(server, "/blocking holds the event loop")
        async with Heavylift(f"sqlite:///{tmp_path / 'jobs.db'}") as lift:
            options = Options(queue="tasks-in-parallel")
            [job] = await lift.client.submit([("worker", b'{"cpu_time": 100}', options)])
            assert (await lift.client.finished(job.id)).state == "succeeded"
        assert not work.done()
        server.process.kill()
        assert work.result() is None


def test_what_a_program_prints_is_the_log_of_its_job_while_it_runs(native):
    job = submit(native, "child-process", cpu_time=60_000)
    lines = until(native, job, "log").data["lines"]
    assert [line["message"] for line in lines] == ["burning for 60000 ms"]
    assert native.get(f"/v1/jobs/{job}").json()["state"] == "running"
    native.post(f"/v1/jobs/{job}/cancel", headers={"Prefer": "wait=20"}).raise_for_status()


def test_a_stopped_job_leaves_no_program_behind(example, native):
    job = submit(native, "child-process", cpu_time=60_000)
    until(native, job, "log")
    [program] = programs(example)
    receipt = native.post(f"/v1/jobs/{job}/cancel", headers={"Prefer": "wait=20"}).json()
    assert receipt["stopped"] == "soft"
    assert not program.is_running()


def test_a_program_that_dies_is_an_answer_with_its_exit_code(example, native, beside):
    work = beside(ask, example, "/child-process?CPUTimeMs=60000")
    until(native, job_of(native, "running"), "log")
    [program] = programs(example)
    program.kill()
    answer = work.result()
    assert (answer.status_code, answer.json()) == (500, {"message": "Worker stopped with exit code -9"})


def test_a_process_that_dies_is_an_answer_and_the_server_lives(example, client, native, beside):
    work = beside(ask, example, "/child-process?CPUTimeMs=60000")
    until(native, job_of(native, "running"), "log")
    [program] = programs(example)
    program.parent().kill()
    answer = work.result()
    assert answer.status_code == 500
    assert "SIGKILL" in answer.json()["message"]
    assert client.get("/").json() == HOME


def test_a_job_goes_on_when_its_caller_leaves(example, native):
    before = newest(native)
    host, _, port = example.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /non-blocking-worker?CPUTimeMs=500 HTTP/1.1\r\nHost: example\r\n\r\n")
        while (jobs := newest(native)) == before:
            time.sleep(0.01)
    assert finished(native, jobs[0])["state"] == "succeeded"


def test_a_full_queue_refuses_the_next_caller_and_says_when_to_come_again(running, tmp_path):
    with running(tmp_path) as server, server.client() as client, server.client("/api") as native:
        native.patch("/v1/queues/tasks-in-parallel", json={"paused": True}).raise_for_status()
        for _ in range(100):
            submit(native, "worker", cpu_time=0)
        answer = client.get("/non-blocking-worker?CPUTimeMs=0")
        assert (answer.status_code, answer.json()["code"]) == (503, "queue-full")
        assert 1 <= int(answer.headers["retry-after"]) <= 300


# --- the log of answers --------------------------------------------------------------------------------------------


def test_answers_are_logged_with_path_status_and_body(example, client):
    before = len(example.said)
    client.get("/?token=hunter2")
    client.get("/nope%0Anope")
    client.get("/blocking?CPUTimeMs=abc")
    last = heard(example, "/blocking 422", before)
    lines = [line.rstrip() for line in example.said[before : last + 1]]
    assert '/ 200 ==> {"message": "Home sweet home"}' in lines
    assert "/nope%0Anope 404 ==> <a page of HTML>" in lines
    assert not any("hunter2" in line for line in lines)


def test_a_stream_is_not_held_up_and_not_logged(example, native):
    before = len(example.said)
    job = submit(native, "worker", cpu_time=60_000)
    states = (item.data["state"] for item in events(native, job, after=0) if item.kind == "state")
    assert "running" in states  # while it runs: the end of the stream is a minute away
    assert "<a stream>" in example.said[heard(example, f"/api/v1/jobs/{job}/events 200", before)]
    native.post(f"/v1/jobs/{job}/cancel", headers={"Prefer": "wait=20"}).raise_for_status()


def test_secrets_of_a_real_answer_are_not_logged(example, native):
    before = len(example.said)
    job = submit(native, "worker", params={"label.api_key": "hunter2"}, cpu_time=0)
    native.get(f"/v1/jobs/{job}").raise_for_status()
    line = example.said[heard(example, f"/api/v1/jobs/{job} 200", before)]
    assert '"api_key": "[redacted]"' in line
    assert "hunter2" not in line


def logged(caplog, messages):
    """What is logged of an application that answers with these messages; each is passed on before the next is made."""
    from examples.tasks_in_parallel.response_log import ResponseLog

    passed = []

    async def application(scope, receive, send):
        for number, message in enumerate(messages):
            await send(message)
            assert len(passed) == number + 1

    async def send(message):
        passed.append(message)

    with caplog.at_level(logging.INFO, "examples.tasks_in_parallel"):
        asyncio.run(ResponseLog(application)({"type": "http", "path": "/x"}, None, send))
    assert passed == messages
    return caplog.messages


def start(kind, length=None):
    headers = [(b"content-type", kind)] + ([] if length is None else [(b"content-length", str(length).encode())])
    return {"type": "http.response.start", "status": 200, "headers": headers}


def body(data, *, more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def test_parts_are_passed_on_as_they_come_and_logged_as_one(caplog):
    messages = [start(b"application/json", 8), body(b'{"a"', more=True), body(b": 1}")]
    assert logged(caplog, messages) == ['/x 200 ==> {"a": 1}']


@pytest.mark.parametrize(
    ("kind", "length", "data", "marker"),
    [
        (b"application/json", None, b'{"a": 1}', "<a stream>"),
        (b"text/event-stream", None, b"data: 1\n\n", "<a stream>"),
        (b"text/html; charset=utf-8", 4, b"<p>x", "<a page of HTML>"),
        (b"application/json", 65_537, b" " * 65_537, "<65537 bytes>"),
        (b"image/png", 4, b"\x89PNG", "<image/png>"),
        (b"application/json", 1, b"{", "<no JSON>"),
        (b"application/json", 2, b"\xff\xfe", "<no JSON>"),
        (b"application/json", 60_000, b"[" * 60_000, "<no JSON>"),
    ],
)
def test_what_is_no_short_json_is_logged_as_a_marker(caplog, kind, length, data, marker):
    messages = [start(kind, length), body(data, more=True), body(b"")]
    assert logged(caplog, messages) == [f"/x 200 ==> {marker}"]


def test_secrets_are_known_by_their_names_and_by_their_looks(caplog):
    names = ["password", "Passwd", "apiKey", "X-Api-Key", "access_token", "clientSecret", "Set-Cookie", "authorization"]
    answer = {
        "user": "ada",
        "rows": [{name: ["hunter2"]} for name in names],
        "note": "curl -H 'Authorization: Bearer hunter2.x' postgres://ada:hunter2@db/jobs",
    }
    data = json.dumps(answer).encode()
    [line] = logged(caplog, [start(b"application/json", len(data)), body(data)])
    assert "hunter2" not in line
    shown = json.loads(line.partition("==> ")[2])
    assert shown["user"] == "ada"
    assert shown["rows"] == [{name: "[redacted]"} for name in names]
    assert shown["note"] == "curl -H 'Authorization: [redacted] postgres://[redacted]@db/jobs"
