"""GET /v1/jobs/{id}/events: live, resumable, and always with an end."""

import itertools

import pytest
from tests.http.serving import events, finished, submit, until


def test_a_stream_begins_with_a_snapshot_and_ends_with_the_job(client, gate):
    id = submit(client, "gated", gate=str(gate))
    until(client, id, "progress")
    stream = events(client, id)
    snapshot = next(stream)
    assert snapshot.kind == "snapshot"
    assert snapshot.data["id"] == id
    assert snapshot.data["seq"] == snapshot.seq
    gate.write_text("open")
    rest = list(stream)
    assert rest[-1].kind == "end"
    assert rest[-1].data == {"state": "succeeded"}
    assert rest[-1].seq is None
    numbers = [item.seq for item in rest[:-1]]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > snapshot.seq
    assert rest[-2].data["state"] == "succeeded"


def test_its_headers_keep_proxies_from_holding_it_back(client):
    id = submit(client, "add", a=1)
    finished(client, id)
    with client.stream("GET", f"/v1/jobs/{id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        assert next(response.iter_lines()) == "retry: 2000"


def test_every_fact_comes_with_its_time_and_data(client):
    id = submit(client, "chatty")
    finished(client, id)
    facts = {item.kind: item.data for item in events(client, id, after=0)}
    assert facts["checkpoint"]["size"] == len('{"page":2}')
    assert facts["log"]["lines"][0]["message"] == "hello"
    assert facts["log"]["lines"][0]["at"].endswith("Z")
    assert facts["progress"]["percent"] == 50
    assert facts["state"]["state"] == "succeeded"


def test_a_resumed_stream_loses_and_repeats_nothing(client, gate):
    id = submit(client, "gated", gate=str(gate))
    until(client, id, "progress")
    gate.write_text("open")
    job = finished(client, id)
    whole = [item.seq for item in events(client, id, after=0)][:-1]
    assert whole[0] == 1
    assert whole[-1] == job["seq"]
    for seq, following in itertools.pairwise(whole):
        assert [item.seq for item in events(client, id, after=seq)][:-1] == whole[whole.index(following) :]
        assert [item.seq for item in events(client, id, query=seq)]


def test_of_the_progress_made_before_only_the_last_comes(client, gate):
    id = submit(client, "gated", gate=str(gate), steps=20)
    while (job := client.get(f"/v1/jobs/{id}").json())["progress"] is None or job["progress"]["done"] < 20:
        until(client, id, "progress")
    stream = events(client, id, after=0)
    seen = list(itertools.takewhile(lambda item: item.kind != "progress", stream))
    assert [item.data["state"] for item in seen] == ["queued", "running"]
    gate.write_text("open")
    assert [item.kind for item in stream] == ["state", "end"]


def test_who_has_read_it_all_is_told_not_to_come_again(client):
    id = submit(client, "add", a=1)
    job = finished(client, id)
    response = client.get(f"/v1/jobs/{id}/events", headers={"Last-Event-ID": str(job["seq"])})
    assert (response.status_code, response.content) == (204, b"")


def test_a_number_that_never_was_gets_a_snapshot(client):
    id = submit(client, "add", params={"delay": "1h"}, a=1)
    assert next(events(client, id, after=999)).kind == "snapshot"


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "9" * 30])
def test_a_number_that_is_none_is_refused(client, text):
    id = submit(client, "add", params={"delay": "1h"}, a=1)
    assert client.get(f"/v1/jobs/{id}/events", headers={"Last-Event-ID": text}).status_code == 400
    assert client.get(f"/v1/jobs/{id}/events", params={"after": text}).status_code == 400


def test_a_head_of_a_stream_ends(client):
    id = submit(client, "add", params={"delay": "1h"}, a=1)
    assert client.head(f"/v1/jobs/{id}/events").status_code == 200


def test_a_cancel_is_seen_by_who_follows(client):
    id = submit(client, "spin")
    until(client, id, "progress")
    stream = events(client, id)
    assert next(stream).kind == "snapshot"
    client.post(f"/v1/jobs/{id}/cancel", json={"reason": "enough"})
    rest = [item for item in stream if item.kind != "progress"]
    assert [item.kind for item in rest] == ["cancel", "state", "end"]
    assert rest[0].data["reason"] == "enough"
    assert rest[1].data["stopped"] == "soft"


def test_a_reader_who_leaves_costs_nobody_else(client, gate):
    id = submit(client, "gated", gate=str(gate))
    leaving, staying = events(client, id), events(client, id)
    assert next(leaving).kind == next(staying).kind == "snapshot"
    leaving.close()
    gate.write_text("open")
    assert list(staying)[-1].kind == "end"
