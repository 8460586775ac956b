"""One active job of each document: what `replace` and `queue-one` do, read from the history of real jobs."""

import sys

import pytest
from tests.http.serving import events, finished, until

COMMAND = [sys.executable, "-m", "examples.newest_wins", "--port", "0", "--store", "sqlite:///jobs.db"]
LONG, SHORT = 600, 2


def started(client, document, what, pages):
    response = client.post(f"/documents/{document}/{what}", json={"pages": pages})
    assert response.status_code == 202, response.text
    return response.json()["jobId"]


def running(native, job):
    """Wait until its code runs."""
    until(native, job, "progress")
    return job


def history(native, job):
    """Its states, each with when it was reached, until it is over."""
    return [
        (item.data["state"], item.data["at"], item.data)
        for item in events(native, job, after=0)
        if item.kind == "state"
    ]


def test_a_newer_import_stops_the_one_that_runs_and_begins_when_it_has_let_go(client, native):
    first = running(native, started(client, "a", "import", LONG))
    elsewhere = running(native, started(client, "b", "import", LONG))
    newest = started(client, "a", "import", SHORT)
    told = list(events(native, first, after=0))
    asked = next(item for item in told if item.kind == "cancel")
    assert asked.data["reason"] == f"replaced by job {newest}"
    assert [item.data["state"] for item in told if item.kind == "state"] == ["queued", "running", "cancelled"]
    over = native.get(f"/v1/jobs/{first}").json()
    assert finished(native, newest)["state"] == "succeeded"
    assert native.get(f"/v1/jobs/{newest}").json()["started_at"] >= over["finished_at"]
    assert native.get(f"/v1/jobs/{first}/logs").text.count("cleared away") == 1
    assert native.get(f"/v1/jobs/{elsewhere}").json()["state"] == "running", "another document is none of its business"
    answer = client.get("/documents/a/import").json()
    assert (answer["jobId"], answer["state"], answer["percent"]) == (newest, "succeeded", 100)
    assert native.post(f"/v1/jobs/{elsewhere}/cancel", headers={"Prefer": "wait=20"}).status_code == 200


def test_of_many_imports_at_once_only_the_newest_is_done(client, native):
    jobs = [started(client, "c", "import", SHORT if number == 9 else LONG) for number in range(10)]
    assert len(set(jobs)) == 10
    ends = [finished(native, job) for job in jobs]
    assert [end["state"] for end in ends] == ["cancelled"] * 9 + ["succeeded"]


def test_changes_while_an_index_is_built_lead_to_one_more(client, native):
    first = running(native, started(client, "a", "index", 20))
    others = {started(client, "a", "index", SHORT) for _ in range(10)}
    (second,) = others - {first}
    assert others == {second}
    ends = [finished(native, job) for job in (first, second)]
    assert [end["state"] for end in ends] == ["succeeded", "succeeded"]
    assert ends[1]["started_at"] >= ends[0]["finished_at"]


@pytest.mark.parametrize("body", [{}, {"pages": 0}, {"pages": "9"}])
def test_what_does_not_fit_stops_nothing(client, native, body):
    job = running(native, started(client, "d", "import", LONG))
    assert client.post("/documents/d/import", json=body).status_code == 422
    assert native.get(f"/v1/jobs/{job}").json()["state"] == "running"
    assert client.get("/documents/d/import").json()["jobId"] == job
    assert native.post(f"/v1/jobs/{job}/cancel", headers={"Prefer": "wait=20"}).status_code == 200


def test_a_document_that_was_never_imported_has_no_import(client):
    assert client.get("/documents/nothing/import").status_code == 404
