"""Submits that say nothing but their arguments take a short way: to the same end as all others."""

import asyncio
import json
import re
import socket
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from heavylift import Heavylift
from heavylift.http import deadlines, params, render


@pytest.fixture
async def lift(tmp_path):
    async with Heavylift(f"sqlite:///{tmp_path}/jobs.db") as found:

        @found.task(labels={"tenant": "acme"}, priority=3)
        def double(number: int) -> int:
            return 2 * number

        yield found


async def asked(app, *, receive=None, root="", query=b"", headers=(), path="/v1/tasks/double/jobs"):
    """The status, the headers and the body of an answer."""
    body = b'{"number": 4}'

    async def whole():
        return {"type": "http.request", "body": body}

    sent = []

    async def send(message):
        sent.append(message)

    given = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    scope = {"type": "http", "method": "POST", "path": root + path, "root_path": root, "query_string": query}
    await app(scope | {"headers": given}, receive or whole, send)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:])


def unnamed(value):
    """Without what two jobs cannot have in common."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", json.dumps(value))
    return json.loads(re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME", text))


def seen(answer):
    status, headers, body = answer
    return (
        status,
        unnamed({name.decode(): value.decode() for name, value in headers.items()}),
        unnamed(json.loads(body)),
    )


@pytest.mark.parametrize("root", ["", "/api"])
async def test_the_short_way_answers_as_the_long_one_does(lift, root, monkeypatch):
    short_ways = []

    async def counted(*arguments):
        short_ways.append(arguments)
        return await read(*arguments)

    read = params.small_body
    monkeypatch.setattr(params, "small_body", counted)
    app = lift.asgi("api")
    short = await asked(app, root=root)
    assert len(short_ways) == 1
    long = await asked(app, root=root, headers=[(b"prefer", b"nothing")])
    assert len(short_ways) == 1
    assert seen(short) == seen(long)
    assert unnamed(json.loads(short[2])["links"]["self"]) == f"{root}/v1/jobs/ID"
    kept = [(await lift.get(json.loads(body)["id"])).job for _, _, body in (short, long)]
    assert json.loads(short[2])["created_at"] == render.moment(kept[0].created_at)
    first, second = (replace(job, id="", created_at=0.0, run_at=0.0) for job in kept)
    assert first == second


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"headers": [(b"sec-fetch-site", b"cross-site")]}, 403),
        ({"headers": [(b"content-encoding", b"gzip")]}, 415),
        ({"headers": [(b"prefer", b"wait=0")]}, 202),
        ({"query": b"nonsense=1"}, 400),
        ({"path": "/v1/tasks/nobody/jobs"}, 404),
        ({"path": "/v1/tasks/a/b/jobs"}, 404),
        ({"path": "/v1/tasks//jobs"}, 404),
    ],
)
async def test_what_says_more_is_heard(lift, said, status):
    assert (await asked(lift.asgi("api"), **said))[0] == status


async def test_a_body_that_does_not_come_is_not_waited_for(lift, monkeypatch):
    monkeypatch.setattr(params, "BODY_TIME", 0.02)
    monkeypatch.setattr(deadlines, "LOOK", 0.01)
    app = lift.asgi("api")
    status, headers, body = await asked(app, receive=asyncio.Event().wait)
    assert (status, headers[b"connection"], json.loads(body)["code"]) == (408, b"close", "body-too-slow")
    assert asyncio.current_task().cancelling() == 0
    assert (await asked(app))[0] == 202, "the next one is answered"


async def test_a_deadline_is_no_shield_from_a_cancel(monkeypatch):
    monkeypatch.setattr(deadlines, "LOOK", 0.01)
    limits = deadlines.Deadlines()
    waiting = asyncio.create_task(limits.within(1e6, asyncio.Event().wait()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await limits.within(1e6, asyncio.sleep(0, "done")) == "done"
    async with asyncio.timeout(10):  # the one timer is gone when nothing waits
        while limits._looking is not None:
            await asyncio.sleep(0.01)
    late = asyncio.create_task(limits.within(0, asyncio.Event().wait()))
    with pytest.raises(TimeoutError):
        await late


async def test_many_submits_of_one_moment_have_their_own_jobs(lift):
    app = lift.asgi("api")
    answers = await asyncio.gather(*(asked(app) for _ in range(64)))
    bodies = [json.loads(body) for _, _, body in answers]
    assert len({body["id"] for body in bodies}) == 64
    assert [headers[b"location"].decode() for _, headers, _ in answers] == [body["links"]["self"] for body in bodies]
    assert len([job async for job in lift.find()]) == 64


def test_an_answer_comes_in_one_piece(server):
    where = urlsplit(server.address)
    with socket.create_connection((where.hostname, where.port), timeout=30) as stream:
        for _ in range(3):
            request = b"POST /v1/tasks/add/jobs HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
            stream.sendall(request + b'Content-Length: 8\r\n\r\n{"a": 1}')
            head, _, body = stream.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 202")
            assert json.loads(body)["task"] == "add"
