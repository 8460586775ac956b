"""What requests say: query parameters, bodies and preferences, checked before anything happens."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect

from heavylift.core import codec
from heavylift.core.errors import ConfigError, Problem, did_you_mean, pointer
from heavylift.core.job import State
from heavylift.core.limits import is_text, pace
from heavylift.core.options import LIMITS, Options
from heavylift.core.queue import MAX_BY, MAX_REASON, MOST
from heavylift.core.retention import Retention
from heavylift.core.units import seconds
from heavylift.http.problems import Refused, invalid
from heavylift.store import Query

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive

    from heavylift.http.deadlines import Deadlines

OPTIONS = (
    *("id", "queue", "priority", "delay", "run_at", "timeout", "grace"),
    *("max_attempts", "unique", "on_conflict", "unique_until", "unique_for", "debounce", "expires"),
    *LIMITS,
)
"""What the query of a submit may say. What other jobs pay for is the task's alone: `limits` and `fair_share`."""
FILTERS = ("state", "task", "queue", "page_size", "page_token")
LABEL = "label."
PAGE_SIZE = (50, 1000)
SMALL_BODY = 64 * 1024
"""Bytes of a body that is no task's arguments."""
BODY_TIME = 60.0
"""Seconds in which a body has to arrive."""
MAX_WAIT = 300.0
"""Seconds that a request waits at most, whatever it prefers."""
IDEMPOTENCY_KEY = "Idempotency-Key"
IDEMPOTENCY_KEYS = r'^([!#-\[\]-~]{1,255}|"([!#-\[\]-~]|\\["\\]){1,255}")$'
"""Bare, or a string of RFC 8941, in which quotes and backslashes stand after a backslash."""
KEEP = ("age", "succeeded", "failed")

JSON = "application/json"

Check = Callable[[Any], Any]


def options(request: Request) -> dict[str, Any]:
    """The options of a submit, as the query gives them."""
    given, labels = _query(request, OPTIONS)
    if "run_at" in given:
        # A bare "+" in a query means a space, and in a time zone it is easily forgotten.
        given["run_at"] = re.sub(r"(?<=T.{5}) (?=\d\d:?\d\d$)|(?<=T.{8}) (?=\d\d:?\d\d$)", "+", given["run_at"])
    return given | ({"labels": labels} if labels else {})


def query(request: Request) -> Query:
    """Which jobs are to be listed."""
    given, labels = _query(request, FILTERS)
    states = tuple(_state(name) for name in given.get("state", "").split(",") if name)
    size = page_size(given.get("page_size"))
    return Query(states, given.get("task"), given.get("queue"), labels, size, given.get("page_token") or None)


def only(request: Request, *known: str) -> dict[str, str]:
    """The query parameters of these names; any other is refused."""
    return _query(request, known, labels=False)[0]


def parameter(*, name: str, detail: str) -> Refused:
    """400: a query parameter that cannot be used."""
    return Refused(400, "invalid-parameter", f"{name}: {detail}", parameter=name)


def after(request: Request, after: str | None = None) -> int | None:
    """The event after which a stream resumes: Last-Event-ID, which a browser sends by itself, or ?after=."""
    header = request.headers.get("last-event-id") or None
    for text in (after, header):
        if text is not None and not re.fullmatch(r"[0-9]{1,18}", text):
            detail = f"{text!r} is no event number; give the id of the last event that was read."
            raise parameter(name="after", detail=detail)
    text = after if header is None else header
    return None if text is None else int(text)


