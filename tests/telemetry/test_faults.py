"""Each fault, provoked for real: its counter goes up, its line names the job, and the job's history tells of it."""

import os
import signal

import psutil
import pytest
from seen import eventually, fault, said, scraped
from tests.http.serving import events, finished, submit, until

from heavylift.cli.output import state_line

pytestmark = pytest.mark.timeout(120)


def history(client, job):
    """What `heavylift job` says of the states that a job was in."""
    return [state_line(item.data) for item in events(client, job, after=0) if item.kind == "state"]


def counted(server, name, before):
    """Wait until the API counts more of a fault than before."""
    eventually(lambda: fault(server.address, name) > before, f"a {name} more than {before}")


def worker(server):
    """The worker's process."""
    return next(
        child
        for child in psutil.Process(server.process.pid).children()
        if "heavylift.process" in " ".join(child.cmdline())
    )


@pytest.mark.parametrize(
    ("task", "faults", "told"),
    [
        ("crash", ["host_crash"], "failed: The host was killed by SIGKILL."),
        ("defy", ["timeout", "host_kill"], "timeout of 0.2 s, and it was killed when its grace was over"),
        ("eat", ["memory_limit"], "its limit is 209,715,200 (memory)"),
        ("burn", ["cpu_limit"], "its limit is 0.2 (cpu_time)"),
    ],
)
def test_an_attempt_that_costs_its_host(server, client, task, faults, told):
    before = {name: fault(server.address, name) for name in faults}
    job = submit(client, task)
    assert finished(client, job)["state"] == "failed"
    for name in faults:
        line = said(server, fault=name, job=job)
        assert (line["attempt"], line["task"], line["queue"], line["level"]) == (1, task, "default", "warning")
        counted(server, name, before[name])
    assert told in history(client, job)[-1]


def test_a_failure_is_a_line_and_an_outcome_and_no_fault(server, client):
    before = {key: value for key, value in scraped(server.address).items() if key[0] == "heavylift_faults_total"}
    job = submit(client, "fail")
    assert finished(client, job)["state"] == "failed"
    line = said(server, job=job, outcome="failed")
    assert "ValueError: no luck; the job is over (failed)" in line["event"]
    assert "fault" not in line

    def attempts():
        now = scraped(server.address)
        ended = now.get(("heavylift_attempts_total", ("outcome", "failed"), ("task", "fail")))
        over = now.get(("heavylift_finished_jobs_total", ("state", "failed"), ("task", "fail")))
        return ended == over == 1 and now

    after = eventually(attempts, "the attempt's count")
    assert {key: value for key, value in after.items() if key in before} == before
    assert after["heavylift_processing_seconds_count", ("task", "fail")] == 1
    assert after["heavylift_processing_seconds_bucket", ("le", "3600.0"), ("task", "fail")] == 1
    assert after["heavylift_wait_seconds_count", ("queue", "default")] >= 1


def test_lines_that_a_log_has_no_room_for(server, client):
    before = fault(server.address, "log_dropped")
    job = submit(client, "chatter")
    assert finished(client, job)["state"] == "succeeded"
    line = said(server, fault="log_dropped", job=job)
    dropped = client.get(f"/v1/jobs/{job}/logs").json()["dropped"]
    assert 100 < dropped < 200
    assert f"{dropped} lines were dropped" in line["event"]
    eventually(lambda: fault(server.address, "log_dropped") == before + dropped, "the count of the lines")


def test_a_job_that_reports_nothing_is_told_of_once(server, client):
    before = fault(server.address, "stalled")
    job = submit(client, "sleep", seconds=5)
    line = said(server, fault="stalled", job=job)
    assert "has reported nothing for 2 s" in line["event"]
    assert finished(client, job)["state"] == "succeeded"
    assert [item["message"][:29] for item in client.get(f"/v1/jobs/{job}/logs").json()["items"]] == [
        "I sleep",
        "It has reported nothing for 2",
    ]
    eventually(lambda: fault(server.address, "stalled") == before + 1, "one count")


