"""What worker, nanny and hosts say to each other: messages, frames, and the page that a worker shares with a host.

A *packet* travels through a SOCK_SEQPACKET socket: whole or not at all. The worker's requests to a host are packets,
so the kernel decides who gets one: the host, when it is ready to start it, or the worker, which takes back what was
not started. A *message* is a packet of JSON, between worker and nanny. A *frame* is a header and a body in the stream
from a host to the worker; the other way it has only the numbers of turns that have come (`Kind.RESERVE`).
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import signal
import socket
import struct
from array import array
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from heavylift.core import codec
from heavylift.core.job import Job

STOP_SIGNAL = signal.SIGRTMIN + 3
"""Asks a host to look at its page: is the run that it runs to be stopped?"""
STACK_SIGNAL = signal.SIGRTMIN + 4
"""Has a handler in C write where Python is, whatever has the interpreter."""
LOOK_SIGNAL, NUDGE_SIGNAL = signal.SIGRTMIN + 5, signal.SIGRTMIN + 6
"""Ask a host to look at its page: where is the code of the run that is named there? The second one ends a wait for a
lock, too, after which the first one alone would be heard.
"""
HIGH_DESCRIPTORS = 64
"""A host keeps its own descriptors from here on, out of the way of code that closes what it did not open."""
CLOSED_BY_TASK = 97
"""Exit code of a host that found its own descriptors closed."""
COULD_NOT_START = 98
"""Exit code of a host whose start hooks failed."""
OUT_OF_DESCRIPTORS = 99
"""Exit code of a host that had no descriptor left to receive a request by."""

SPACING = 0.05
"""Seconds between two frames of a run's progress, or of its lines; in between the page holds what is new."""
INLINE = 60 * 1024
"""Larger messages travel beside the packet, in a memfd: a socket's buffer would refuse them."""
_PLAIN, _BESIDE, STOP_PACKET = 0, 1, 2
"""The first byte of a packet. STOP_PACKET, with the number of a run, asks a shared host to stop that run."""
_DESCRIPTOR = struct.calcsize("i")


class Kind(IntEnum):
    """What a frame says."""

    READY = 0
    BROKEN = 1
    """The host cannot start; the body says why."""
    PROGRESS = 2
    CHECKPOINT = 3
    LOG = 4
    RESERVE = 5
    """Code waits for the next free place in a rate: NUMBERED, and as JSON the rate's key and text. When it is due, the
    worker sends the same number back through the stream.
    """
    # Answers from here on; their body begins with a USAGE.
    SUCCEEDED = 8
    FAILED = 9
    CANCELLED = 10
    SNOOZED = 11


HEADER = struct.Struct("<IBBxxQ")
"""Length of the body, kind, flags, number of the run."""
USAGE = struct.Struct("<ddQ")
"""Wall and CPU seconds, peak resident bytes (0: not measured)."""
NUMBERED = struct.Struct("<Q")
"""Before the body of PROGRESS: its number; of LOG: the number of its first line, and how many were dropped; of RESERVE:
the turn's."""
SIGHTING = struct.Struct("<QQ")
"""Before the interpreter's description of where a run is: the number of the question, and its length in bytes."""
SIGHTING_AT, SIGHTING_ROOM = 128 * 1024, 64 * 1024
"""Where it stands in the file for stacks, behind what the handler in C writes; and its length at most."""
LAST = 1
"""Flag of an answer: the host goes after it."""
NOT_STARTED = 2
"""Flag of CANCELLED: the stop came before the task's code."""

_NUMBER = struct.Struct("<BQ")
NUMBER_SIZE = _NUMBER.size
_REQUEST = struct.Struct("<BQIIQHHIiIQIB")


class Limits(NamedTuple):
    """What the kernel limits for one job; 0: nothing. `nice` is added."""

    address_space: int
    open_files: int
    nice: int


class Request(NamedTuple):
    """One attempt as a host needs it. `number` is the run's, unique in the worker's life."""

    number: int
    job: str
    task: str
    attempt: int
    failures: int
    log_bytes: int
    args: bytes
    checkpoint: bytes | None
    labels: bytes
    """As JSON; empty when there are none."""
    limits: Limits | None


def pack_request(number: int, job: Job) -> bytes:
    """A claimed job as the bytes of a request."""
    name, task, checkpoint = job.id.encode(), job.task.encode(), job.checkpoint
    args, kept = job.args, -1 if checkpoint is None else len(checkpoint)
    options = job.options
    labels = codec.encode(dict(options.labels)) if options.labels else b""
    header = _REQUEST.pack(
        *(_PLAIN, number, job.attempt, job.failures, job.log_bytes),
        *(len(name), len(task), len(args), kept, len(labels)),
        *(options.address_space or 0, options.open_files or 0, options.nice),
    )
    return b"".join((header, name, task, args, labels, checkpoint or b""))


def stop_packet(number: int) -> bytes:
    """The packet that asks a shared host to stop a run."""
    return _NUMBER.pack(STOP_PACKET, number)


