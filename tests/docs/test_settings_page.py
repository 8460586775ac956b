"""docs/settings.md and the code say the same about every default; run as a program this writes the page's table."""

import ast
import inspect
import itertools
import re
from dataclasses import MISSING, fields
from pathlib import Path

from heavylift.core.options import Options
from heavylift.core.retry import Exponential, Retry
from heavylift.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
HEAD = "| setting | variable | default | |\n| --- | --- | --- | --- |\n"
ROW = re.compile(r"^\| `(\w+)` \| ([^|]*?) \| [^|]+ \|$", re.MULTILINE)


def settings_table():
    """From the fields of Settings, their defaults, and the texts below them."""
    texts = documented(Settings)
    return HEAD + "".join(
        f"| `{f.name}` | `HEAVYLIFT_{f.name.upper()}` | {shown(f.name, default_of(f))} | {texts[f.name]} |\n"
        for f in fields(Settings)
        if f.name != "origins"
    )


def default_of(f):
    return f.default if f.default is not MISSING else f.default_factory()


def documented(kind):
    body = ast.parse(inspect.getsource(kind)).body[0].body
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def shown(name, value):
    """A default as people write it."""
    if value == {}:
        return "all"
    if value == 0 and isinstance(value, float):
        return "0s"
    if isinstance(value, float):
        unit, size = next((unit, size) for unit, size in (("d", 86400), ("h", 3600), ("s", 1)) if value % size == 0)
        return f"{value / size:g}{unit}"
    if isinstance(value, int) and value >= 2**20:
        unit, size = next((unit, size) for unit, size in (("GiB", 2**30), ("MiB", 2**20)) if value % size == 0)
        return f"{value // size}{unit}"
    return str(value)


def option_defaults():
    """Of each option of a job, as the page writes them."""
    found = {}
    for f in fields(Options):
        default = default_of(f)
        if isinstance(default, Retry):
            backoff = default.backoff
            assert isinstance(backoff, Exponential)
            found["max_attempts"] = str(default.attempts)
            found["retry"] = (
                f"{default.attempts} starts, {backoff.base:g} s × {backoff.factor:g}, at most {backoff.maximum:g} s,"
                f" {'with' if backoff.jitter else 'without'} jitter"
            )
        else:
            found[f.name] = {"None": "none", "{}": "none", "()": "none"}.get(str(default)) or shown(f.name, default)
    return found


def test_the_page_has_the_settings_of_the_code_and_no_others():
    text = PAGE.read_text()
    assert settings_table() in text, "run python tests/docs/test_settings_page.py"
    assert text.count("`HEAVYLIFT_") == settings_table().count("`HEAVYLIFT_")


def test_the_page_has_the_defaults_of_all_options():
    table = PAGE.read_text().partition("## Options of a job")[2]
    assert dict(ROW.findall(table)) == option_defaults()


if __name__ == "__main__":
    PAGE.write_text(
        re.sub(r"\| setting \|.*?\n\n", lambda _: settings_table() + "\n", PAGE.read_text(), flags=re.DOTALL)
    )