def wait(request: Request) -> float | None:
    """The seconds of `Prefer: wait=N` (RFC 7240); None without, and for what cannot be read: it is a wish only."""
    given = request.headers.getlist("prefer")
    if not given:
        return None
    for preference in ",".join(given).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait" and re.fullmatch(r"[0-9]{1,9}", value.strip(' "')):
            return min(float(value.strip(' "')), MAX_WAIT)
    return None


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key, in quotes (as the IETF's draft has it) or bare; None without."""
    given = request.headers.getlist(IDEMPOTENCY_KEY)
    if not given:
        return None
    if len(given) > 1 or not re.fullmatch(IDEMPOTENCY_KEYS, text := given[0].strip()):
        detail = "give one key of 1-255 visible ASCII characters, such as a UUID, in quotes or bare."
        raise parameter(name=IDEMPOTENCY_KEY, detail=detail)
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def known(request: Request) -> frozenset[str] | None:
    """The ETags that the caller has (If-None-Match), without what marks them as weak; None without."""
    return _tags(request, "if-none-match", weak=True)


def expected(request: Request) -> frozenset[str] | None:
    """The ETags of which the job has to have one (If-Match), "*" for any; None without."""
    return _tags(request, "if-match", weak=False)


def _tags(request: Request, header: str, *, weak: bool) -> frozenset[str] | None:
    given = request.headers.getlist(header)
    if not given:
        return None
    tags = (tag.strip() for tag in ",".join(given).split(","))
    return frozenset(tag.removeprefix("W/") if weak else tag for tag in tags)


def flag(value: str | None, name: str) -> bool:
    """A query parameter that is on or off."""
    if value in (None, "0", "false"):
        return False
    if value in ("1", "true"):
        return True
    raise parameter(name=name, detail=f"{value!r} is neither 1 nor 0.")


def page_size(value: str | None) -> int:
    """How many items a page has."""
    size = str(PAGE_SIZE[0]) if value is None else value
    if not (re.fullmatch(r"[0-9]{1,4}", size) and 1 <= int(size) <= PAGE_SIZE[1]):
        raise parameter(name="page_size", detail=f"{size!r} is out of range; give an integer from 1 to {PAGE_SIZE[1]}.")
    return int(size)


def accepted(request: Request, offered: Sequence[str]) -> str:
    """The media type, among those that are offered, that the caller likes best (RFC 9110, 12.5.1); the first of equals.

    Raises Refused (406) when it takes none of them.
    """
    header = request.headers.get("accept", "*/*")
    best = max(offered, key=lambda media: _quality(header, media))
    if _quality(header, best) == 0:
        detail = f"There is nothing of {header!r} here. Send Accept: {', or '.join(offered)}."
        raise Refused(406, "not-acceptable", detail)
    return best


def _quality(header: str, media: str) -> float:
    """The weight of a media type in an Accept header; the most specific range decides."""
    found = (-1, 0.0)
    for part in header.split(","):
        wanted, *parameters = (piece.strip().lower() for piece in part.split(";"))
        ranges = (media, media.partition("/")[0] + "/*", "*/*")
        if wanted not in ranges:
            continue
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        quality = float(weight) if re.fullmatch(r"[01](\.[0-9]{0,3})?", weight) else 1.0
        found = max(found, (-ranges.index(wanted) + len(ranges), quality))
    return found[1]


async def body(request: Request, limit: int) -> bytes:
    """The JSON body as it came, at most `limit` bytes, never more of it in memory."""
    _check_media_type(request)
    if int(request.headers.get("content-length", 0)) > limit:
        raise _too_large(limit)
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_TIME):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise _too_slow() from None
    return bytes(data)


async def small_body(request: Request, limit: int, deadlines: Deadlines) -> bytes:
    """What `body` returns, of a request that announced a few bytes of plain JSON, and that nobody has read from."""
    try:
        return await deadlines.within(BODY_TIME, _read(request.receive, limit))
    except TimeoutError:
        raise _too_slow() from None


async def _read(receive: Receive, limit: int) -> bytes:
    data, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        data += message.get("body", b"")
        if len(data) > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return data


def _too_slow() -> Refused:
    """408: the body did not come."""
    detail = f"The body did not arrive within {BODY_TIME:g} s."
    return Refused(408, "body-too-slow", detail, headers={"Connection": "close"})


def check_names(data: bytes) -> None:
    """Refuse JSON with an object in which a name stands twice: nobody could say which of the values is meant.

    Larger ones are not looked at: that would hold up all other requests for as long as tens of milliseconds.
    """
    if len(data) > SMALL_BODY:
        return
    json.loads(data, object_pairs_hook=_object, parse_int=str, parse_float=str)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(400, "malformed-json", f"The name {twice!r} stands twice in one object; give it once.")
    return found


async def fields(request: Request, checks: Mapping[str, Check], limit: int = SMALL_BODY) -> dict[str, Any]:
    """The members of a JSON object, each through its check; an empty body has none."""
    data = await body(request, limit) or b"{}"
    value = codec.decode(data)
    check_names(data)
    if not isinstance(value, dict):
        problem = Problem("", "the body is a JSON object of names and values.")
        raise invalid([problem])
    clean, problems = {}, []
    for name, item in value.items():
        if name not in checks:
            hint = f"{did_you_mean(name, checks)} (known: {', '.join(checks) or 'none'})"
            problems.append(Problem(pointer(name), f"there is no such member.{hint}"))
            continue
        try:
            clean[name] = checks[name](item)
        except ConfigError as error:
            problems.append(Problem(pointer(name), str(error).removeprefix("value: ").removeprefix(f"{name}: ")))
    if problems:
        raise invalid(problems)
    return clean


