"""One active import of each document, the newest wins; and an index that is built anew after changes, however many.

POST /documents/{id}/import  {"pages": 40}  →  202 {"jobId": …}, and an import of it that waits or runs is stopped
POST /documents/{id}/index   {"pages": 40}  →  202 {"jobId": …}: the one that waits, or one more beside that which runs
GET  /documents/{id}/import  →  200 {"jobId", "state", "percent", "reason"} of the newest import, 404 if there was none

Both are unique keys: `on_conflict="replace"` and `on_conflict="queue-one"`. In neither way do two jobs of a document
run at once: the next one begins when the one before has let go. The native API under /api shows what became of each:
GET /api/v1/jobs/{id}/events.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse

from examples.newest_wins.tasks import Pages, build_index, import_pages, lift
from heavylift import HeavyliftError
from heavylift.http import problems

Document = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}$")]

app = FastAPI(title="Newest wins", lifespan=lift.lifespan)


class Size(BaseModel):
    """How long a document is."""

    model_config = ConfigDict(strict=True)

    pages: Pages


@app.post("/documents/{document}/import", status_code=202)
async def start_import(document: Document, body: Size) -> dict[str, str]:
    task = import_pages.using(labels={"document": document})
    return {"jobId": (await task.submit(document, body.pages)).id}


@app.post("/documents/{document}/index", status_code=202)
async def start_index(document: Document, body: Size) -> dict[str, str]:
    return {"jobId": (await build_index.submit(document, body.pages)).id}


@app.get("/documents/{document}/import")
async def newest_import(document: Document) -> JSONResponse:
    async for job in lift.find(task="import_pages", labels={"document": document}):
        percent = job.progress.percent if job.progress else None
        reason = job.cancel.reason if job.cancel else None
        found: dict[str, Any] = {"jobId": job.id, "state": job.state, "percent": percent, "reason": reason}
        return JSONResponse(found)
    return JSONResponse({"message": f"Document {document} was never imported."}, 404)


app.add_exception_handler(HeavyliftError, problems.heavylift_error)
app.mount("/api", lift.asgi())