def number_of(packet: bytes) -> int:
    """The run's number in a request, or a stop, of which only the first NUMBER_SIZE bytes need to be there."""
    number: int = _NUMBER.unpack_from(packet)[1]
    return number


def unpack_request(data: bytes) -> Request:
    """The inverse of `pack_request`."""
    header = _REQUEST.unpack_from(data)
    _, number, attempt, failures, log_bytes, name, task, args, checkpoint, labels, *limits = header
    at_name = _REQUEST.size
    at_task = at_name + name
    at_args = at_task + task
    at_labels = at_args + args
    at_checkpoint = at_labels + labels
    return Request(
        number,
        data[at_name:at_task].decode(),
        data[at_task:at_args].decode(),
        attempt,
        failures,
        log_bytes,
        data[at_args:at_labels],
        None if checkpoint < 0 else data[at_checkpoint : at_checkpoint + checkpoint],
        data[at_labels:at_checkpoint],
        Limits(*limits) if any(limits) else None,
    )


def send_packet(to: socket.socket, packet: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send a packet, beside the socket if it is large; raises BlockingIOError when a non-blocking socket is full.

    Its first byte is 0; a request's first NUMBER_SIZE bytes pass through the socket in any case.
    """
    if len(packet) <= INLINE:
        if descriptors:
            _send_with(to, packet, descriptors)
        else:
            to.send(packet)
        return
    beside = os.memfd_create("heavylift", os.MFD_CLOEXEC)
    try:
        with os.fdopen(beside, "wb", closefd=False) as file:
            file.write(packet)
        _send_with(to, bytes([_BESIDE]) + packet[1:NUMBER_SIZE], (beside, *descriptors))
    finally:
        os.close(beside)


def receive_packet(source: socket.socket) -> tuple[bytes, list[int]] | None:
    """A packet and its descriptors, which are the caller's to close; None at the end of file.

    Raises OSError, with EMFILE when this process had no descriptor left to receive a large one by.
    """
    try:
        packet, ancillary, _, _ = source.recvmsg(INLINE, 128, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None  # the other side died before it had read all that it was sent
    if not packet:
        return None
    descriptors = _descriptors(ancillary) if ancillary else []
    if packet[0] != _BESIDE:
        return packet, descriptors
    if not descriptors:
        raise OSError(errno.EMFILE, "A packet is lost: this process has no descriptor left to receive it by.")
    beside = descriptors.pop(0)
    os.lseek(beside, 0, os.SEEK_SET)
    with os.fdopen(beside, "rb") as file:
        return file.read(), descriptors


def exit_code_of(error: OSError) -> int:
    """With what a host ends that cannot receive any more."""
    return OUT_OF_DESCRIPTORS if error.errno == errno.EMFILE else CLOSED_BY_TASK


def send_message(to: socket.socket, message: Mapping[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """Send a message as JSON."""
    send_packet(to, b"\0" + json.dumps(message).encode(), descriptors)


def receive_message(source: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The inverse of `send_message`; None at the end of file."""
    received = receive_packet(source)
    if received is None:
        return None
    packet, descriptors = received
    return json.loads(packet[1:]), descriptors


def _send_with(to: socket.socket, data: bytes, descriptors: tuple[int, ...]) -> None:
    to.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))])


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % _DESCRIPTOR])
    return list(found)


