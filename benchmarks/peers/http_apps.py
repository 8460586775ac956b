"""The least servers that take a job by HTTP: validate the JSON, insert a row into SQLite, answer 202 with its number.

`PEER_APP=raw|fastapi PEER_FILE=… python -m benchmarks.peers.http_apps` serves one with uvicorn, on a port that is free;
its address goes to standard output when it answers.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import time
from typing import Annotated, Any

import uvicorn

TABLE = """
CREATE TABLE IF NOT EXISTS job(id INTEGER PRIMARY KEY, queue TEXT NOT NULL, task TEXT NOT NULL, state INT NOT NULL,
 priority INT NOT NULL, run_at REAL NOT NULL, attempts INT NOT NULL DEFAULT 0, payload BLOB, created REAL);
CREATE INDEX IF NOT EXISTS job_ready ON job(queue, priority, run_at) WHERE state = 0;
"""
INSERT = "INSERT INTO job(queue, task, state, priority, run_at, payload, created) VALUES (?, ?, 0, ?, ?, ?, ?)"


def opened(path: str) -> sqlite3.Connection:
    """The file, as durable as ours: it survives the death of any process."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")
    connection.executescript(TABLE)
    return connection


def raw(connection: sqlite3.Connection) -> Any:
    """A bare ASGI application, with msgspec."""
    import msgspec  # noqa: PLC0415  each pays for its own

    class Arguments(msgspec.Struct, forbid_unknown_fields=True):
        user: int
        path: str
        size: tuple[int, int]
        tags: list[str] = []
        note: str = ""

    decode, encode = msgspec.json.Decoder(Arguments).decode, msgspec.json.encode
    kind = (b"content-type", b"application/json")

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        payload, now = encode(decode(body)), time.time()
        number = connection.execute(INSERT, ("default", "resize", 0, now, payload, now)).lastrowid
        answer = b'{"id":%d}' % (number or 0)
        head = [kind, (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 202, "headers": head})
        await send({"type": "http.response.body", "body": answer})

    return app


def fastapi(connection: sqlite3.Connection) -> Any:
    """A FastAPI application as its documentation has it."""
    from fastapi import Body, FastAPI  # noqa: PLC0415
    from pydantic import BaseModel  # noqa: PLC0415

    class Arguments(BaseModel):
        user: int
        path: str
        size: tuple[int, int]
        tags: list[str] = []
        note: str = ""

    class Accepted(BaseModel):
        id: int

    app = FastAPI()

    async def submit(arguments: Any) -> Any:
        payload, now = arguments.model_dump_json().encode(), time.time()
        return Accepted(id=connection.execute(INSERT, ("default", "resize", 0, now, payload, now)).lastrowid or 0)

    submit.__annotations__ = {"arguments": Annotated[Arguments, Body()], "return": Accepted}
    app.post("/{path:path}", status_code=202)(submit)
    return app


if __name__ == "__main__":
    chosen = {"raw": raw, "fastapi": fastapi}[os.environ["PEER_APP"]](opened(os.environ["PEER_FILE"]))
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    lifespan: Any = "off"
    config = uvicorn.Config(chosen, lifespan=lifespan, log_level="warning", access_log=False)
    uvicorn.Server(config).run([listener])
    sys.exit(0)
