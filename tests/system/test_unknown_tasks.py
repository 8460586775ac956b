"""Two applications on one store: a job whose task no live worker has is not lost, and says so."""

import contextlib

from tests.http.serving import finished, serving, submit

APPLICATION = """
from heavylift import Heavylift

lift = Heavylift("sqlite:///jobs.db")


@lift.task
def {name}() -> str:
    return "{name}"
"""


def test_a_job_whose_task_no_live_worker_knows_says_so_and_runs_when_one_comes_that_does(tmp_path):
    for name in ("ours", "theirs"):
        (tmp_path / f"{name}.py").write_text(APPLICATION.format(name=name))
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(serving("--concurrency", "1", cwd=tmp_path, app="ours:lift"))
        theirs = stack.enter_context(serving("--role", "api", cwd=tmp_path, app="theirs:lift"))
        us, them = stack.enter_context(ours.client()), stack.enter_context(theirs.client())
        id = submit(them, "theirs")
        # What came after it is done: the worker has been where it stands.
        assert finished(us, submit(us, "ours"))["state"] == "succeeded"
        job = them.get(f"/v1/jobs/{id}").json()
        assert (job["state"], job["attempt"]) == ("queued", 0)
        assert job["waiting"]["code"] == "task-not-known"
        assert job["waiting_reason"] == "no live worker that serves queue 'default' knows the task 'theirs'"
        assert job["estimate"] is None
        stack.enter_context(serving("--concurrency", "1", cwd=tmp_path, app="theirs:lift"))
        job = finished(them, id)
        assert (job["state"], job["attempt"]) == ("succeeded", 1)
        assert them.get(f"/v1/jobs/{id}/result").json() == "theirs"
