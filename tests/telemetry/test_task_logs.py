"""What task code and its libraries say by `logging` goes into the log of the very job that said it."""

import json
import re

import pytest
from seen import eventually, lines, said
from tests.http.serving import finished, serving, submit


def log_of(client, job):
    assert finished(client, job)["state"] == "succeeded"
    return client.get(f"/v1/jobs/{job}/logs").json()["items"]


def test_a_task_without_a_context_and_its_libraries(server, client):
    job = submit(client, "say")
    items = log_of(client, job)
    facts = [(item["level"], item["logger"], item["message"].splitlines()[0], item.get("fields")) for item in items]
    assert facts == [
        ("info", "some.library", "said this", {"size": 3, "odd": "a/b", "odder": "<class 'object'>"}),
        ("warning", "structured", "structured", {"part": 7}),
        ("info", "some.library", "from a thread of the job", None),
        ("error", "some.library", "caught", None),
    ]
    assert items[-1]["message"].endswith("'broken'")
    line = said(server, job=job, event="said this")
    assert (line["logger"], line["level"], line["attempt"], line["task"]) == ("some.library", "info", 1, "say")
    assert (line["queue"], line["labels"], line["size"]) == ("default", {"tenant": "acme"}, 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line["timestamp"])
    assert line["worker"] in [worker["id"] for worker in client.get("/v1/workers").json()["items"]]


def test_no_field_is_lost_and_none_takes_the_place_of_what_a_line_says_itself(server, client):
    job = submit(client, "say_with_fields")
    given = {"name": "a.txt", "filename": "b.txt", "process": 7, "task": "mine", "level": "high"}
    assert [item["fields"] for item in log_of(client, job)] == [given]
    line = said(server, job=job, event="saved")
    assert (line["name"], line["filename"], line["process"]) == ("a.txt", "b.txt", 7)
    assert (line["task"], line["task_"]) == ("say_with_fields", "mine")
    assert (line["level"], line["level_"]) == ("info", "high")


@pytest.mark.parametrize("where", ["", "_in_thread"])
def test_a_job_that_configures_logging_leaves_the_next_ones_their_logs(server, client, where):
    told = 0
    for _ in range(10):
        configured = submit(client, f"configure_logging{where}")
        finished(client, configured)
        job = submit(client, f"say_where{where}")
        assert [item["message"] for item in log_of(client, job)] == ["here"]
        first, second = (client.get(f"/v1/jobs/{one}/result").json() for one in (configured, job))
        told += first == second
    assert told  # it was the same host


def test_coroutines_and_threads_side_by_side_are_not_mixed_up(server, client):
    names = [f"{task}-{number}" for number in range(8) for task in ("say_awaiting", "say_in_thread")]
    jobs = {name: submit(client, name.partition("-")[0], name=name) for name in names}
    for name, job in jobs.items():
        expected = {f"{name} {number}" for number in range(5)}
        if name.startswith("say_awaiting"):
            expected |= {f"{name} in a task", f"{name} in a thread"}
        assert {item["message"] for item in log_of(client, job)} == expected
    text = client.get(f"/v1/jobs/{jobs['say_in_thread-0']}/logs", headers={"Accept": "text/plain"}).text
    assert text.splitlines()[0].endswith("INFO    say_in_thread-0 0")


def test_what_hosts_print_is_a_record_and_json_stays_what_it_is(server, client):
    job = submit(client, "unattributed")
    assert log_of(client, job) == []
    line = said(server, logger="heavylift.output", event="printed")
    assert line["host"] > 0
    eventually(lambda: {"already": "json"} in lines(server), "the line that was JSON")


APP = """
import logging
from heavylift import Context, Heavylift

logging.basicConfig(level=logging.WARNING, format="own: %(message)s")
logging.getLogger("loud").setLevel(logging.DEBUG)
logging.getLogger("imported").warning("at the import")
lift = Heavylift("sqlite:///jobs.db")

@lift.task
def say() -> None:
    logging.getLogger("usual").info("too quiet")
    logging.getLogger("loud").info("heard")
    logging.getLogger("usual").warning("both")
"""


def test_the_application_configures_its_own(tmp_path, monkeypatch):
    """Its levels and handlers hold; the log format, the least level and the repeating are settings."""
    (tmp_path / "own_app.py").write_text(APP)
    monkeypatch.setenv("HEAVYLIFT_LOG_FORMAT", "console")
    monkeypatch.setenv("HEAVYLIFT_LOG_JOBS", "no")
    monkeypatch.setenv("HEAVYLIFT_LOG_LEVEL", "warning")
    with serving(cwd=tmp_path, app="own_app:lift") as server, server.client() as client:
        items = log_of(client, submit(client, "say"))
        assert [(item["logger"], item["message"]) for item in items] == [("loud", "heard"), ("usual", "both")]
        eventually(lambda: "own: both\n" in server.said, lambda: server.said)
    assert "own: at the import\n" in server.said
    assert server.said.count("own: heard\n") == 1
    assert not any("own: too quiet" in line or " INFO " in line or line.startswith("{") for line in server.said)


def test_it_can_be_switched_off(tmp_path, monkeypatch):
    (tmp_path / "own_app.py").write_text(APP.replace("logging.basicConfig", "dict"))
    monkeypatch.setenv("HEAVYLIFT_JOB_LOG_LEVEL", "off")
    with serving(cwd=tmp_path, app="own_app:lift") as server, server.client() as client:
        assert log_of(client, submit(client, "say")) == []
        eventually(lambda: any('"both"' in line for line in server.said), lambda: server.said)
    records = [json.loads(line) for line in server.said]
    imported = [line for line in records if line["event"] == "at the import"]
    assert {line["logger"] for line in imported} == {"imported"}
    assert next(line for line in records if line["event"] == "both")["logger"] == "usual"