class Page:
    """Memory that a worker shares with one host.

    `started` is the number of the run that the host took on and has not answered, or 0; `stop` the number of the run
    that is to stop. Each is written by one side alone, in one store. Besides: when the run started (monotonic clock)
    and the CPU time of the host at that moment, the latest progress, and log lines that were not sent yet. Of a shared
    host: how many requests it received, when its loop came round, the run of which it runs a step, and which thread
    runs what. The worker also writes a question there: where is the code of a run?
    """

    SIZE = 5 * 4096
    _STARTED, _STOP, _DROPPED = 0, 1, 2
    _STARTED_AT, _CPU_AT_START = 3, 4
    _RECEIVED, _BEAT_AT, _STEPPING = 5, 6, 7
    _QUESTION = 12  # and the word behind it
    _TELLS, _CPU_BELOW = 14, 15
    _PROGRESS, _LINES = 8, 16  # where the heads of the two areas begin, in words
    _PROGRESS_DATA, _LINES_DATA = 256, 4096  # where their data begin, in bytes
    PROGRESS_ROOM, LINES_ROOM = 3 * 1024, 4 * 4096
    _THREADS, THREADS_ROOM = 32, 1024  # in words and in threads; a shared host has no use for the two areas

    def __init__(self, memory: int) -> None:
        self._map = mmap.mmap(memory, self.SIZE)
        self._words = memoryview(self._map).cast("Q")
        self._floats = memoryview(self._map).cast("d")

    @classmethod
    def create(cls) -> tuple[Page, int]:
        """A new page, and the memfd by which another process maps it."""
        memory = os.memfd_create("heavylift-page", os.MFD_CLOEXEC)
        try:
            os.ftruncate(memory, cls.SIZE)
            return cls(memory), memory
        except BaseException:
            os.close(memory)
            raise

    @property
    def started(self) -> int:
        """The run that the host took on and has not answered."""
        return self._words[self._STARTED]

    @property
    def stop(self) -> int:
        """The run that is to stop."""
        return self._words[self._STOP]

    @stop.setter
    def stop(self, number: int) -> None:
        self._words[self._STOP] = number

    @property
    def tells(self) -> bool:
        """Whether the run that is to stop tells where it was: its stop is a failure."""
        return bool(self._words[self._TELLS])

    @tells.setter
    def tells(self, wanted: bool) -> None:
        self._words[self._TELLS] = wanted

    @property
    def dropped(self) -> int:
        """Lines of the started run's log that were beyond its limit."""
        return self._words[self._DROPPED]

    @dropped.setter
    def dropped(self, count: int) -> None:
        self._words[self._DROPPED] = count

    @property
    def started_at(self) -> float:
        """When the started run started, on the monotonic clock."""
        return self._floats[self._STARTED_AT]

    @property
    def cpu_at_start(self) -> float:
        """The CPU time that the host had taken then."""
        return self._floats[self._CPU_AT_START]

    @property
    def cpu_below(self) -> float:
        """CPU seconds of the host's children that were over before the started run."""
        return self._floats[self._CPU_BELOW]

    @cpu_below.setter
    def cpu_below(self, seconds: float) -> None:
        self._floats[self._CPU_BELOW] = seconds

    @property
    def received(self) -> int:
        """How many requests a shared host has received."""
        return self._words[self._RECEIVED]

    @received.setter
    def received(self, count: int) -> None:
        self._words[self._RECEIVED] = count

    @property
    def beat_at(self) -> float:
        """When a shared host's loop last came round while it had something to run, on the monotonic clock."""
        return self._floats[self._BEAT_AT]

    @beat_at.setter
    def beat_at(self, moment: float) -> None:
        self._floats[self._BEAT_AT] = moment

    @property
    def stepping(self) -> int:
        """The run of whose coroutine a shared host's loop runs a step now, or 0."""
        return self._words[self._STEPPING]

    @stepping.setter
    def stepping(self, number: int) -> None:
        self._words[self._STEPPING] = number

    @property
    def question(self) -> tuple[int, int]:
        """The number of the worker's last question, and of the run that it is about."""
        return self._words[self._QUESTION], self._words[self._QUESTION + 1]

    def ask(self, question: int, run: int) -> None:
        """The worker wants to know where a run is; a signal follows."""
        self._words[self._QUESTION], self._words[self._QUESTION + 1] = question, run

    def note_thread(self, place: int, run: int, thread: int) -> None:
        """In a shared host: a thread (`place` counts them) begins a run."""
        if place < self.THREADS_ROOM:
            at = self._THREADS + 2 * place
            self._words[at], self._words[at + 1] = run, thread

    def thread_of(self, run: int) -> int | None:
        """The identifier of the thread that has begun a run last, in a shared host."""
        words = self._words[self._THREADS : self._THREADS + 2 * self.THREADS_ROOM]
        return next((words[at + 1] for at in range(0, len(words), 2) if words[at] == run), None)

    def start(self, number: int, at: float, cpu: float) -> None:
        """The host takes on a run."""
        words, floats = self._words, self._floats
        floats[self._STARTED_AT] = at
        floats[self._CPU_AT_START] = cpu
        words[self._DROPPED] = 0
        words[self._STARTED] = number

    def clear(self) -> None:
        """The host has answered."""
        self._words[self._STARTED] = 0

    def write_progress(self, run: int, number: int, data: bytes) -> None:
        """The latest progress, at most PROGRESS_ROOM bytes; `number` grows with each."""
        self._write(self._PROGRESS, self._PROGRESS_DATA, (run, number, len(data)), 0, data)

    def read_progress(self) -> tuple[int, int, bytes] | None:
        """(run, number, data) of the latest progress; None while it is written."""
        return self._read(self._PROGRESS, self._PROGRESS_DATA)

    def write_lines(self, run: int, first: int, length: int, added: bytes) -> None:
        """Log lines that were not sent yet, at most LINES_ROOM bytes: `added` goes behind the `length` bytes there."""
        self._write(self._LINES, self._LINES_DATA, (run, first, length + len(added)), length, added)

    def read_lines(self) -> tuple[int, int, bytes] | None:
        """(run, number of the first line, lines); None while they are written."""
        return self._read(self._LINES, self._LINES_DATA)

    def _write(self, head: int, data_at: int, values: tuple[int, int, int], offset: int, data: bytes) -> None:
        words = self._words
        version = words[head] | 1  # odd: being written (a writer that was interrupted left it odd)
        words[head] = version
        words[head + 1], words[head + 2], words[head + 3] = values
        begin = data_at + offset
        self._map[begin : begin + len(data)] = data
        words[head] = version + 1

    def _read(self, head: int, data_at: int) -> tuple[int, int, bytes] | None:
        words = self._words
        version = words[head]
        run, number, length = words[head + 1], words[head + 2], words[head + 3]
        data = self._map[data_at : data_at + length]
        if version % 2 or words[head] != version:
            return None
        return run, number, data

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        self._floats.release()
        self._map.close()
