"""The worker's own page: on a port that is taken at first, and without the library."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import psutil
import pytest
from seen import eventually, scraped
from tests.http.serving import HEAVYLIFT

from heavylift import Heavylift
from heavylift.telemetry import endpoint

APP = """
from heavylift import Heavylift
lift = Heavylift("sqlite:///jobs.db", concurrency=1, log_format="console")

@lift.task
def add(a: int, b: int) -> int:
    return a + b
"""
MISSING = 'raise ModuleNotFoundError("No module named \'prometheus_client\'", name="prometheus_client")'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small_app.py").write_text(APP)
    return tmp_path


def test_a_port_that_is_taken_keeps_no_worker_from_working(folder, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [*HEAVYLIFT, "worker", "small_app:lift", "--metrics-port", str(port)]
        log = folder / "log"
        with log.open("w") as said:
            worker = subprocess.Popen(command, cwd=folder, stderr=said)
        try:
            submit = [*HEAVYLIFT, "submit", "add", "a=1", "b=2", "--app", "small_app:lift", "--wait"]
            assert subprocess.run(submit, cwd=folder, capture_output=True, text=True, check=True).stdout == "3\n"
            told = f"no metrics on 127.0.0.1, port {port} (Address already in use); trying again every 5 s"
            eventually(lambda: told in log.read_text(), log.read_text)
            taken.close()
            eventually(lambda: "metrics are on" in log.read_text(), log.read_text)
            address = f"http://127.0.0.1:{port}"
            key = ("heavylift_attempts_total", ("outcome", "succeeded"), ("task", "add"))
            assert scraped(address)[key] == 1
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{address}/metrics")


@pytest.mark.parametrize("arguments", [["worker", "small_app:lift"], ["serve", "small_app:lift", "--port", "0"]])
def test_without_standard_descriptors_the_log_goes_into_nothing_else(folder, arguments):
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *HEAVYLIFT, *arguments]
    process = subprocess.Popen(command, cwd=folder)
    try:
        submit = [*HEAVYLIFT, "submit", "add", "a=1", "b=2", "--app", "small_app:lift", "--wait"]
        assert subprocess.run(submit, cwd=folder, capture_output=True, text=True, check=True).stdout == "3\n"
        workers = [process.pid, *(child.pid for child in psutil.Process(process.pid).children())]
        for pid in workers:
            assert Path(f"/proc/{pid}/fd/2").readlink() == Path(os.devnull)
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_without_the_library_a_worker_says_what_to_install(folder):
    (folder / "lacking").mkdir()
    (folder / "lacking" / "prometheus_client.py").write_text(MISSING)
    command = [*HEAVYLIFT, "worker", "small_app:lift", "--metrics-port", "1"]
    environment = {**os.environ, "PYTHONPATH": str(folder / "lacking")}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == 2
    assert "pip install 'heavylift[metrics]'" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_without_the_library_the_api_says_what_to_install(folder, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("prometheus_client", "heavylift.telemetry."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delattr("heavylift.telemetry.metrics")
    lift = Heavylift(f"sqlite:///{folder}/jobs.db")
    async with (
        lift,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(lift.asgi("api")), base_url="http://x") as client,
    ):
        response = await client.get("/metrics")
    assert response.status_code == 501
    assert response.json()["code"] == "no-metrics"
    assert endpoint.AGAIN == 5.0
