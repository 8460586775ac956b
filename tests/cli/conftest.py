import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.http.serving import HEAVYLIFT, serving

APPLICATION = Path(__file__).parents[1] / "http" / "jobs_app.py"


@dataclass
class Shell:
    """A folder in which commands are typed."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments, **environment):
        return subprocess.run(
            [*HEAVYLIFT, *arguments],
            cwd=self.folder,
            env=os.environ | self.settings | environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )


@pytest.fixture
def shell(tmp_path):
    """A folder with the application jobs_app, and no store yet."""
    shutil.copy(APPLICATION, tmp_path)
    return Shell(tmp_path)


@pytest.fixture(scope="module")
def working(tmp_path_factory):
    """A folder with the application, its store, and a worker."""
    folder = tmp_path_factory.mktemp("working")
    shutil.copy(APPLICATION, folder)
    with serving("--concurrency", "2", cwd=folder):
        yield Shell(folder, {"HEAVYLIFT_APP": "jobs_app:lift"})
