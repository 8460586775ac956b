"""Every error of the tree has its status, and what is no error of the tree tells nothing of the inside."""

import json

import httpx2
import pytest

from heavylift.core import errors
from heavylift.core.errors import HeavyliftError, Problem
from heavylift.core.job import Error, Job, State
from heavylift.core.options import Options
from heavylift.http import problems
from heavylift.store import LeaseLost

JOB = Job("1", "add", b"{}", Options(), State.FAILED, 0.0, 0.0, error=Error("failed", "no luck"))

EXAMPLES = {
    "config-error": (errors.ConfigError("bad"), 503),
    "submit-error": (errors.SubmitError("bad"), 400),
    "unknown-task": (errors.UnknownTask("ad", ["add"]), 404),
    "invalid-arguments": (errors.InvalidArguments("add", [Problem("/a", "missing")]), 422),
    "payload-too-large": (errors.PayloadTooLarge(2, 1), 413),
    "queue-full": (errors.QueueFull("default", 10, 7), 503),
    "duplicate-job": (errors.DuplicateJob("key", "1"), 409),
    "job-not-found": (errors.JobNotFound("1"), 404),
    "job-pruned": (errors.JobPruned("1"), 410),
    "job-finished": (errors.JobFinished("1", "failed"), 409),
    "job-not-finished": (errors.JobNotFinished("1", "running", "wait"), 409),
    "job-not-waiting": (errors.JobNotWaiting("1", "running"), 409),
    "job-changed": (errors.JobChanged("1", 2, 3), 412),
    "job-not-running": (errors.JobNotRunning("1", "queued", 35.0), 409),
    "no-answer": (errors.NoAnswer("1", "worker", 15.0), 504),
    "store-error": (errors.StoreError("bad"), 503),
    "store-unavailable": (errors.StoreUnavailable("away"), 503),
    "schema-too-new": (errors.SchemaTooNew("new"), 503),
    "lease-lost": (LeaseLost("lost"), 503),
    "job-error": (errors.JobError(JOB), 409),
    "job-failed": (errors.JobFailed(JOB), 409),
    "job-timed-out": (errors.JobTimedOut(JOB), 409),
    "job-crashed": (errors.JobCrashed(JOB), 409),
    "job-cancelled": (errors.JobCancelled(JOB), 409),
    "error": (HeavyliftError("strange"), 500),
}


def tree(kind):
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def test_no_error_is_forgotten():
    public = {kind.code for kind in tree(HeavyliftError) if kind.__module__.startswith("heavylift.core")}
    assert public <= EXAMPLES.keys()


@pytest.mark.parametrize(("code", "expected"), EXAMPLES.items(), ids=EXAMPLES)
def test_an_error_has_its_status_and_code(code, expected):
    error, status = expected
    problem = problems.refused(error)
    assert (problem.status, problem.code) == (status, code)
    assert problem.detail == str(error) or code == "config-error"


@pytest.mark.parametrize(("code", "seconds"), [("queue-full", "7"), ("store-unavailable", "5")])
def test_who_may_come_again_is_told_when(code, seconds):
    assert problems.refused(EXAMPLES[code][0]).headers["Retry-After"] == seconds


async def answer(error, path="/x"):
    """What a handler that raises `error` answers."""

    async def handler(_request):
        raise error

    from starlette.applications import Starlette
    from starlette.routing import Route

    app = Starlette(routes=[Route("/x", problems.guarded(handler))])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        return await client.get(path)


async def test_a_problem_has_the_members_of_rfc_9457():
    response = await answer(EXAMPLES["invalid-arguments"][0])
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "title": "The arguments do not fit",
        "status": 422,
        "detail": "The arguments do not fit task 'add': /a: missing",
        "instance": "/x",
        "code": "invalid-arguments",
        "errors": [{"pointer": "/a", "detail": "missing"}],
    }


async def test_an_unexpected_exception_stays_inside_and_is_logged(caplog):
    response = await answer(RuntimeError("the password is swordfish"))
    assert response.status_code == 500
    assert response.json()["code"] == "internal-error"
    assert "swordfish" not in response.text
    assert "swordfish" in caplog.text
    assert "Traceback" in caplog.text


async def test_a_problem_is_json_whatever_is_in_it():
    response = await answer(errors.SubmitError("a \ud800 surrogate and a \x00"))
    assert json.loads(response.content)["code"] == "submit-error"
