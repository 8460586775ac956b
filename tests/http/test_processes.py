"""Several web processes on one store: one worker, whoever dies, and one end for all."""

import os
import signal
import socket
import subprocess
import sys

import httpx2
import psutil
import pytest
from tests.http.conftest import HERE
from tests.http.serving import HEAVYLIFT, Server, finished, serving, started, submit

pytestmark = pytest.mark.timeout(180)  # each starts half a dozen processes


@pytest.fixture(autouse=True)
def importable(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{tmp_path}")
    monkeypatch.setenv("HEAVYLIFT_STORE", f"sqlite:///{tmp_path}/jobs.db")


def alive(client):
    """The workers; none when the connection was that of a process that is gone."""
    try:
        page = client.get("/v1/workers").json()
    except httpx2.TransportError:
        return []
    return [worker for worker in page["items"] if worker["state"] == "alive"]


def web_processes(server: Server) -> list[psutil.Process]:
    """The children that serve: not what keeps them, and not their worker."""
    return [child for child in psutil.Process(server.process.pid).children() if serves(child)]


def serves(child: psutil.Process) -> bool:
    try:
        return "resource_tracker" not in " ".join(child.cmdline())
    except psutil.NoSuchProcess:
        return False  # it is over, and waits for its parent to see it


def takes_over(server: Server, client) -> None:
    """The web process that has the worker is killed: another one gets a worker, and only one does."""
    [worker] = alive(client)
    owner = psutil.Process(worker["pid"]).parent()
    assert owner in web_processes(server)
    owner.kill()
    while not (found := alive(client)) or found[0]["pid"] == worker["pid"]:
        pass  # each look is a request; pytest's own timeout ends what never comes
    [successor] = found
    assert psutil.Process(successor["pid"]).parent().pid != owner.pid
    assert finished(client, submit(client, "add", a=1))["state"] == "succeeded"
    assert len(alive(client)) == 1


def test_of_three_uvicorn_processes_one_has_the_worker_and_another_takes_over(tmp_path):
    (tmp_path / "web.py").write_text("from jobs_app import lift\napp = lift.asgi()\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "web:app", "--workers", "3", "--port", str(port)]
    with started(command, cwd=tmp_path, ready=r"Uvicorn running on (\S+)") as server, server.client() as client:
        while not alive(client):
            pass  # uvicorn says that it runs before its processes listen
        takes_over(server, client)
    assert server.process.returncode in (0, -signal.SIGTERM)


def test_serve_with_three_processes_has_one_worker_and_says_once_where(tmp_path):
    with serving("--workers", "3", cwd=tmp_path) as server, server.client() as client:
        children = web_processes(server)
        assert len(children) == 3
        takes_over(server, client)
        assert server.stop() == 0
    said = "".join(server.said)
    assert said.count("Heavylift serves") == 1
    assert "ended with exit code -9; another one is started" in said
    assert not any(child.is_running() for child in children)


def test_a_web_process_that_died_is_replaced(tmp_path):
    with serving("--workers", "2", "--role", "api", cwd=tmp_path) as server:
        before = {child.pid for child in web_processes(server)}
        os.kill(min(before), signal.SIGKILL)
        while len(now := {child.pid for child in web_processes(server)}) != 2 or now == before:
            pass
        assert server.stop() == 0


def test_all_go_with_their_parent_however_it_ends(tmp_path):
    with serving("--workers", "2", cwd=tmp_path) as server:
        tree = psutil.Process(server.process.pid).children(recursive=True)
        assert len(tree) >= 3
        server.process.kill()
        _, left = psutil.wait_procs(tree, timeout=30)
        assert left == []


def refused(*arguments, cwd):
    return subprocess.run(
        [*HEAVYLIFT, "serve", *arguments], cwd=cwd, capture_output=True, text=True, timeout=50, check=False
    )


def test_an_application_that_only_fails_in_the_worker_is_refused_once(tmp_path):
    (tmp_path / "broken_app.py").write_text(
        "import os\nfrom heavylift import Heavylift\nlift = Heavylift()\n"
        "if 'heavylift.executors.nanny' in __import__('sys').modules:\n    raise RuntimeError('no such luck')\n"
    )
    ended = refused("broken_app:lift", "--port", "0", "--workers", "2", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.count("error: ") == 1
    assert "no such luck" in ended.stderr
    assert "Heavylift serves" not in ended.stderr


def test_several_processes_need_a_store_that_they_share(tmp_path):
    ended = refused("jobs_app:lift", "--port", "0", "--workers", "2", "--store", "memory://", cwd=tmp_path)
    assert ended.returncode == 2
    assert "cannot share memory://" in ended.stderr


def test_a_port_that_is_taken_is_named_before_anything_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = refused("jobs_app:lift", "--port", str(taken.getsockname()[1]), "--workers", "2", cwd=tmp_path)
    assert ended.returncode == 2
    assert "is taken by another program" in ended.stderr
