"""More than a hundred requests that nobody should send: each gets its problem, and leaves nothing behind."""

import pytest
from tests.http.serving import submit

JSON = {"Content-Type": "application/json"}


def body(task, text, pointer, code="invalid-arguments", status=422):
    """A submit whose body does not fit, at this pointer."""
    return ("POST", f"/v1/tasks/{task}/jobs", {"content": text, "headers": JSON}, status, code, pointer)


def broken(text):
    return body("add", text, None, "malformed-json", 400)


def option(query, code="invalid-parameter"):
    """A submit whose arguments fit, and one of whose options does not: the one before the "="."""
    name = query.partition("=")[0]
    return ("POST", f"/v1/tasks/add/jobs?{query}", {"json": {"a": 1}}, 400, code, name)


def query(path, text, code="invalid-parameter"):
    return ("GET", f"{path}?{text}", {}, 400, code, text.partition("=")[0])


def header(status, code, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return ("POST", "/v1/tasks/add/jobs", {"content": b'{"a": 1}', "headers": JSON | names}, status, code, None)


def cancel(text, pointer):
    return ("POST", "/v1/jobs/{id}/cancel", {"content": text, "headers": JSON}, 422, "invalid-body", pointer)


def queue(text, pointer):
    return ("PATCH", "/v1/queues/bad-requests", {"content": text, "headers": JSON}, 422, "invalid-body", pointer)


def method(verb, path):
    return (verb, path, {}, 405, "method-not-allowed", None)


def missing(path, code="not-found", verb="GET"):
    return (verb, path, {}, 404, code, None)


REQUESTS = [
    # Bodies that are no JSON
    (
        "POST",
        "/v1/jobs/{id}/cancel",
        {"content": b'{"grace":1,"grace":2}', "headers": JSON},
        400,
        "malformed-json",
        None,
    ),
    *map(broken, [b"{", b"}", b"[1", b'{"a"', b'{"a":}', b'{"a":1,}', b"{'a':1}", b'{"a":1}x', b"a=1", b"<a>1</a>"]),
    *map(broken, [b'{"a":01}', b'{"a":+1}', b'{"a":1e}', b'{"a":.5}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":tru}']),
    *map(
        broken, [b'{"a":"\x01"}', b'{"a":"\\x"}', b'{"a":"\xff"}', b'{"a":"\\ud800"}', b"\xef\xbb\xbf{}", b"\x00", b" "]
    ),
    *map(broken, [b'{"a":1,"a":2}', b'{"a":1,"b":2,"a":1}', b'{"a":1,"\\u0061":2}']),
    broken(b"[" * 5000),
    broken('{"a":1}'.encode("utf-16")),
    # Bodies that are no arguments
    *(body("add", text, "") for text in (b"[]", b"[1]", b"null", b"true", b"1", b'"a"', b"1.5")),
    *(
        body("add", text, "/a")
        for text in (b"{}", b'{"b":1}', b'{"a":null}', b'{"a":"1"}', b'{"a":true}', b'{"a":1.5}')
    ),
    *(body("add", text, "/a") for text in (b'{"a":[]}', b'{"a":[1]}', b'{"a":{}}', b'{"a":{"a":1}}', b'{"a":""}')),
    *(body("add", text, "/b") for text in (b'{"a":1,"b":null}', b'{"a":1,"b":"x"}', b'{"a":1,"b":false}')),
    body("add", b'{"a":1,"c":1}', "/c"),
    body("add", b'{"a":1,"A":1}', "/A"),
    body("add", b'{"a":1,"":1}', "/"),
    body("add", b'{"a":1,"x/y":1}', "/x~1y"),
    body("add", b'{"a":1,"x~y":1}', "/x~0y"),
    body("add", b'{"a":1,"ctx":{}}', "/ctx"),
    *(body("bounded", f'{{"share":{value}}}', "/share") for value in ("-0.1", "1.1", "1e9", '"0.5"', "null", "[]")),
    body("bounded", b'{"share":0.5,"name":5}', "/name"),
    body("bounded", b'{"share":0.5,"name":null}', "/name"),
    body("plan", b"{}", "/job"),
    body("plan", b'{"job":{}}', "/job/title"),
    body("plan", b'{"job":{"title":1}}', "/job/title"),
    body("plan", b'{"job":{"title":"x","parts":{}}}', "/job/parts"),
    body("plan", b'{"job":{"title":"x","parts":[{"title":"y","parts":[{}]}]}}', "/job/parts/0/parts/0/title"),
    body("plan", b'{"job":{"title":"x"},"hours":0}', "/hours"),
    body("plan", b'{"job":{"title":"x"},"hours":25}', "/hours"),
    body("plan", b'{"job":{"title":"x"},"hours":1e400}', "/hours"),
    body("chatty", b'{"any":1}', "/any"),
    body("add", b'{"a":"' + b"x" * 2**20 + b'"}', None, "payload-too-large", 413),
    # Headers
    header(415, "unsupported-media-type", Content_Type="text/plain"),
    header(415, "unsupported-media-type", Content_Type="application/x-www-form-urlencoded"),
    header(415, "unsupported-media-type", Content_Type="multipart/form-data; boundary=x"),
    header(415, "unsupported-media-type", Content_Type="application/xml"),
    header(415, "unsupported-media-type", Content_Type="application/jsonp"),
    header(415, "unsupported-media-type", Content_Type="application/json; charset=utf-16"),
    header(415, "unsupported-media-type", Content_Type=""),
    header(415, "unsupported-media-type", Content_Encoding="gzip"),
    header(415, "unsupported-media-type", Content_Encoding="br"),
    header(403, "cross-site", Sec_Fetch_Site="cross-site"),
    # Options of a submit
    *map(option, ["priority=10", "priority=-1", "priority=1.5", "priority=high", "priority=", "priority=1e0"]),
    *map(
        option, ["queue=a%20b", "queue=", "queue=-a", "queue=%C3%A4", "queue=" + "x" * 129, "queue=a/b", "queue=a%00"]
    ),
    *map(option, ["delay=soon", "delay=-1", "delay=nan", "delay=inf", "delay=1y", "delay=200w1000000h", "delay="]),
    *map(option, ["timeout=0", "timeout=-5s", "timeout=none", "grace=-1", "grace=1x", "max_attempts=0"]),
    *map(
        option, ["max_attempts=1001", "max_attempts=many", "run_at=now", "run_at=2026-01-31", "run_at=2026-01-31T09:00"]
    ),
    *map(option, ["run_at=2026-02-30T09:00:00Z", "run_at=-1", "run_at=99999-01-01T00:00:00Z"]),
    *map(option, ["unique=", "unique=" + "x" * 513, "unique=a%00", "on_conflict=ignore", "on_conflict="]),
    ("POST", "/v1/tasks/add/jobs?label.=x", {"json": {"a": 1}}, 400, "invalid-parameter", "labels"),
    ("POST", "/v1/tasks/add/jobs?label.a%20b=x", {"json": {"a": 1}}, 400, "invalid-parameter", "labels"),
    ("POST", "/v1/tasks/add/jobs?label.a=" + "x" * 257, {"json": {"a": 1}}, 400, "invalid-parameter", "labels"),
    (
        "POST",
        "/v1/tasks/add/jobs?" + "&".join(f"label.l{number}=x" for number in range(33)),
        {"json": {"a": 1}},
        400,
        "invalid-parameter",
        "labels",
    ),
    option("priority=1&priority=1"),
    option("label.a=1&label.a=2"),
    *(option(text, "unknown-parameter") for text in ("a=1", "prioritiy=1", "Queue=x", "labels=x", "retry=3", "=1")),
    # Lists and streams
    *(query("/v1/jobs", text) for text in ("state=runing", "state=queued;failed", "state=QUEUED", "page_size=0")),
    *(query("/v1/jobs", text) for text in ("page_size=1001", "page_size=-1", "page_size=ten", "page_size=1.0")),
    *(
        query("/v1/jobs", text)
        for text in ("page_token=x", "page_token=%00", "page_token=MTIz", "state=queued&state=failed")
    ),
    *(query("/v1/jobs", text, "unknown-parameter") for text in ("status=failed", "limit=10", "offset=1", "page=2")),
    *(query(f"/v1/{name}", "x=1", "unknown-parameter") for name in ("tasks", "queues", "workers", "tasks/add")),
    query("/v1/jobs/{id}", "wait=5", "unknown-parameter"),
    query("/v1/jobs/{id}/result", "timeout=5", "unknown-parameter"),
    *(query("/v1/jobs/{id}/events", text) for text in ("after=x", "after=-1", "after=1.5", "after=" + "9" * 19)),
    query("/v1/jobs/{id}/events", "from=1", "unknown-parameter"),
    *(
        query("/v1/jobs/{id}/logs", text)
        for text in ("follow=maybe", "follow=2", "page_size=0", "page_token=1", "after=x")
    ),
    ("GET", "/v1/jobs/{id}/events", {"headers": {"Last-Event-ID": "last"}}, 400, "invalid-parameter", "after"),
    ("GET", "/v1/jobs/{id}/logs", {"headers": {"Accept": "image/png"}}, 406, "not-acceptable", None),
    # Cancels, retries and queues
    *(cancel(text, "/grace") for text in (b'{"grace":-1}', b'{"grace":"x"}', b'{"grace":true}', b'{"grace":[]}')),
    *(cancel(text, "/force") for text in (b'{"force":1}', b'{"force":"true"}', b'{"force":null}')),
    *(cancel(text, "/reason") for text in (b'{"reason":1}', b'{"reason":["x"]}', b'{"reason":"' + b"x" * 1001 + b'"}')),
    *(cancel(text, "") for text in (b"[]", b"null", b"true", b'"now"')),
    cancel(b'{"graze":1}', "/graze"),
    ("POST", "/v1/jobs/{id}/cancel", {"content": b"{", "headers": JSON}, 400, "malformed-json", None),
    ("POST", "/v1/jobs/{id}/cancel", {"content": b" " * 70_000, "headers": JSON}, 413, "payload-too-large", None),
    ("POST", "/v1/jobs/{id}/cancel?force=1", {}, 400, "unknown-parameter", "force"),
    ("POST", "/v1/jobs/{id}/retry", {}, 409, "job-not-finished", None),
    ("POST", "/v1/jobs/{id}/retry", {"json": {"from": 1}}, 422, "invalid-body", "/from"),
    ("POST", "/v1/jobs/{id}/retry", {"json": {"from_checkpoint": "no"}}, 422, "invalid-body", "/from_checkpoint"),
    ("GET", "/v1/jobs/{id}/checkpoint", {}, 404, "no-checkpoint", None),
    query("/v1/jobs/{id}/checkpoint", "steps=1", "unknown-parameter"),
    ("GET", "/v1/jobs/{id}/stack", {}, 409, "job-not-running", None),
    query("/v1/jobs/{id}/stack", "timeout=1", "unknown-parameter"),
    *(queue(text, "/paused") for text in (b'{"paused":1}', b'{"paused":null}', b'{"paused":"no"}')),
    *(queue(text, "/concurrency") for text in (b'{"concurrency":0}', b'{"concurrency":-1}', b'{"concurrency":1.5}')),
    *(queue(text, "/max_size") for text in (b'{"max_size":"9"}', b'{"max_size":true}', b'{"max_size":4294967296}')),
    *(queue(text, "") for text in (b"[]", b"null", b"5")),
    queue(b'{"name":"x"}', "/name"),
    ("PATCH", "/v1/queues/a%20b", {"json": {}}, 400, "invalid-parameter", None),
    ("PATCH", "/v1/queues/" + "x" * 129, {"json": {}}, 400, "invalid-parameter", None),
    # Paths and methods
    *(
        missing(path)
        for path in ("/v1", "/v1/", "/v2/jobs", "/v1/job", "/v1/jobs/", "/v1/jobs/x/y", "/V1/jobs", "//v1/jobs")
    ),
    *(
        missing(path)
        for path in ("/v1/tasks/add/jobs/x", "/v1/../etc/passwd", "/docs/../api.py", "/docs/x.js", "/.env")
    ),
    missing("/v1/tasks/ad", "unknown-task"),
    missing("/v1/tasks/add%00", "unknown-task"),
    missing("/v1/tasks/none/jobs", "unknown-task", "POST"),
    *(
        missing(f"/v1/jobs/nobody{part}", "job-not-found")
        for part in ("", "/result", "/events", "/logs", "/checkpoint", "/stack")
    ),
    *(missing(f"/v1/jobs/nobody/{verb}", "job-not-found", "POST") for verb in ("cancel", "retry")),
    missing("/v1/jobs/%F0%9F%9A%80", "job-not-found"),
    missing("/v1/jobs/" + "x" * 4000, "job-not-found"),
    *(method(verb, "/v1/jobs") for verb in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS")),
    *(method(verb, "/v1/jobs/{id}") for verb in ("POST", "PUT", "DELETE")),
    *(method(verb, "/v1/tasks/add/jobs") for verb in ("GET", "PUT", "DELETE")),
    *(method(verb, "/v1/queues/x") for verb in ("POST", "DELETE")),
    method("GET", "/v1/jobs/{id}/cancel"),
    method("TRACE", "/v1/jobs"),
]


@pytest.fixture(scope="module")
def waiting(server):
    """A job that waits, for requests about one."""
    with server.client() as client:
        return submit(client, "add", params={"delay": "10h"}, a=1)


def left(client, job):
    """What a request could leave behind: a newer job, a queue, or another job that it is about."""
    newest = client.get("/v1/jobs", params={"page_size": 1}).json()["items"][0]["id"]
    settings = ("name", "paused", "concurrency", "max_size")
    queues = [[queue[name] for name in settings] for queue in client.get("/v1/queues").json()["items"]]
    return newest, queues, client.get(f"/v1/jobs/{job}").json()["seq"]


def test_there_are_more_than_a_hundred():
    assert len(REQUESTS) > 200


@pytest.mark.parametrize("number", range(len(REQUESTS)), ids=lambda number: f"{number}-{REQUESTS[number][4]}")
def test_a_bad_request_gets_its_problem_and_leaves_nothing_behind(client, waiting, number):
    verb, path, content, status, code, where = REQUESTS[number]
    before = left(client, waiting)
    response = client.request(verb, path.replace("{id}", waiting), **content)
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code), problem["detail"]
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"]
    if code in ("invalid-arguments", "invalid-body"):
        assert where in [error["pointer"] for error in problem["errors"]]
    elif where is not None:
        assert problem["parameter"] == where
    assert left(client, waiting) == before
