"""Clients that others wrote: one that is generated in TypeScript from the OpenAPI document, and an EventSource.

They run with node; what they need is installed by npm from the lock file beside them.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.http.serving import events, submit, until

CLIENTS = Path(__file__).parent / "clients"
BIN = CLIENTS / "node_modules" / ".bin"
SECONDS = 240


def ran(*command, cwd=CLIENTS):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed():
    """The packages of the lock file; installed once, however many processes run the tests."""
    assert shutil.which("npm"), "these tests need Node 20 or newer, with npm"
    lock = (CLIENTS / "package-lock.json").read_bytes()
    stamp = CLIENTS / "node_modules" / ".installed"
    with (CLIENTS / ".lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != hashlib.sha256(lock).hexdigest():
            ran("npm", "ci", "--no-progress", "--no-audit", "--no-fund")
            stamp.write_text(hashlib.sha256(lock).hexdigest())


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_a_client_that_is_generated_in_typescript_has_types_and_works(installed, server, tmp_path):
    os.mkfifo(tmp_path / "gate")
    built = CLIENTS / ".built"
    shutil.rmtree(built, ignore_errors=True)
    # By default the generator takes an argument with a default for one that has to be given.
    flags = ("--default-non-nullable=false", "--output", str(built / "schema.d.ts"))
    ran(str(BIN / "openapi-typescript"), f"{server.address}/openapi.json", *flags)
    ran(str(BIN / "tsc"), "--project", ".")
    told = json.loads(ran("node", str(built / "typed.js"), server.address, str(tmp_path / "gate")))
    assert told == {
        "sum": 42,
        "titles": ["whole", "part", "whole", "part"],
        "code": "invalid-arguments",
        "pointers": ["/share"],
        "newest": True,
        "unchanged": 304,
        "stopped": "cancelled",
        "last": "end",
        "end": "text/event-stream; charset=utf-8",
    }


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_an_event_source_is_told_what_others_are_told(installed, server, client, gate):
    id = submit(client, "gated", gate=str(gate))
    until(client, id, "progress")
    command = ["node", str(CLIENTS / "follow.mjs"), server.address, id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as browser:
        assert browser.stderr.readline() == "following\n"
        ours = events(client, id)
        assert next(ours).kind == "snapshot"
        gate.write_text("open")
        rest = [(item.kind, item.seq, item.data) for item in ours]
        told = json.loads(browser.stdout.read())
    assert told["end"] == {"state": "succeeded"}
    assert told["told"][0]["kind"] == "snapshot"
    theirs = [(item["kind"], item["seq"], item["data"]) for item in told["told"] if item["kind"] != "snapshot"]
    assert [item for item in theirs if item[0] != "progress"] == [item for item in rest[:-1] if item[0] != "progress"]
