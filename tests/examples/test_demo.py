"""The demonstration says what to type, and what it says works."""

import re
import subprocess
import sys
import time

import pytest
from tests.http.serving import Server, finished, submit, until


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    command = f"{sys.executable} -m examples.demo --port 0 --store sqlite:///demo.db 1>&2"
    server = Server(["sh", "-c", f"exec {command}"], folder, r"All jobs: (\S+)/v1/jobs")
    try:
        assert server.address, "".join(server.said)
        yield server
    finally:
        server.stop()


@pytest.fixture
def client(demo):
    with demo.client() as found:
        yield found


def spins(client, job):
    """Waits until the code of the job runs."""
    while "in spin" not in (client.get(f"/v1/jobs/{job}/stack").json().get("text") or ""):
        time.sleep(0.02)


def test_every_line_of_curl_that_it_prints_works(demo, client):
    lines = [line.strip() for line in demo.said if line.strip().startswith("curl")]
    assert len(lines) >= 7
    job = ""
    for line in lines:
        command = line.replace("ID", job).replace("50000000", "2000")
        if "/cancel" in command:
            spins(client, job)  # who types that is slower than this test
        ended = subprocess.run(
            f"{command} -s --fail-with-body --max-time 40", shell=True, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, (command, ended.stdout)
        if found := re.match(r'{"id":"([^"]+)"', ended.stdout):
            job = found[1]
        elif "/cancel" in command:
            assert '"stopped":"soft"' in ended.stdout


def test_its_tasks_do_what_they_say(client):
    primes = submit(client, "count_primes", limit=10_000)
    assert finished(client, primes)["state"] == "succeeded"
    assert client.get(f"/v1/jobs/{primes}/result").json() == 1229


@pytest.mark.slow
def test_what_fails_goes_on_from_its_checkpoint(client):
    id = submit(client, "unreliable")
    assert until(client, id, "checkpoint").data["attempt"] == 1
    assert finished(client, id)["attempt"] == 3
    assert client.get(f"/v1/jobs/{id}/result").json() == "10 steps in 3 attempts"
