"""Starts `heavylift serve` as users do, and talks to it."""

import contextlib
import json
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[2]
HEAVYLIFT = [sys.executable, "-c", "from heavylift.cli import main; main()"]
START_TIME = 30


@dataclass
class Server:
    """A server's process, and where it listens."""

    process: subprocess.Popen[str]
    address: str

    def client(self, root: str = "") -> httpx2.Client:
        return httpx2.Client(base_url=self.address + root, timeout=30)


@contextlib.contextmanager
def serving(*arguments: str, cwd: Path, app: str = "jobs_app:lift") -> Iterator[Server]:
    """`heavylift serve APP --port 0 …` until the block ends."""
    command = [*HEAVYLIFT, "serve", app, "--port", "0", *arguments]
    with started(command, cwd=cwd, ready=r"Heavylift serves (\S+)") as server:
        yield server


@contextlib.contextmanager
def started(command: list[str], *, cwd: Path, ready: str) -> Iterator[Server]:
    """The process of a command that says on stderr where it serves, when it does."""
    with (cwd / "server.log").open("w+") as log:
        process = subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, stdout=log, text=True)
        try:
            yield Server(process, _address(process, ready))
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=30)


def _address(process: subprocess.Popen[str], ready: str) -> str:
    said = ""
    assert process.stderr is not None
    while select.select([process.stderr], [], [], START_TIME)[0]:
        line = process.stderr.readline()
        said += line
        if not line:
            break
        if found := re.search(ready, line):
            return found[1]
    process.kill()
    message = f"the server did not start: {said}"
    raise AssertionError(message)


@dataclass(frozen=True)
class Sent:
    """One server-sent event."""

    kind: str
    data: Any
    seq: int | None


def events(client: httpx2.Client, job: str, after: int | None = None, **params: Any) -> Iterator[Sent]:
    """The events of a job as they come, until the server ends the stream."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with client.stream("GET", f"/v1/jobs/{job}/events", headers=headers, params=params) as response:
        response.raise_for_status()
        yield from parsed(response.iter_lines())


def parsed(lines: Iterator[str]) -> Iterator[Sent]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "event" in fields:
            seq = int(fields["id"]) if "id" in fields else None
            yield Sent(fields["event"], json.loads(fields["data"]), seq)
        fields = {}


def submit(client: httpx2.Client, task: str, *, params: dict[str, Any] | None = None, **arguments: Any) -> str:
    """Queue a job; its id."""
    response = client.post(f"/v1/tasks/{task}/jobs", json=arguments, params=params)
    assert response.status_code == 202, response.text
    return response.json()["id"]


def finished(client: httpx2.Client, job: str) -> dict[str, Any]:
    """The job resource when it is over."""
    assert list(events(client, job))[-1].kind == "end"
    return client.get(f"/v1/jobs/{job}").json()


def until(client: httpx2.Client, job: str, kind: str) -> Sent:
    """Waits for the first event of a kind."""
    return next(item for item in events(client, job, after=0) if item.kind == kind)
