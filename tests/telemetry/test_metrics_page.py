"""docs/telemetry.md names what is exported and nothing else."""

import ast
import inspect
import itertools
import re
from pathlib import Path

from seen import samples

from heavylift.core.job import State
from heavylift.core.queue import Pause, Queue
from heavylift.core.tally import MOST_NAMES, Fault, Tally
from heavylift.store import WorkerRecord, WorkerStatus
from heavylift.telemetry import metrics

PAGE = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text()
METRIC = re.compile(r"^\| `(heavylift_\w+)` \| (\w+) \| ([^|]*)\|", re.MULTILINE)
ONE = WorkerRecord("w", 1, "here", 1, 1, "b", "n", 3, hosts={"exclusive.ready": 2, "shared.leaving": 1})


def snapshot(**more):
    tally = Tally()
    tally.attempt("report", "default", "succeeded", 0.2, 7.0)
    tally.finished("report", "succeeded")
    tally.add("store_calls", "save")
    tally.add("store_sum", "save", amount=0.5)
    workers = (WorkerStatus(ONE, 0.0, False), WorkerStatus(ONE, 99.0, True))
    queues = (Queue("default", pause=Pause(1.0), counts={State.QUEUED: 4}, oldest_wait=1.5), Queue("idle"))
    return metrics.Snapshot(**{"counts": tally.total(), "queues": queues, "workers": workers} | more)


def test_the_table_of_metrics_is_what_is_exported():
    documented = {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in METRIC.findall(PAGE)}
    exported = {}
    for family in metrics.Told(snapshot()).collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exported[name] = (family.type, labels)
    assert {name: (kind, set(labels)) for name, (kind, labels) in documented.items()} == exported


def test_the_table_of_faults_is_the_faults():
    body = ast.parse(inspect.getsource(Fault)).body[0].body
    texts = {
        field.value.value: " ".join(text.value.value.split()).rstrip(".")
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.Assign)
    }
    assert texts.keys() == {fault.value for fault in Fault}
    section = PAGE.partition("## Faults")[2]
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)) == texts


def test_numbers_of_a_snapshot():
    found = samples(metrics.rendered(snapshot())[0].decode())
    assert found["heavylift_processing_seconds_bucket", ("le", "5.0"), ("task", "report")] == 0
    assert found["heavylift_processing_seconds_bucket", ("le", "15.0"), ("task", "report")] == 1
    assert found["heavylift_processing_seconds_bucket", ("le", "+Inf"), ("task", "report")] == 1
    assert found["heavylift_processing_seconds_sum", ("task", "report")] == 7.0
    assert found["heavylift_wait_seconds_bucket", ("le", "0.5"), ("queue", "default")] == 1
    assert found["heavylift_store_call_seconds_sum", ("call", "save")] == 0.5
    assert found["heavylift_jobs", ("queue", "default"), ("state", "queued")] == 4
    assert found["heavylift_oldest_wait_seconds", ("queue", "default")] == 1.5
    assert found["heavylift_oldest_wait_seconds", ("queue", "idle")] == 0
    assert found["heavylift_queue_paused", ("queue", "default")] == 1
    assert found["heavylift_workers", ("state", "alive")] == found["heavylift_workers", ("state", "dead")] == 1
    assert found["heavylift_concurrency",] == 3
    assert found["heavylift_hosts", ("kind", "exclusive"), ("phase", "ready")] == 2
    assert found["process_resident_memory_bytes",] > 0


def test_the_formats_of_openmetrics_and_of_one_worker():
    text, media_type = metrics.rendered(snapshot(hosts={"exclusive.ready": 1}), "application/openmetrics-text")
    assert media_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    assert b'heavylift_hosts{kind="exclusive",phase="ready"} 1.0' in text


def test_very_many_names_are_counted_together():
    tally = Tally()
    for number in range(MOST_NAMES + 50):
        tally.attempt("task", f"queue-{number}", "succeeded", 0.0, 1.0)
    queues = [Queue(f"queue-{number}", counts={State.QUEUED: number}) for number in range(MOST_NAMES + 50)]
    found = samples(metrics.rendered(snapshot(counts=tally.total(), queues=queues))[0].decode())
    waits = {key: value for key, value in found.items() if key[0] == "heavylift_wait_seconds_count"}
    assert len(waits) == MOST_NAMES + 1
    assert waits["heavylift_wait_seconds_count", ("queue", "other")] == 50
    jobs = {key: value for key, value in found.items() if key[0] == "heavylift_jobs" and ("state", "queued") in key}
    assert len(jobs) == MOST_NAMES + 1
    assert jobs["heavylift_jobs", ("queue", "other"), ("state", "queued")] == sum(range(50))
    assert jobs["heavylift_jobs", ("queue", "queue-249"), ("state", "queued")] == 249


def test_what_was_taken_to_the_store_is_told_again_until_it_is_there():
    tally = Tally()
    tally.fault(Fault.LOSS)
    assert tally.unwritten() == {("faults", "loss"): 1}
    tally.fault(Fault.LOSS, 2)
    assert tally.unwritten() == {("faults", "loss"): 3}
    tally.written()
    assert tally.unwritten() == {}
    tally.attempt("a", "q", "succeeded", 0.0, 0.0)
    assert tally.unwritten() == {("attempts", "a", "succeeded"): 1}, "it never began, so there are no times"
    assert tally.total() == {("attempts", "a", "succeeded"): 1, ("faults", "loss"): 3}
