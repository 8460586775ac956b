"""Log lines: their two formats, and that nobody waits for who reads them."""

import json
import logging
import os

import pytest

from heavylift import logs
from heavylift.core.logline import ConsoleFormatter, JsonFormatter
from heavylift.settings import Settings


def record(message, *args, name="some", level=logging.WARNING, extra=None, exc_info=None):
    made = logging.getLogger(name).makeRecord(name, level, "file", 1, message, args, exc_info, extra=extra)
    made.created = 1_795_000_000.25
    return made


def test_a_json_line_has_all_of_a_record():
    bound = {}
    formatter = JsonFormatter(bound)
    bound["worker"] = "w1"  # known later than the format
    line = json.loads(formatter.format(record("%s is\nlate", "it", extra={"job": "j", "labels": {"a": "b"}})))
    assert line == {
        "timestamp": "2026-11-18T11:06:40.250000Z",
        "level": "warning",
        "logger": "some",
        "event": "it is\nlate",
        "pid": os.getpid(),
        "worker": "w1",
        "job": "j",
        "labels": {"a": "b"},
    }


def test_fields_of_others_take_no_name_that_a_line_has():
    given = {"timestamp": "never", "level": "low", "logger": "x", "event": "e", "pid": 0, "worker": "w2", "size": 1}
    line = json.loads(JsonFormatter({"worker": "w1"}).format(record("said", extra=given)))
    assert (line["timestamp"][:4], line["level"], line["logger"], line["event"]) == ("2026", "warning", "some", "said")
    assert (line["pid"], line["worker"], line["size"]) == (os.getpid(), "w1", 1)
    assert all(line[f"{name}_"] == value for name, value in given.items() if name != "size")


def test_a_traceback_is_a_field():
    try:
        int("odd")
    except ValueError as error:
        made = record("broken", exc_info=(type(error), error, error.__traceback__))
    assert json.loads(JsonFormatter().format(made))["exception"].endswith("'odd'")
    assert ConsoleFormatter().format(made).endswith("'odd'")


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object(), {("a",): 1}, "\udc80", b"x"])
def test_any_value_makes_a_line_of_json(value):
    line = JsonFormatter().format(record("odd", extra={"value": value})).encode("utf-8", "backslashreplace")
    assert "value" in json.loads(line)
    assert b"\n" not in line


def test_a_console_line_has_the_fields_that_its_text_does_not_say():
    foreign = ConsoleFormatter().format(record("first\nsecond", extra={"job": "j", "size": 3}))
    assert foreign[23:] == " WARNING some: first  job=j  size=3\nsecond"
    assert foreign[19:23] == ".250"
    own = ConsoleFormatter().format(record("job j ended", name="heavylift.worker", extra={"job": "j"}))
    assert own.endswith("heavylift.worker: job j ended")


def test_nobody_waits_for_a_reader_and_what_was_dropped_is_told():
    read, write = os.pipe()
    os.set_blocking(read, False)
    handler = logs.Lines(write)
    handler.setFormatter(JsonFormatter())
    for number in range(1000):
        handler.handle(record("line %d %s", number, "x" * 500))
    assert handler.dropped > 500
    kept = os.read(read, 2**20).decode().splitlines()
    assert len(kept) + handler.dropped == 1000
    dropped = handler.dropped
    handler.handle(record("the next one"))
    handler.handle(record("and another"))
    told, following, last = (json.loads(line)["event"] for line in os.read(read, 2**20).decode().splitlines())
    assert told == f"{dropped} log lines were dropped, as nobody read them"
    assert (following, last) == ("the next one", "and another")
    os.close(read)
    handler.handle(record("into nowhere"))
    os.close(write)


def test_a_line_that_was_cut_off_takes_no_other_with_it():
    read, write = os.pipe()
    os.set_blocking(read, False)
    handler = logs.Lines(write)
    handler.setFormatter(JsonFormatter())
    handler.handle(record("x" * 2**20))
    assert handler.dropped == 1
    assert b"\n" not in os.read(read, 2**20)
    handler.handle(record("the next one"))
    rest, *lines = os.read(read, 2**20).decode().splitlines()
    assert rest == ""
    assert [json.loads(line)["event"] for line in lines] == [
        "1 log lines were dropped, as nobody read them",
        "the next one",
    ]
    os.close(read)
    os.close(write)


def test_a_record_that_cannot_be_formatted_harms_nobody(capsys, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", True)
    read, write = os.pipe()
    handler = logs.Lines(write)
    handler.handle(record("%d", "no number"))
    assert "no number" in capsys.readouterr().err
    os.close(write)
    assert os.read(read, 100) == b""
    os.close(read)


@pytest.mark.parametrize(
    ("format_", "terminal", "json_"), [("auto", 1, 0), ("auto", 0, 1), ("json", 1, 1), ("console", 0, 0)]
)
def test_the_format_is_the_settings_or_the_terminals(monkeypatch, format_, terminal, json_):
    monkeypatch.setattr(os, "isatty", lambda _: bool(terminal))
    assert logs.is_json(Settings.load({}, log_format=format_)) == bool(json_)
