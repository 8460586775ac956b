"""Submits that may come twice, also to several web processes: ids that callers choose, Idempotency-Key, unique keys."""

import asyncio
import json
from contextlib import AsyncExitStack

import httpx2
import pytest
from tests.http.test_submit import post

from heavylift import Heavylift, Retention
from heavylift.testing import FakeClock

KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"


def once(client, key, task="add", body=b'{"a": 1}', **params):
    return post(client, task, body, {"Idempotency-Key": key}, **params)


def code_of(response):
    return response.status_code, response.json()["code"]


# --- ids ------------------------------------------------------------------------------------------------------------


def test_an_id_is_submitted_once(client):
    first, second = (post(client, id="order-7", delay="1h") for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["id"] == second.json()["id"] == "order-7"
    assert second.headers["location"] == "/v1/jobs/order-7"
    assert "idempotency-replayed" not in second.headers
    assert client.get("/v1/jobs/order-7").json()["task"] == "add"
    for other in (post(client, body=b'{"a": 2}', id="order-7"), post(client, "chatty", b"", id="order-7")):
        assert code_of(other) == (409, "duplicate-job")
        assert other.json()["existing"] == "order-7"


def test_what_is_over_answers_with_its_result(client):
    given = {"id": "order-8", "headers": {"Prefer": "wait=30"}}
    assert [post(client, **given).json()["result"] for _ in range(2)] == [2, 2]


@pytest.mark.parametrize("name", ["", "a b", "-a", "x" * 129, "x" * 10_000])
def test_what_cannot_be_an_id_is_refused(client, name):
    response = post(client, id=name)
    assert code_of(response) == (400, "invalid-parameter")
    assert response.json()["parameter"] == "id"


# --- Idempotency-Key ------------------------------------------------------------------------------------------------


def test_a_key_makes_one_job(client):
    first, second, bare = (once(client, key, delay="1h") for key in (f'"{KEY}"', f'"{KEY}"', KEY))
    assert (first.status_code, second.status_code, bare.status_code) == (202, 200, 200)
    assert first.json()["id"] == second.json()["id"] == bare.json()["id"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == bare.headers["idempotency-replayed"] == "true"


def test_a_key_is_of_its_task(client):
    first, other = once(client, "k1"), once(client, "k1", "chatty", b"")
    assert (first.status_code, other.status_code) == (202, 202)
    assert first.json()["id"] != other.json()["id"]


def test_a_key_with_other_arguments_is_refused(client):
    first = once(client, "k2", queue="reused", delay="1h")
    response = once(client, "k2", body=b'{"a": 2}', queue="reused")
    assert code_of(response) == (422, "idempotency-key-reused")
    assert response.json()["existing"] == first.json()["id"]
    assert len(client.get("/v1/jobs", params={"queue": "reused"}).json()["items"]) == 1
    again = once(client, "k2", body=b'{ "a":1 }')  # the same in other words
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")


def test_what_was_refused_used_no_key(client):
    assert once(client, "k3", body=b'{"a": "x"}').status_code == 422
    assert once(client, "k3").status_code == 202


@pytest.mark.parametrize("key", ["x" * 255, '"x"', r'"a\"b\\c"', "!~", "a,b;c=d"])
def test_a_key_may_be_any_visible_text(client, key):
    first, second = once(client, key, delay="1h"), once(client, key)
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    "key", ["", '""', "x" * 256, "a b", '"a b"', "ü".encode(), b"\x80", b"a\tb", '"x"y z', 'a"b', '"a', r"a\b"]
)
def test_what_cannot_be_a_key_is_refused(client, key):
    response = once(client, key, queue="keyless")
    assert code_of(response) == (400, "invalid-parameter")
    assert response.json()["parameter"] == "Idempotency-Key"
    assert client.get("/v1/jobs", params={"queue": "keyless"}).json()["items"] == []


def test_one_key_is_enough(client):
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b"), ("Content-Type", "application/json")]
    response = client.post("/v1/tasks/add/jobs", content=b'{"a": 1}', headers=headers)
    assert code_of(response) == (400, "invalid-parameter")
    assert code_of(once(client, "k4", id="order-9")) == (400, "invalid-parameter")
    assert client.get("/v1/jobs/order-9").status_code == 404


async def test_a_key_holds_over_all_web_processes(tmp_path):
    """Of many requests at once, to several of them, one made the job."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(3):
            lift = await stack.enter_async_context(Heavylift(f"sqlite:///{tmp_path}/jobs.db"))

            @lift.task
            def add(a: int) -> int:
                return a

            transport = httpx2.ASGITransport(lift.asgi("api"))
            clients.append(
                await stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url="http://x"))
            )
        headers = {"Idempotency-Key": "one"}
        answers = await asyncio.gather(
            *(client.post("/v1/tasks/add/jobs", json={"a": 1}, headers=headers) for client in clients * 20)
        )
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sorted(answer.status_code for answer in answers) == [200] * 59 + [202]
        assert sum("idempotency-replayed" in answer.headers for answer in answers) == 59


async def test_a_key_is_remembered_for_a_day_after_its_job_was_pruned(tmp_path):
    lift, clock = Heavylift(f"sqlite:///{tmp_path}/jobs.db"), FakeClock()

    @lift.task
    def add(a: int) -> int:
        return a

    with lift.overridden(clock=clock):
        async with (
            lift,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(lift.asgi("api")), base_url="http://x") as client,
        ):

            async def submitted():
                headers = {"Idempotency-Key": "one"}
                return await client.post("/v1/tasks/add/jobs", json={"a": 1}, headers=headers)

            job = (await submitted()).json()["id"]
            await lift.cancel(job)
            clock.advance(61)
            await lift.store.prune(Retention(0))
            for _ in range(2):
                assert code_of(await submitted()) == (410, "job-pruned")
                clock.advance("23h")
                await lift.store.prune(Retention(0))
            clock.advance("2h")
            await lift.store.prune(Retention(0))
            assert (await submitted()).status_code == 202


# --- keys of tasks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait=0"}], ids=["the short way", "the long way"])
def test_the_key_of_a_task_is_filled_in(client, headers):
    account = f"acme{len(headers)}"
    first, second = (
        post(client, "synced", json.dumps({"account": account, "page": page}).encode(), headers) for page in (1, 2)
    )
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json()["id"] == first.json()["id"]
    other = post(client, "synced", b'{"account": "other%d"}' % len(headers), headers)
    assert (other.status_code, other.json()["id"] != first.json()["id"]) == (202, True)
    refused = post(client, "synced", json.dumps({"account": "x" * 600}).encode(), headers)
    assert code_of(refused) == (422, "invalid-arguments")
    [problem] = refused.json()["errors"]
    assert problem["pointer"] == "/account"
    assert "would have 607 characters, 512 are the most" in problem["detail"]


def test_a_batch_keeps_all_of_it_for_each_item(client):
    def item(account, **options):
        return {"task": "synced", "args": {"account": account}, "options": options}

    items = [item("batch"), item("batch"), item("x" * 600), item("own", id="order-b"), item("other", id="order-b")]
    for codes in ([202, 200, 422, 202, 409], [200, 200, 422, 200, 409]):
        answers = client.post("/v1/jobs/batch", json={"items": items}).json()["items"]
        assert [answer["status"] for answer in answers] == codes
        assert answers[0]["job"]["id"] == answers[1]["job"]["id"]
        assert answers[2]["problem"]["errors"][0]["pointer"] == "/account"
        assert answers[3]["job"]["id"] == answers[4]["problem"]["existing"] == "order-b"


def test_a_key_of_the_query_names_arguments_too(client):
    given = {"unique": "{{add}} {a}", "delay": "1h", "queue": "named"}
    ids = [post(client, body=b'{"a": %d}' % number, **given).json()["id"] for number in (1, 2, 1)]
    assert ids[0] == ids[2] != ids[1]
    taken = post(client, unique="{{add}} 1", on_conflict="reject")  # what it came to
    assert (code_of(taken), taken.json()["existing"]) == ((409, "duplicate-job"), ids[0])


REFUSED = {
    "an unknown argument": ({"unique": "{aa}"}, "unique", "Did you mean 'a'?"),
    "a lone brace": ({"unique": "{a"}, "unique", "write '{{' for a brace"),
    "10 KB": ({"unique": "x" * 10_000}, "unique", "give 1-512 characters"),
    "a mode": ({"unique": "a", "on_conflict": "ignore"}, "on_conflict", "'queue-one' (one may wait"),
    "a mode without a key": ({"on_conflict": "replace"}, "on_conflict", "without a unique key"),
    "a scope": ({"unique": "a", "unique_until": "never"}, "unique_until", "'start' (the key is free"),
    "a scope without a key": ({"unique_until": "start"}, "unique_until", "without a unique key"),
    "a period": ({"unique": "a", "unique_for": "0"}, "unique_for", "give a longer duration"),
    "a negative period": ({"unique": "a", "unique_for": "-1"}, "unique_for", "is no duration"),
    "debounce without a key": ({"debounce": "5s"}, "debounce", "without a unique key"),
    "debounce at a time": ({"unique": "a", "debounce": "5", "run_at": "2100-01-01T00:00:00Z"}, "debounce", "run_at"),
    "debounce that rejects": ({"unique": "a", "debounce": "5", "on_conflict": "reject"}, "debounce", "reject"),
    "over before it starts": ({"expires": "1m", "delay": "60"}, "expires", "waits 60 s first"),
    "no time": ({"expires": "0"}, "expires", "no time at all"),
}


@pytest.mark.parametrize(("params", "name", "detail"), REFUSED.values(), ids=REFUSED)
def test_options_that_make_no_sense_are_refused_by_name(client, params, name, detail):
    response = post(client, queue="senseless", **params)
    assert code_of(response) == (400, "invalid-parameter")
    assert response.json()["parameter"] == name
    assert detail in response.json()["detail"]
    assert client.get("/v1/jobs", params={"queue": "senseless"}).json()["items"] == []


@pytest.mark.parametrize("name", ["limits", "fair_share", "on_exhausted", "keep"])
def test_what_is_the_tasks_alone_cannot_be_given(client, name):
    assert code_of(post(client, **{name: "x"})) == (400, "unknown-parameter")


async def test_options_of_the_query_reach_the_job(tmp_path):
    async with Heavylift(f"sqlite:///{tmp_path}/jobs.db") as lift:

        @lift.task
        def add(a: int) -> int:
            return a

        transport = httpx2.ASGITransport(lift.asgi("api"))
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            given = {"unique": "k{a}", "on_conflict": "queue-one", "unique_until": "start", "unique_for": "1h"}
            given |= {"debounce": "30s", "expires": "10m", "id": "own"}
            assert (await client.post("/v1/tasks/add/jobs", params=given, json={"a": 1})).status_code == 202
        options = (await lift.get("own")).job.options
        assert (options.unique, options.on_conflict, options.unique_until) == ("k1", "queue-one", "start")
        assert (options.unique_for, options.debounce, options.expires) == (3600.0, 30.0, 600.0)
