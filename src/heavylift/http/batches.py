"""The handler of batches: many jobs in one request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from heavylift.core import codec
from heavylift.core.errors import ConfigError, HeavyliftError, Problem, did_you_mean, pointer
from heavylift.http import params, problems
from heavylift.http.call import Call, answer
from heavylift.http.problems import Refused, invalid
from heavylift.http.tasks import optioned
from heavylift.outlook import at_a_glance
from heavylift.store import Added
from heavylift.submission import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request as HTTPRequest
    from starlette.responses import Response

MOST, LARGEST = 1000, 4 * 2**20
"""Jobs of one batch, and bytes."""
ITEM = ("task", "args", "options")
SHOWN = 50
"""Mistakes of one body that are told."""
SLICE = 50
"""Items that are looked at before other requests get their turn."""


async def submit(call: Call) -> Response:
    """Queue many jobs; an answer for each."""
    call.service.accepting()
    params.only(call.request)
    if params.IDEMPOTENCY_KEY in call.request.headers:
        # Not to be passed over: who sends it believes that the batch can be sent twice.
        detail = "it is of one submit; give each item of a batch an id of its own in its options."
        raise params.parameter(name=params.IDEMPOTENCY_KEY, detail=detail)
    items = await _items_of(call.request, max(call.client.max_payload, LARGEST))
    requests: dict[int, Request] = {}
    ids: dict[int, str | None] = {}
    answers: dict[int, dict[str, Any]] = {}
    for place, item in enumerate(items):
        if place % SLICE == SLICE - 1:
            await asyncio.sleep(0)
        try:
            requests[place], ids[place] = _request(call, item)
        except (HeavyliftError, Refused) as error:
            answers[place] = _refused(call, error)
    found = await call.client.add(list(requests.values()), list(ids.values())) if requests else []
    for place, added in zip(requests, found, strict=True):
        answers[place] = _taken(call, added) if isinstance(added, Added) else _refused(call, added)
    ordered = [answers[place] for place in range(len(items))]
    return answer({"items": ordered}, 207 if any("problem" in item for item in ordered) else 202)


def _request(call: Call, item: dict[str, Any]) -> tuple[Request, str | None]:
    """What an item asks for, and the id that it chose; raises what a submit of it would be refused with."""
    bound = call.service.lift.find_task(item["task"])
    if "options" in item:
        bound = optioned(bound, _options(item["options"]))
    arguments = bound.task.bind_json(codec.encode(item.get("args", {})), call.client.max_payload)
    return bound.request(arguments), bound.job_id


def _taken(call: Call, added: Added) -> dict[str, Any]:
    # One that was there before, by its id or its unique key, was not accepted now.
    return {
        "status": 202 if added.created else 200,
        "job": call.job(added.job, at_a_glance(added.job, call.client.now())),
    }


def _refused(call: Call, error: HeavyliftError | Refused) -> dict[str, Any]:
    problem = error if isinstance(error, Refused) else problems.refused(error)
    return {"status": problem.status, "problem": problems.body(call.request, problem)}


async def _items_of(request: HTTPRequest, limit: int) -> list[dict[str, Any]]:
    """The items of a batch: objects of task, args and options."""
    given = await params.fields(request, {"items": _list}, limit)
    if "items" not in given:
        raise invalid([Problem("/items", f"it is missing; give a list of 1-{MOST} jobs.")])
    problems = [
        Problem(f"/items/{place}{pointer}", detail)
        for place, item in enumerate(given["items"])
        for pointer, detail in _mistakes(item)
    ]
    if problems:
        raise invalid(problems[:SHOWN])
    items: list[dict[str, Any]] = given["items"]
    return items


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an item; raises Refused for one that a submit does not take."""
    known = (*params.OPTIONS, "labels")
    for name in given:
        if name not in known:
            detail = f"There is no option {name!r}.{did_you_mean(name, known)} (known: {', '.join(known)})"
            raise Refused(400, "unknown-parameter", detail, parameter=name)
    return {name: params.whole(value) for name, value in given.items()}


def _list(value: Any) -> list[Any]:
    if isinstance(value, list) and 1 <= len(value) <= MOST:
        return value
    message = f"give a list of 1-{MOST} jobs."
    raise ConfigError(message)


def _mistakes(item: Any) -> list[tuple[str, str]]:
    """What is wrong with the form of an item of a batch."""
    if not isinstance(item, dict):
        return [("", "give an object of task, args and options.")]
    unknown = item.keys() - ITEM
    found = [(pointer(name), f"there is no such member.{did_you_mean(name, ITEM)}") for name in unknown]
    if not isinstance(item.get("task"), str):
        found.append(("/task", "give the name of a task."))
    wrong = [name for name in ITEM[1:] if not isinstance(item.get(name, {}), dict)]
    return found + [(f"/{name}", "give an object.") for name in wrong]
