"""How many jobs a second one web process takes by HTTP, durably, beside the least servers that do the same."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from benchmarks.machine import Foreign
from benchmarks.report import Line, at_least, median, say
from benchmarks.served import started
from benchmarks.workers import ROOT, environment

CONNECTIONS = 32
ROUNDS = 3
SECONDS = 3.0
BODY = {"user": 123, "path": "/data/in/image-000123.png", "size": [640, 480], "tags": ["a", "b"], "note": "x" * 100}
OURS = "ours"
PEERS = {"raw": "a bare ASGI application", "fastapi": "a FastAPI application"}
LIMITS = {"raw": 0.6, "fastapi": 2.0}


def run(*, quick: bool) -> list[Line]:
    """Interleaved rounds of all three, each on a new file, by the same client."""
    seconds = 1.0 if quick else SECONDS
    rates: dict[str, list[float]] = {name: [] for name in (OURS, *PEERS)}
    tails: dict[str, list[float]] = {name: [] for name in rates}
    for number in range(ROUNDS):
        with Foreign() as foreign:
            for name, known in rates.items():
                found = measure(name, seconds)
                known.append(found["rate"])
                tails[name].append(found["p99"])
        shown = ", ".join(f"{name} {known[-1]:,.0f}" for name, known in rates.items())
        say(f"submit_http {number + 1}/{ROUNDS}: submits/s {shown}; {foreign}")
    what, value = f"POST of a job, {CONNECTIONS} connections, one process", median(rates[OURS])
    lines = [
        Line("submit_http", what, value, "submits/s", median(rates[name]), text, at_least(LIMITS[name]))
        for name, text in PEERS.items()
    ]
    tail = Line("submit_http", "p99 of these", median(tails[OURS]), "ms", median(tails["raw"]), PEERS["raw"])
    return [*lines, tail]


def measure(name: str, seconds: float) -> dict[str, float]:
    """The client's figures for one of the servers."""
    with tempfile.TemporaryDirectory() as folder:
        if name == OURS:
            variables = {"BENCHMARK_STORE": f"sqlite:///{folder}/jobs.db", "BENCHMARK_ROLE": "api"}
            serving = started("benchmarks.served", variables)
        else:
            variables = {"PEER_APP": name, "PEER_FILE": f"{folder}/jobs.db"}
            serving = started("benchmarks.peers.http_apps", variables)
        with serving as port:
            return posted(port, "/v1/tasks/resize/jobs", seconds)


def posted(port: int, path: str, seconds: float) -> dict[str, float]:
    """Load a server, by a client in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.posting", str(port), path, str(CONNECTIONS), str(seconds)]
    body = json.dumps(BODY).encode()
    done = subprocess.run(command, env=environment(), cwd=ROOT, check=True, capture_output=True, input=body)
    found: dict[str, float] = json.loads(done.stdout)
    return found
