"""doctor: what keeps jobs from running is found, and told with its fix. Real conditions, made for real."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.http.serving import HEAVYLIFT

from heavylift import Heavylift
from heavylift.cli import inspection, machine
from heavylift.core.version import VERSION
from heavylift.stores.sqlite.diagnosis import file_system

# Many commands, one after the other: on a busy machine each takes seconds.
pytestmark = pytest.mark.timeout(300)

GOOD = {"program", "store", "cores", "memory", "files", "clock", "place", "schema", "file system", "locks"}
GOOD |= {"disk", "connections", "latency", "workers", "queues", "tasks"}


def found(ended):
    """The findings by their check; several of one check in a list."""
    findings = {}
    for line in ended.stdout.splitlines():
        finding = json.loads(line)
        findings.setdefault(finding["check"], []).append(finding)
    return findings


def levels(ended, check):
    return [finding["level"] for finding in found(ended)[check]]


@pytest.fixture
async def store(shell):
    """A store that is there, closed."""
    async with Heavylift(f"sqlite:///{shell.folder}/heavylift.db"):
        pass
    return shell.folder / "heavylift.db"


def test_a_machine_that_works_is_found_good_with_its_worker_and_its_hosts(working):
    assert working("submit", "add", "a=1", "--wait").returncode == 0
    ended = working("doctor", "jobs_app:lift", "--json")
    findings = found(ended)
    assert findings.keys() == GOOD
    assert ended.returncode == 0, ended.stdout
    assert "1 worker alive" in findings["workers"][0]["what"]
    assert "the largest that runs here" in findings["memory"][0]["what"]
    assert "heavylift-" in findings["connections"][0]["what"] or "python" in findings["connections"][0]["what"]
    assert all(bool(item["fix"]) == (item["level"] != "ok") for items in findings.values() for item in items)
    lines = working("doctor", "jobs_app:lift").stdout.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [
        [item["level"], item["check"]] for item in map(json.loads, ended.stdout.splitlines())
    ]


def test_it_changes_nothing_and_leaves_no_worker_behind(shell, store):
    assert shell("doctor").returncode == 0
    assert shell("workers").stdout == ""
    with sqlite3.connect(store) as connection:
        assert connection.execute("SELECT (SELECT count(*) FROM worker) + (SELECT count(*) FROM queue)").fetchone() == (
            0,
        )
    connection.close()


def test_an_application_without_a_store_yet_is_told_so_and_none_is_made(shell):
    ended = shell("doctor", "jobs_app:lift", "--json")
    assert ended.returncode == 0
    assert levels(ended, "place") == ["warn"]
    assert "create it" in found(ended)["place"][0]["fix"]
    assert not (shell.folder / "heavylift.db").exists()


def test_nothing_that_says_which_store_is_a_failure_with_its_fix(shell):
    ended = shell("doctor", "--json")
    assert ended.returncode == 1
    assert "--store URL" in found(ended)["store"][0]["fix"]
    broken = shell("doctor", "no_such_app:lift", "--json")
    assert broken.returncode == 1
    assert "There is no module 'no_such_app'" in found(broken)["store"][0]["what"]


def test_the_source_of_the_store_is_told(shell, store):
    assert "HEAVYLIFT_STORE" in shell("doctor", HEAVYLIFT_STORE=f"sqlite:///{store}").stdout
    (shell.folder / "pyproject.toml").write_text("[tool.heavylift]\nstore = 'sqlite:///heavylift.db'\n")
    assert "pyproject.toml: tool.heavylift.store" in shell("doctor").stdout


def test_a_folder_that_cannot_be_written_is_named(shell, store):
    """Mounted for reading alone: even root cannot write there."""
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    ended = unshared(script, shell.folder, *HEAVYLIFT, "doctor", "--json", "--store", f"sqlite:///{store}")
    assert ended.returncode == 1
    place = found(ended)["place"][0]
    assert (place["level"], place["what"]) == ("fail", f"{shell.folder} cannot be written")
    assert "Let this user write there" in place["fix"]


def test_a_disk_that_is_almost_full_is_named(tmp_path):
    script = 'mount -t tmpfs -o size=2m none "$1" && shift && exec "$@"'
    url = f"sqlite:///{tmp_path}/jobs.db"
    ended = unshared(script, tmp_path, *HEAVYLIFT, "doctor", "--json", "--store", url)
    assert ended.returncode == 1
    assert re.fullmatch(r"(2\.0|1\.\d) MiB free in .*", found(ended)["disk"][0]["what"])
    assert levels(ended, "disk") == ["fail"]
    assert found(ended)["file system"][0]["what"] == "tmpfs, local"


def test_a_disk_that_is_quite_full_is_a_failure_of_the_locks_too(tmp_path):
    script = 'mount -t tmpfs -o size=64k,nr_inodes=2 none "$1" && touch "$1/x" && shift && exec "$@"'
    url = f"sqlite:///{tmp_path}/jobs.db"
    ended = unshared(script, tmp_path, *HEAVYLIFT, "doctor", "--json", "--store", url)
    assert (ended.returncode, levels(ended, "locks")) == (1, ["fail"])
    assert "No space left" in found(ended)["locks"][0]["what"]


def unshared(script, *arguments):
    """A script with mounts of its own."""
    start = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
    if shutil.which("unshare") is None or subprocess.run([*start, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody have mounts of their own")
    command = [*start, "sh", "-c", script, "sh", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def test_the_kind_of_a_file_system_is_that_of_the_innermost_mount(tmp_path):
    assert file_system(tmp_path)
    assert file_system(type(tmp_path)("/proc")) == "proc"


@pytest.mark.parametrize("version", [99, 0])
def test_a_store_of_another_version_is_told_and_left_as_it_is(shell, store, version):
    with sqlite3.connect(store) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    ended = shell("doctor", "--json")
    schema = found(ended)["schema"][0]
    assert (ended.returncode, schema["level"]) == ((1, "fail") if version else (0, "warn"))
    assert schema["fix"] == ("Upgrade heavylift here." if version else "Run `heavylift migrate`.")
    assert "latency" not in found(ended)
    with sqlite3.connect(store) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)
    connection.close()


def test_a_file_that_is_no_store_is_named(shell):
    (shell.folder / "heavylift.db").write_bytes(b"no database at all, but long enough for one" * 100)
    ended = shell("doctor", "--json")
    assert (ended.returncode, levels(ended, "schema")) == (1, ["fail"])
    assert "Name another file" in found(ended)["schema"][0]["fix"]


def test_jobs_without_a_worker_fail_and_without_jobs_it_is_a_warning(shell, store):
    assert levels(shell("doctor", "--json"), "workers") == ["warn"]
    shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--delay", "1h")
    assert levels(shell("doctor", "--json"), "workers") == ["warn"]
    shell("submit", "-A", "jobs_app:lift", "add", "a=1")
    ended = shell("doctor", "--json")
    assert (ended.returncode, levels(ended, "workers")) == (1, ["fail"])
    assert "heavylift worker APP" in found(ended)["workers"][0]["fix"]


def test_a_dead_worker_is_named(shell, store):
    process = subprocess.Popen(
        [*HEAVYLIFT, "worker", "jobs_app:lift"],
        cwd=shell.folder,
        env=os.environ | {"HEAVYLIFT_LEASE": "1s", "HEAVYLIFT_BEAT": "200ms"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not shell("jobs", "--state", "running").stdout:
            shell("submit", "-A", "jobs_app:lift", "spin", "--unique", "one")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    while not (dead := [item for item in found(shell("doctor", "--json"))["workers"] if " is dead" in item["what"]]):
        pass
    [dead] = dead
    assert (dead["level"], f"({process.pid}) is dead" in dead["what"]) == ("warn", True)
    assert "gives its jobs back" in dead["fix"]


async def test_a_worker_of_another_version_and_a_queue_that_nobody_serves_are_named(shell, store):
    myself = inspection._myself()
    record = replace(myself, id="w1", hostname="box", concurrency=4, queues=("mail",), version="0.0.9")
    async with Heavylift(f"sqlite:///{store}") as lift:
        await lift.store.beat(record, 60)
        for queue in ("mail", "reports"):
            shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--queue", queue)
        ended = shell("doctor", "--json")
    assert ended.returncode == 1
    other = found(ended)["workers"][1]
    assert (other["level"], other["what"]) == ("warn", f"w1 on box ({os.getpid()}) runs 0.0.9, this is {VERSION}")
    [queue] = found(ended)["queues"]
    assert (queue["level"], queue["what"]) == ("fail", "1 job waits in reports, which no worker serves")
    assert queue["fix"] == "heavylift worker APP --queues reports"


def test_a_paused_queue_with_jobs_and_a_task_that_is_gone_are_named(shell, store):
    shell("submit", "-A", "jobs_app:lift", "add", "a=1")
    shell("queues", "pause", "default")
    (shell.folder / "newer.py").write_text(
        "from heavylift import Heavylift\nlift = Heavylift()\n@lift.task\ndef f(): ...\n"
    )
    ended = shell("doctor", "newer:lift", "--json")
    assert ended.returncode == 1
    assert found(ended)["queues"][0]["fix"].endswith("heavylift queues resume default")
    [task] = found(ended)["tasks"]
    assert (task["level"], "'add'" in task["what"]) == ("fail", True)


@pytest.mark.parametrize(("limit", "level"), [(64, "fail"), (128, "warn"), (4096, "ok")])
def test_a_limit_of_open_files_is_held_against_what_the_pool_needs(shell, limit, level):
    command = ["sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", *HEAVYLIFT, "doctor", "jobs_app:lift", "--json"]
    environment = os.environ | {"HEAVYLIFT_CONCURRENCY": "2"}
    ended = subprocess.run(command, cwd=shell.folder, env=environment, capture_output=True, text=True, check=False)
    [files] = found(ended)["files"]
    assert files["level"] == level
    assert f"limit {limit:,}" in files["what"]
    assert ("ulimit -n" in files["fix"]) == (level != "ok")


def test_the_pool_needs_no_more_files_than_is_said(shell):
    """Of a worker whose hosts all run, and of its hosts."""
    command = [*HEAVYLIFT, "worker", "jobs_app:lift", "--concurrency", "8"]
    process = subprocess.Popen(command, cwd=shell.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(8):
            shell("submit", "-A", "jobs_app:lift", "spin")
        while len(shell("jobs", "--state", "running").stdout.splitlines()) < 8:
            assert process.poll() is None
        assert len(descriptors(process.pid)) <= machine.WORKER_FILES + 8 * machine.HOST_FILES
        hosts = [child for nanny in machine._children(process.pid) for child in machine._children(nanny)]
        highest = [max(descriptors(host)) for host in hosts]
        assert len(highest) == 8
        assert max(highest) < machine.HOST_OWN_FILES
    finally:
        process.kill()
        process.wait()


def descriptors(pid):
    return [int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()]


MACHINE = machine.Machine(cpus=4, quota=None, memory=2**33, available=2**32, memory_limit=None, files=1024)


@pytest.mark.parametrize(
    ("quota", "hosts", "level"),
    [(None, 4, "ok"), (None, 16, "ok"), (None, 17, "warn"), (1.5, 4, "warn"), (1.5, 1, "ok")],
)
def test_cores_are_counted_by_affinity_and_by_quota(quota, hosts, level):
    cores = machine.Machine(4, quota, 1, 1, None, None)
    assert machine.cores(cores, hosts).level == level


@pytest.mark.parametrize(("size", "level"), [(2**28, "ok"), (900 * 2**20, "warn"), (2**31, "fail")])
def test_memory_is_held_against_all_hosts(size, level):
    finding = machine.memory(MACHINE, 4, size, "measured")
    assert finding.level == level
    if level == "fail":
        assert "--concurrency 2" in finding.fix


def test_a_cgroup_that_is_tighter_than_the_machine_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "cpu.max").write_text("50000 100000\n")
    (inner.parent / "memory.max").write_text("1000\n")
    (inner.parent / "memory.current").write_text("400\n")
    assert machine._quota(inner) == 0.5
    assert machine._memory_group(inner) == (1000, 400)
    assert machine._quota(tmp_path) is None


@pytest.mark.parametrize(
    ("wall", "drift", "newest", "level", "said"),
    [
        (1.8e9, 0.0, None, "ok", "2027"),
        (1.8e9, 0.01, 1.8e9 + 4, "ok", "2027"),
        (1.0, 0.0, None, "fail", "1970"),
        (1.8e9, -2.0, None, "warn", "went -2.00 s"),
        (1.8e9, 0.0, 1.8e9 + 60, "warn", "60 s later"),
    ],
)
def test_a_clock_is_believed_unless_something_speaks_against_it(wall, drift, newest, level, said):
    finding = machine.clock(wall, drift, newest)
    assert finding.level == level
    assert said in finding.what