def _grace(value: Any) -> float | None:
    return None if value is None else seconds(value, "value")


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    message = f"{value!r} is neither true nor false."
    raise ConfigError(message)


def _reason(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= MAX_REASON):
        return value
    message = f"give text of at most {MAX_REASON} characters."
    raise ConfigError(message)


def _limit(value: Any) -> int | None:
    number = whole(value)
    if number is None or (isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= MOST):
        return number
    message = f"{value!r} is no limit; give an integer from 1, or null for none."
    raise ConfigError(message)


def whole(value: Any) -> Any:
    """JSON knows one kind of numbers: 616.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _rate(value: Any) -> str | None:
    if value is not None:
        pace(value, "value")
    return None if value is None else str(value)


def _keep(value: Any) -> Retention | None:
    """What `keep` is: {"age": seconds, "succeeded": count, "failed": count}, each of which may be left out."""
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() - KEEP:
        message = f"give an object of {', '.join(KEEP)}, or null for the server's own retention."
        raise ConfigError(message)
    return Retention(**{name: whole(item) for name, item in value.items() if item is not None})


def _text(most: int) -> Check:
    def check(value: Any) -> str | None:
        if value is None or (is_text(value, most) and value):
            return None if value is None else str(value)
        message = f"give text of 1-{most} characters."
        raise ConfigError(message)

    return check


def _option(name: str, *kinds: type) -> Check:
    """The check of an option that jobs have, for a value that is of one of these kinds in JSON."""

    def check(value: Any) -> Any:
        if value is None:
            message = "it cannot be lifted; leave it out to let it stay."
            raise ConfigError(message)
        number = whole(value)
        if not isinstance(number, kinds) or isinstance(number, bool):
            message = f"{value!r} is of the wrong type."
            raise ConfigError(message)
        return getattr(Options().using(**{name: number}), name)

    return check


CANCEL: dict[str, Check] = {"grace": _grace, "force": _flag, "reason": _reason}
RETRY: dict[str, Check] = {"from_checkpoint": _flag}
QUEUE: dict[str, Check] = {
    "paused": _flag,
    "by": _text(MAX_BY),
    "reason": _text(MAX_REASON),
    "concurrency": _limit,
    "rate": _rate,
    "max_size": _limit,
    "keep": _keep,
}
MOVE: dict[str, Check] = {
    "priority": _option("priority", int),
    "run_at": _option("run_at", str),
    "delay": _option("delay", int, float, str),
}


def _query(request: Request, known: Collection[str], *, labels: bool = True) -> tuple[dict[str, str], dict[str, str]]:
    given: dict[str, str] = {}
    marked: dict[str, str] = {}
    if not request.scope["query_string"]:
        return given, marked
    for name, value in request.query_params.multi_items():
        target, key = given, name
        if labels and name.startswith(LABEL):
            target, key = marked, name.removeprefix(LABEL)
        elif name not in known:
            choices = ", ".join([*known, *([f"{LABEL}NAME"] if labels else [])]) or "none"
            detail = f"There is no query parameter {name!r} here.{did_you_mean(name, known)} (known: {choices})"
            raise Refused(400, "unknown-parameter", detail, parameter=name)
        if key in target:
            raise parameter(name=name, detail="is given twice.")
        target[key] = value
    return given, marked


def _state(name: str) -> State:
    try:
        return State(name)
    except ValueError:
        hint = did_you_mean(name, [state.value for state in State])
        raise parameter(name="state", detail=f"{name!r} is no state.{hint} (states: {', '.join(State)})") from None


def _check_media_type(request: Request) -> None:
    given = request.headers.get("content-type", JSON)
    if given != JSON:
        _check_json(given)
    coding = request.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise Refused(415, "unsupported-media-type", f"The body is to be sent plain, not {coding!r}.")


def _check_json(given: str) -> None:
    kind, _, parameters = given.partition(";")
    kind = kind.strip().lower()
    charset = re.search(r"charset\s*=\s*\"?([^\";\s]+)", parameters)
    fits = kind == JSON or (kind.startswith("application/") and kind.endswith("+json"))
    if not fits or (charset and charset[1].lower() not in ("utf-8", "utf8")):
        detail = f"The body is to be JSON in UTF-8, not {given!r}. Send the header Content-Type: application/json."
        raise Refused(415, "unsupported-media-type", detail, headers={"Accept": JSON})


def _too_large(limit: int) -> Refused:
    detail = f"The body is over the limit of {limit:,} bytes. Store the data elsewhere and submit a reference to it."
    # What is still on its way is not read: the connection cannot be used again.
    return Refused(413, "payload-too-large", detail, headers={"Connection": "close"}, limit=limit)
