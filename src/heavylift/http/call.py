"""One request on its way through a handler, and the answers that handlers make of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from starlette.responses import Response

from heavylift.http import render
from heavylift.outlook import Outlook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from heavylift.client import Client
    from heavylift.core.job import Job
    from heavylift.http.service import Service


@dataclass(frozen=True, slots=True)
class Call:
    """A request, the service that it came to, and `base`: where the paths of the resources begin, such as "/v1"."""

    service: Service
    request: Request
    base: str

    @property
    def client(self) -> Client:
        """The verbs on the store."""
        return self.service.client

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def job(self, job: Job, outlook: Outlook) -> dict[str, Any]:
        """The job resource."""
        return render.job(job, self.base, outlook)

    async def outlook(self, job: Job) -> Outlook:
        """What is to be expected of a job."""
        return (await self.client.outlook([job])).get(job.id, Outlook())


Answering = Callable[[Call], Awaitable[Response]]


class Prepared(Response):
    """An answer whose headers and body are bytes already."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status_code, self.raw_headers, self.body, self.background = status, headers, body, None


def base_of(request: Request, path: str) -> str:
    """What stands before `path`, an operation's own path, in the address of this request.

    Routers and applications may be mounted and included anywhere, so the request alone tells.
    """
    whole, root = str(request.scope["path"]), str(request.scope.get("root_path", ""))
    before = whole.rsplit("/", path.count("/"))[0]
    # A proxy may have cut the root off the path (RFC 3875 has them apart, ASGI together).
    return before if before.startswith(root) else root + before


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(to_json(body), status, headers=headers, media_type="application/json")


def tag(job: Job) -> str:
    """The job's ETag: the number of its last event."""
    return f'"{job.seq}"'


def polling(call: Call, job: Job, outlook: Outlook) -> dict[str, str]:
    """The headers by which who polls a job knows what it has, and when a look is worth it again."""
    again = {} if job.state.final else {"Retry-After": str(render.retry_after(job, outlook, call.client.now()))}
    return {"ETag": tag(job)} | again


def applied(wait: float | None) -> dict[str, str]:
    """The header that says that a wish to wait was heard (RFC 7240)."""
    return {} if wait is None else {"Preference-Applied": f"wait={wait:g}"}
