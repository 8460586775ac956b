"""`serve` as a process: how it starts, refuses to start, and stops."""

import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.http.conftest import HERE
from tests.http.serving import HEAVYLIFT, events, serving, started, submit, until


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE)


def serve(*arguments, cwd):
    return subprocess.run(
        [*HEAVYLIFT, "serve", *arguments], cwd=cwd, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_port_that_is_taken_is_named_with_another_one(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = serve("jobs_app:lift", "--port", str(port), cwd=tmp_path)
    assert ended.returncode == 2
    assert f"Port {port} on 127.0.0.1 is taken" in ended.stderr
    assert f"--port {port + 1}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_it_listens_to_this_machine_only(tmp_path, host):
    ended = serve("jobs_app:lift", "--host", host, cwd=tmp_path)
    assert ended.returncode == 2
    assert "no authentication" in ended.stderr
    assert "127.0.0.1" in ended.stderr


def test_a_host_that_is_none_is_refused(tmp_path):
    ended = serve("jobs_app:lift", "--host", "no.such.host.invalid", cwd=tmp_path)
    assert ended.returncode == 2
    assert "--host 127.0.0.1" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_fifty_open_streams_do_not_hold_up_the_stop(tmp_path, number):
    os.mkfifo(tmp_path / "gate")
    with serving("--store", "sqlite:///jobs.db", cwd=tmp_path) as server, server.client() as client:
        id = submit(client, "add", params={"delay": "1h"}, a=1)

        def follow(stream):
            return [item.kind for item in stream]

        streams = [events(client, id, after=0) for _ in range(50)]
        for stream in streams:
            assert next(stream).kind == "state"
        with ThreadPoolExecutor(50) as threads:
            rests = threads.map(follow, streams)
            server.process.send_signal(number)
            assert server.process.wait(20) == 0
            # It is not over, so none of them says so: a reader comes again.
            assert list(rests) == [[]] * 50


def test_a_waiting_cancel_does_not_hold_up_the_stop(tmp_path):
    with serving("--store", "sqlite:///jobs.db", "--drain", "0.1", cwd=tmp_path) as server, server.client() as client:
        id = submit(client, "spin", stubborn=True)
        until(client, id, "progress")
        with ThreadPoolExecutor() as threads:
            cancel = threads.submit(
                client.post, f"/v1/jobs/{id}/cancel", json={"grace": 60}, headers={"Prefer": "wait=60"}
            )
            until(client, id, "cancel")
            server.process.terminate()
            assert cancel.result().status_code == 202
        assert server.process.wait(30) == 0


@pytest.mark.slow
def test_a_body_that_never_comes_does_not_hold_up_the_stop(tmp_path):
    with serving("--store", "sqlite:///jobs.db", cwd=tmp_path) as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /v1/tasks/add/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n")
            connection.sendall(b"{")
            with server.client() as client:
                assert client.get("/healthz").status_code == 200
            assert server.stop() == 0
    assert "Traceback" not in "".join(server.said)


def test_what_was_accepted_survives_a_kill(tmp_path):
    with serving("--store", "sqlite:///jobs.db", cwd=tmp_path) as server, server.client() as client:
        id = submit(client, "add", params={"delay": "1h"}, a=1)
        server.process.kill()
        server.process.wait()
    with serving("--store", "sqlite:///jobs.db", cwd=tmp_path) as server, server.client() as client:
        assert client.get(f"/v1/jobs/{id}").json()["state"] == "queued"


def test_without_a_worker_it_accepts_and_says_what_jobs_wait_for(tmp_path):
    with serving("--role", "api", "--store", "sqlite:///jobs.db", cwd=tmp_path) as server, server.client() as client:
        id = submit(client, "add", a=1)
        assert client.get(f"/v1/jobs/{id}").json()["waiting"]["code"] == "no-worker"
        assert client.get("/readyz").json() == {"status": "ok", "worker": False}


HOST_APP = """
from fastapi import FastAPI
from jobs_app import lift
{lifespan}
app.mount("/jobs", lift.asgi())
"""
UVICORN = """
import sys, uvicorn
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("serves http://127.0.0.1:%d" % self.servers[0].sockets[0].getsockname()[1], file=sys.stderr, flush=True)
Server(uvicorn.Config("host_app:app", port=0, log_level="warning")).run()
"""


def hosted(tmp_path, lifespan):
    (tmp_path / "host_app.py").write_text(HOST_APP.format(lifespan=lifespan))
    return started([HEAVYLIFT[0], "-c", UVICORN], cwd=tmp_path, ready=r"serves (\S+)")


def test_a_mounted_api_whose_lifespan_never_ran_says_so_and_accepts(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{tmp_path}")
    with hosted(tmp_path, "app = FastAPI()") as server, server.client() as client:
        response = client.post("/jobs/v1/tasks/add/jobs", json={"a": 1})
        assert response.status_code == 202
        assert response.headers["location"].startswith("/jobs/v1/jobs/")
        assert client.get(response.headers["location"]).json()["waiting"]["code"] == "no-worker"
        ready = client.get("/jobs/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "no-worker")
        server.stop()
    assert "its own lifespan never ran" in "".join(server.said)


def test_a_mounted_api_works_with_the_lifespan_of_the_outer_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{tmp_path}")
    with hosted(tmp_path, "app = FastAPI(lifespan=lift.lifespan)") as server, server.client("/jobs") as outer:
        id = submit(outer, "add", params={"delay": "1h"}, a=1)
        stream = events(outer, id)
        assert next(stream).kind == "snapshot"
        server.process.terminate()
        assert list(stream) == []
    assert "never ran" not in "".join(server.said)


def test_a_process_without_its_store_is_alive_and_not_ready(tmp_path):
    with serving("--role", "api", "--store", "sqlite:///jobs.db", cwd=tmp_path) as server, server.client() as client:
        for file in tmp_path.glob("jobs.db*"):
            if file.is_file():
                file.write_bytes(b"this is no database" * 1000)
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
