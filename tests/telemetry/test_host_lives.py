"""The life of a host as log lines: spawned, ready, retired, gone; the rest is in test_faults.py."""

from seen import said
from tests.http.serving import finished, serving, submit

APP = """
import os
from heavylift import Heavylift

lift = Heavylift("sqlite:///jobs.db", concurrency=1, recycle_jobs=1, log_level="debug")

@lift.task
def where() -> int:
    return os.getpid()
"""


def test_a_host_from_its_fork_to_its_end(tmp_path):
    (tmp_path / "lives_app.py").write_text(APP)
    with serving(cwd=tmp_path, app="lives_app:lift") as server, server.client() as client:
        job = submit(client, "where")
        assert finished(client, job)["state"] == "succeeded"
        host = client.get(f"/v1/jobs/{job}/result").json()
        told = [
            said(server, logger="heavylift.host", event=f"host {host} (exclusive) is spawned", level="debug"),
            said(server, logger="heavylift.host", host=host, level="info", kind="exclusive"),
            said(server, logger="heavylift.worker", job=job, event=f"job {job} (where), attempt 1, begins"),
            said(server, logger="heavylift.worker", job=job, outcome="succeeded", level="debug"),
            said(server, logger="heavylift.host", host=host, why="it has run 1 jobs", jobs=1, level="info"),
            said(server, logger="heavylift.host", host=host, ending="exit code 0", level="debug"),
        ]
    assert told[1]["ms"] > 0
    times = [line["timestamp"] for line in told]
    assert times == sorted(times)
