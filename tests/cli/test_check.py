"""check: what an application has, and what is wrong with it."""

import json

GOOD = """
from typing import Annotated
from pydantic import Field
from heavylift import Context, Heavylift

lift = Heavylift(imports=["more"])

@lift.task(timeout="10m", queue="reports", priority=3, labels={"tenant": "acme"})
def build(ctx: Context, rows: list[int], share: Annotated[float, Field(ge=0)] = 0.5, *, note=None) -> dict[str, int]:
    \"\"\"Build the report.

    Not shown in a list.
    \"\"\"
"""

FAULTY = """
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heavylift import Heavylift

lift = Heavylift()

class Frame:
    pass

@lift.task
def fine(a: int) -> None: ...

@lift.task
def takes(a: int, frames: list[Frame], hook: Callable[[int], int]) -> None: ...

@lift.task
def makes() -> Iterator[int]: ...

@lift.task
def unresolved(a: "Fraem") -> None: ...

@dataclass
class Page:
    frame: "Missing"

@lift.task
def zoomed(page: Page) -> None: ...
"""

TWICE = """
from heavylift import Heavylift

lift = Heavylift()

@lift.task(name="add")
def first(): ...

@lift.task(name="add")
def second(): ...
"""


def written(shell, **modules):
    for name, text in modules.items():
        (shell.folder / f"{name}.py").write_text(text)


LIMITED = """
from heavylift import Concurrency, Heavylift, Rate, Retention

lift = Heavylift()

@lift.task
def alert(job_id: str) -> None: ...

@lift.task(
    limits=[Concurrency(2, key="account:{account}"), Rate("100/min", key="crm")], fair_share="{account}",
    expires="1h", keep=Retention("2d", succeeded=10), on_exhausted=alert, memory="1GiB", fresh=True, nice=5,
)
def sync(account: int) -> None: ...
"""


def test_options_are_shown_as_people_say_them(shell):
    written(shell, limited=LIMITED)
    text = " ".join(shell("check", "limited:lift").stdout.split())
    for said in (
        "limits 2 at a time of account:{account} and 100/min of crm,",
        "fair_share {account},",
        "expires 1 h,",
        "on_exhausted alert,",
        "keep 2 d (10 succeeded),",
        "memory 1.0 GiB,",
        "nice 5, fresh yes",
    ):
        assert said in text


def test_an_application_is_listed_with_what_its_tasks_take(shell):
    written(shell, good=GOOD, more="from good import lift\n\n@lift.task\ndef other(): ...\n")
    ended = shell("check", "good:lift")
    assert (ended.returncode, ended.stderr) == (0, "")
    for text in (
        "good:lift",
        str(shell.folder / "good.py"),
        str(shell.folder / "heavylift.db"),
        "build(rows: list[int], share: float = 0.5, *, note = None) -> dict[str, int]",
        "Build the report.",
        "queue reports, attempts 3, timeout 10 min, priority 3, labels tenant=acme",
        "other()",
    ):
        assert text in ended.stdout, text
    assert "Not shown" not in ended.stdout
    assert not (shell.folder / "heavylift.db").exists()
    build, other = map(json.loads, shell("check", "good:lift", "--json").stdout.splitlines())
    assert (build["name"], build["problems"], build["options"]["timeout"]) == ("build", [], 600)
    assert build["arguments"]["properties"]["rows"]["items"] == {"type": "integer"}
    assert build["result"]["additionalProperties"] == {"type": "integer"}
    assert other["name"] == "other"


def test_each_part_of_a_signature_that_cannot_be_json_is_named(shell):
    written(shell, faulty=FAULTY)
    ended = shell("check", "faulty:lift")
    assert ended.returncode == 2
    makes, takes, hook, unresolved, zoomed, step = ended.stderr.splitlines()
    assert takes.startswith("error: Task 'takes' (faulty.py:14): its argument 'frames' cannot be read from JSON: ")
    assert "faulty.Frame" in takes
    assert "CallableSchema" in hook
    assert makes.startswith("error: Task 'makes' (faulty.py:17): its result cannot be written as JSON: ")
    assert "'Fraem' is not defined" in unresolved
    assert "its argument 'page' cannot be read from JSON: a type that one of its fields names is not there" in zoomed
    assert "pydantic models" in step
    assert "'fine'" not in ended.stderr
    assert "fine(a: int) -> None" in ended.stdout
    printed = {
        task["name"]: task for task in map(json.loads, shell("check", "faulty:lift", "--json").stdout.splitlines())
    }
    assert [len(printed[name]["problems"]) for name in ("fine", "makes", "takes", "unresolved", "zoomed")] == [
        0,
        1,
        2,
        1,
        1,
    ]
    assert printed["takes"]["arguments"] is None


def test_a_name_that_is_taken_is_named_with_its_line(shell):
    written(shell, twice=TWICE)
    ended = shell("check", "twice:lift")
    assert ended.returncode == 2
    assert ended.stderr.endswith("There is a task 'add' already; give this one another name=.\n")
    assert 'twice.py", line 9' in ended.stderr
    assert "heavylift/app.py" not in ended.stderr


def test_a_module_of_tasks_that_does_not_import_is_named(shell):
    written(shell, good=GOOD, mroe="", more="import no_such_module_at_all\n")
    broken = shell("check", "good:lift")
    assert broken.returncode == 2
    assert "Module 'more' was found, but it does not import" in broken.stderr
    assert f"working directory {shell.folder}" in broken.stderr
    assert "build(" in broken.stdout
    (shell.folder / "more.py").unlink()
    missing = shell("check", "good:lift")
    assert missing.returncode == 2
    assert "Did you mean 'mroe'?" in missing.stderr
    assert f"looked for in\n  {shell.folder}\n" in missing.stderr


def test_an_application_without_tasks_is_told_how_it_gets_some(shell):
    written(shell, bare="from heavylift import Heavylift\nlift = Heavylift()\n")
    ended = shell("check", "bare:lift")
    assert ended.returncode == 2
    assert "imports=" in ended.stderr