def test_hosts_that_cannot_start_and_a_job_that_is_handed_back(server, client):
    before = {name: fault(server.address, name) for name in ("host_start", "not_started")}
    crashes = fault(server.address, "host_crash")
    refuse = server.folder / "refuse"
    refuse.touch()
    try:
        finished(client, submit(client, "crash"))  # the one host is gone, and no other one comes up
        job = submit(client, "sleep", seconds=0)
        line = said(server, fault="not_started", job=job)
        assert "handed back, as no host was free in time" in line["event"]
        assert "no host today" in said(server, fault="host_start")["event"]
    finally:
        refuse.unlink()
    assert finished(client, job)["state"] == "succeeded"
    for name, count in before.items():
        counted(server, name, count)
    assert fault(server.address, "host_crash") == crashes + 1, "one that cannot start is no crash as well"
    assert any(
        "handed back unstarted, as no host was free in time; again at once" in text for text in history(client, job)
    )


def test_a_nanny_that_dies(server, client):
    before = fault(server.address, "nanny_death")
    job = submit(client, "sleep", seconds=1)
    until(client, job, "log")
    nanny = next(child for child in worker(server).children() if child.name() == "heavylift-nanny")
    nanny.kill()
    assert said(server, fault="nanny_death", nanny=nanny.pid)["event"].startswith("the nanny died (SIGKILL)")
    assert finished(client, job)["state"] == "succeeded"
    counted(server, "nanny_death", before)


def test_a_shared_host_that_dies_makes_its_jobs_suspects(server, client):
    before = {name: fault(server.address, name) for name in ("suspected", "host_crash")}
    job = submit(client, "wait", seconds=1)
    until(client, job, "log")
    assassin = submit(client, "kill_host")
    assert finished(client, assassin)["state"] == "failed"
    assert finished(client, job)["state"] == "succeeded"
    for suspect in (job, assassin):
        assert "runs alone from now on" in said(server, fault="suspected", job=suspect)["event"]
        assert any("its host died, and others ran there" in text for text in history(client, suspect))
    assert said(server, fault="host_crash", kind="shared")["running"]
    counted(server, "suspected", before["suspected"] + 1)
    counted(server, "host_crash", before["host_crash"])


def test_a_neighbour_of_a_job_that_is_killed(server, client):
    before = fault(server.address, "neighbour_stopped")
    job = submit(client, "wait", seconds=2)
    until(client, job, "log")
    clinging = submit(client, "cling", seconds=60)
    until(client, clinging, "log")
    client.post(f"/v1/jobs/{clinging}/cancel", json={"force": True})
    assert finished(client, clinging)["stopped"] == "killed"
    assert said(server, fault="host_kill", job=clinging)["kind"] == "shared"
    assert said(server, fault="neighbour_stopped", job=job)["level"] == "warning"
    assert finished(client, job)["state"] == "succeeded"
    assert any("another job in its host had to be killed; again at once" in text for text in history(client, job))
    counted(server, "neighbour_stopped", before)


def test_a_loop_that_is_blocked(server, client):
    before = fault(server.address, "blocked_loop")
    job = submit(client, "block", seconds=6.5)
    line = said(server, fault="blocked_loop", job=job)
    assert "in block" in line["event"]
    assert finished(client, job)["state"] == "succeeded"
    items = client.get(f"/v1/jobs/{job}/logs").json()["items"]
    [told] = [item for item in items if not item["message"].startswith("It has reported nothing")]
    assert "It has blocked the loop of its host for 5 s, here:" in told["message"]
    assert "in block" in told["message"]
    counted(server, "blocked_loop", before)


def test_a_worker_that_vanishes_loses_no_count(server, client, metrics_port):
    """Its jobs are settled by its successor; what it had counted stays, and its own page begins anew."""
    assert finished(client, submit(client, "crash"))["state"] == "failed"
    eventually(lambda: fault(server.address, "host_crash"), "a crash")
    job = submit(client, "sleep", seconds=3)
    until(client, job, "log")
    before = scraped(server.address)
    pid = worker(server).pid
    os.kill(pid, signal.SIGKILL)
    line = said(server, fault="loss", job=job)
    assert line["pid"] != pid
    assert "vanished; it is tried again at once" in line["event"]
    counted(server, "loss", before["heavylift_faults_total", ("fault", "loss")])
    after = scraped(server.address)
    for key, value in before.items():
        if key[0].startswith("heavylift_") and key[0].endswith(("_total", "_count", "_bucket", "_sum")):
            assert after[key] >= value, key
    assert finished(client, job)["state"] == "succeeded"
    assert any("interrupted: its worker vanished; again at once" in text for text in history(client, job))
    own = f"http://127.0.0.1:{metrics_port}"
    assert fault(own, "loss") == 1
    assert fault(own, "host_crash") == 0 < fault(server.address, "host_crash")
