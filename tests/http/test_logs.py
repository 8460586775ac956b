"""GET /v1/jobs/{id}/logs: pages, lines, and both of them live."""

import itertools

import pytest
from tests.http.serving import finished, parsed, serving, submit, until


@pytest.fixture(scope="module")
def written(server):
    """A job that wrote 120 lines, with the client that asks for them."""
    with server.client() as client:
        id = submit(client, "talkative", lines=120)
        finished(client, id)
        yield client, f"/v1/jobs/{id}/logs"


MESSAGES = [f"line {number}" for number in range(120)]


def test_a_page_has_lines_with_their_numbers_and_times(written):
    client, logs = written
    page = client.get(logs, params={"page_size": 1000}).json()
    assert [line["message"] for line in page["items"]] == MESSAGES
    assert set(page["items"][0]) == {"seq", "at", "level", "message"}
    assert page["items"][0]["at"].endswith("Z")
    assert page["items"][0]["level"] == "info"
    assert (page["dropped"], page["next_page_token"]) == (0, None)


@pytest.mark.parametrize("size", [1, 7, 50, 120])
def test_pages_together_have_every_line_once(written, size):
    client, logs = written
    found, token = [], None
    while True:
        page = client.get(logs, params={"page_size": size, **({"page_token": token} if token else {})}).json()
        assert len(page["items"]) <= size
        found += page["items"]
        if (token := page["next_page_token"]) is None:
            break
    assert [line["message"] for line in found] == MESSAGES
    assert [line["seq"] for line in found] == sorted(line["seq"] for line in found)


def test_after_leaves_out_what_was_read(written):
    client, logs = written
    whole = client.get(logs, params={"page_size": 1000}).json()["items"]
    middle = whole[60]["seq"]
    rest = client.get(logs, params={"page_size": 1000, "after": middle}).json()["items"]
    assert rest == [line for line in whole if line["seq"] > middle]


@pytest.mark.parametrize("params", [{}, {"follow": "1"}])
def test_text_is_one_line_each(written, params):
    client, logs = written
    response = client.get(logs, headers={"Accept": "text/plain"}, params=params)
    assert response.headers["content-type"].startswith("text/plain")
    assert [line.split(maxsplit=2)[2] for line in response.text.splitlines()] == MESSAGES
    assert response.text.splitlines()[0].split()[1] == "INFO"


def test_who_follows_with_curl_reads_lines(written):
    client, logs = written
    response = client.get(logs, headers={"Accept": "*/*"}, params={"follow": "1"})
    assert response.headers["content-type"].startswith("text/plain")
    assert len(response.text.splitlines()) == 120


def streamed(client, logs, **headers):
    with client.stream("GET", logs, headers={"Accept": "text/event-stream"} | headers) as response:
        assert response.status_code == 200
        yield from parsed(response.iter_lines())


def test_a_stream_of_the_log_is_live_and_ends_with_the_job(client, gate):
    id = submit(client, "talkative", lines=3, gate=str(gate))
    until(client, id, "log")
    stream = streamed(client, f"/v1/jobs/{id}/logs")
    messages, items = [], []
    while len(messages) < 2:
        items.append(next(stream))
        messages += [line["message"] for line in items[-1].data["lines"]]
    assert messages == ["line 0", "line 1"]
    gate.write_text("open")
    rest = list(stream)
    assert [item.kind for item in rest] == ["log", "end"]
    assert [line["message"] for line in rest[0].data["lines"]] == ["line 2"]
    assert rest[1].data == {"state": "succeeded"}


def test_a_stream_of_the_log_is_resumed_after_any_event(written):
    client, logs = written
    whole = list(streamed(client, logs))
    assert {item.kind for item in whole[:-1]} == {"log"}
    for before, after in itertools.pairwise(whole):
        resumed = list(streamed(client, logs, **{"Last-Event-ID": str(before.seq)}))
        assert resumed[0] == after
    response = client.get(logs, headers={"Accept": "text/event-stream", "Last-Event-ID": str(whole[-1].seq)})
    assert response.status_code == 204


def test_text_that_is_followed_comes_as_it_is_written(client, gate):
    id = submit(client, "talkative", lines=2, gate=str(gate))
    until(client, id, "log")
    with client.stream("GET", f"/v1/jobs/{id}/logs", params={"follow": "1"}) as response:
        lines = response.iter_lines()
        assert next(lines).endswith("line 0")
        gate.write_text("open")
        assert next(lines).endswith("line 1")
        assert list(lines) == []


def test_a_full_log_says_how_many_lines_are_missing(tmp_path, monkeypatch):
    from tests.http.conftest import HERE

    monkeypatch.setenv("PYTHONPATH", HERE)
    monkeypatch.setenv("HEAVYLIFT_MAX_LOG", "1000")
    with serving("--store", "sqlite:///jobs.db", cwd=tmp_path) as server, server.client() as client:
        id = submit(client, "talkative", lines=100)
        finished(client, id)
        logs = f"/v1/jobs/{id}/logs"
        page = client.get(logs, params={"page_size": 1000}).json()
        assert 0 < len(page["items"]) < 100
        assert page["dropped"] == 100 - len(page["items"])
        text = client.get(logs, headers={"Accept": "text/plain"}).text
        assert text.splitlines()[-1] == f"({page['dropped']} lines dropped: the log was full)"


def test_a_head_of_a_log_that_is_followed_ends(client, gate):
    id = submit(client, "talkative", lines=2, gate=str(gate))
    until(client, id, "log")
    assert client.head(f"/v1/jobs/{id}/logs", params={"follow": "1"}).status_code == 200
    gate.write_text("open")


@pytest.mark.parametrize(
    ("accept", "params", "kind"),
    [
        ("application/json", {}, "application/json"),
        ("text/*", {}, "text/plain"),
        ("text/plain;q=0.5, application/json;q=0.1", {}, "text/plain"),
        ("text/html, */*;q=0.1", {}, "application/json"),
        ("text/event-stream;q=0, text/*;q=0.5, */*;q=0.1", {"follow": "1"}, "text/plain"),
        ("image/png", {}, None),
        ("application/json", {"follow": "1"}, None),
        ("application/json;q=0", {}, None),
    ],
)
def test_what_the_caller_accepts_decides(written, accept, params, kind):
    client, logs = written
    response = client.get(logs, headers={"Accept": accept}, params=params)
    if kind is None:
        assert (response.status_code, response.json()["code"]) == (406, "not-acceptable")
    else:
        assert response.headers["content-type"].startswith(kind)
