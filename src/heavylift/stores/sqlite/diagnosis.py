"""What is good and bad about the file of a store, and the place where it is. Nothing of the store is changed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from heavylift.core.errors import HeavyliftError, SchemaTooNew
from heavylift.core.finding import Finding, fail, ok, warn
from heavylift.stores.sqlite import schema
from heavylift.stores.sqlite.connection import translated
from heavylift.stores.sqlite.url import Location

NETWORK = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "gfs2"),
        *("glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "vboxsf", "virtiofs"),
    }
)
"""File systems on which locks or the shared memory of the log may not hold between machines."""
KIB, MIB = 2**10, 2**20
FEW_BYTES, LITTLE_BYTES = 64 * MIB, 512 * MIB
"""Free space that fails, and that is worth a warning: the log of a burst takes 64 MiB alone."""
LOCAL_DISK = "Put the file on a local disk; for several machines use another kind of store."


def diagnose(location: Location) -> list[Finding]:
    """The findings; the checks `place` and `schema` say whether the store can be opened as it is."""
    path = Path(location.path)
    if not location.path:
        return [ok("place", "in memory, until this process ends")]
    place = _place(path)
    found = [place]
    if place.level != "fail":
        found += [_schema(path), _file_system(path), _locks(path.parent), _disk(path.parent), _connections(path)]
    return found


def _place(path: Path) -> Finding:
    folder = path.parent
    if not folder.is_dir():
        return fail("place", f"there is no folder {folder}", f"Create it: mkdir -p {folder}")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return fail("place", f"{folder} cannot be written", "Let this user write there, or mount it for writing.")
    if not path.exists():
        step = "`heavylift serve` and `heavylift submit` create it; is this the right folder?"
        return warn("place", f"there is no file {path} yet", step)
    run = Path(f"{path}-run")
    for one in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), run, run / "gate", run / "data"):
        if one.exists() and not os.access(one, os.R_OK | os.W_OK):
            return fail("place", f"{one} cannot be written", f"Let this user write it: {_owner(one)} owns it.")
    return ok("place", f"{path} ({_size(path.stat().st_size)}) can be written")


def _owner(path: Path) -> str:
    with suppress(KeyError, OSError):
        return path.owner()
    return "another user"


def _schema(path: Path) -> Finding:
    if not path.exists() or not path.stat().st_size:
        return ok("schema", f"{len(schema.MIGRATIONS)} will be created")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)) as connection:
            version = schema.version(connection)
    except SchemaTooNew as error:
        return fail("schema", str(error).partition(": ")[0] + ", a newer one", "Upgrade heavylift here.")
    except (sqlite3.Error, HeavyliftError) as error:
        what, _, step = str(translated(error, str(path))).rpartition(": ")
        return fail("schema", what, step[:1].upper() + step[1:])
    if version < len(schema.MIGRATIONS):
        return warn("schema", f"{version}, this version has {len(schema.MIGRATIONS)}", "Run `heavylift migrate`.")
    return ok("schema", f"{version}, up to date")


def _file_system(path: Path) -> Finding:
    kind = file_system(path.parent)
    if kind in NETWORK:
        return warn("file system", f"{kind}, over a network: SQLite's locks may not hold there", LOCAL_DISK)
    return ok("file system", f"{kind or 'unknown'}, local")


def file_system(folder: Path) -> str:
    """The kind of file system that a folder is on, as the kernel calls it."""
    best, kind = -1, ""
    target = folder.resolve()
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            before, _, after = line.partition(" - ")
            mounted = Path(before.split()[4].replace("\\040", " "))
            # Of mounts on the same place, the last one is what is seen.
            if target.is_relative_to(mounted) and len(mounted.parts) >= best:
                best, kind = len(mounted.parts), after.split()[0]
    return kind


def _locks(folder: Path) -> Finding:
    """Whether the locks that turns and SQLite need work there, tried on a file of our own."""
    try:
        with (
            tempfile.NamedTemporaryFile(dir=folder, prefix=".heavylift-") as first,
            Path(first.name).open("rb+") as second,
        ):
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(first, fcntl.LOCK_UN)
            else:
                return fail("locks", "two locks of one file were given at the same time", LOCAL_DISK)
            fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return fail("locks", f"no file can be made in {folder} ({error.strerror})", "Free some space.")
        return fail("locks", f"files in {folder} cannot be locked ({error.strerror})", LOCAL_DISK)
    return ok("locks", "files can be locked")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    what = f"{_size(free)} free in {folder}"
    if free < FEW_BYTES:
        return fail(
            "disk", what, "Free some space, before writes fail; `heavylift prune --older-than 1d` lets go of jobs."
        )
    if free < LITTLE_BYTES:
        return warn("disk", what, "Free some space; `heavylift prune --older-than 1d` lets go of jobs.")
    return ok("disk", what)


def _connections(path: Path) -> Finding:
    """An SQLite file has no budget of connections, but who has it open explains much."""
    names = [f"{name} ({pid})" for pid, name in users(path)]
    if not names:
        return ok("connections", "open in no other process")
    count = "1 other process" if len(names) == 1 else f"{len(names)} other processes"
    return ok("connections", f"open in {count}: {', '.join(sorted(names))}")


def users(path: Path) -> Iterator[tuple[int, str]]:
    """The other processes that have the file open, as far as this user may see them: pid and name."""
    with suppress(OSError):
        wanted = path.stat()
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid() and _has_open(process, wanted):
                yield int(process.name), (process / "comm").read_text(encoding="utf-8", errors="replace").strip()


def _has_open(process: Path, wanted: os.stat_result) -> bool:
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                there = descriptor.stat()
                if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return True
    return False


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < KIB:
            return f"{number:.{0 if unit == 'B' else 1}f} {unit}"
        number /= KIB
    return f"{number:.1f} TiB"
