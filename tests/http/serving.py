"""Starts `heavylift serve` as users do, and talks to it."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[2]
HEAVYLIFT = [sys.executable, "-c", "from heavylift.cli import main; main()"]
START_TIME = 30
NONE: Mapping[str, str] = {}


class Server:
    """A server's process, what it has said on stderr, and where it listens.

    `variables` are its alone: what stood in the environment of the tests, as long as a server of a whole folder lives,
    would reach all that other tests start meanwhile.
    """

    def __init__(self, command: list[str], cwd: Path, ready: str, variables: Mapping[str, str] = NONE) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | variables,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.said: list[str] = []
        self.address = ""
        self._ready = re.compile(ready)
        self._heard = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._heard.wait(START_TIME)

    def client(self, root: str = "", connections: int = 100) -> httpx2.Client:
        limits = httpx2.Limits(max_connections=connections)
        return httpx2.Client(base_url=self.address + root, timeout=30, limits=limits)

    def stop(self) -> int:
        """Ask it to end; its exit code, when all that it said was heard."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            # Its worker and hosts write there, too: while one of them lives, the end does not come.
            self._listener.join(START_TIME)
            assert not self._listener.is_alive(), "some of its processes outlived it"

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.said.append(line)
                if found := self._ready.search(line):
                    self.address = found[1]
                    self._heard.set()
        self._heard.set()


@contextlib.contextmanager
def serving(
    *arguments: str, cwd: Path, app: str = "jobs_app:lift", variables: Mapping[str, str] = NONE
) -> Iterator[Server]:
    """`heavylift serve APP --port 0 …` until the block ends."""
    command = [*HEAVYLIFT, "serve", app, "--port", "0", *arguments]
    with started(command, cwd=cwd, ready=r"Heavylift serves (http://[^\s\"]+)", variables=variables) as server:
        yield server


@contextlib.contextmanager
def started(command: list[str], *, cwd: Path, ready: str, variables: Mapping[str, str] = NONE) -> Iterator[Server]:
    """The process of a command that says on stderr where it serves, when it does."""
    server = Server(command, cwd, ready, variables)
    try:
        assert server.address, "".join(server.said)
        yield server
    finally:
        server.stop()


@dataclass(frozen=True)
class Sent:
    """One server-sent event."""

    kind: str
    data: Any
    seq: int | None


def events(client: httpx2.Client, job: str, after: int | None = None, query: int | None = None) -> Iterator[Sent]:
    """The events of a job as they come, until the server ends the stream."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    params = {} if query is None else {"after": query}
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
