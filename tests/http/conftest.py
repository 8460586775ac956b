import os
from pathlib import Path

import pytest
from tests.http.serving import Server, serving

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server for the tests that do not stop it."""
    folder = tmp_path_factory.mktemp("server")
    settings = ("--store", "sqlite:///jobs.db", "--concurrency", "2")
    with serving(*settings, cwd=folder, variables={"PYTHONPATH": HERE}) as found:
        yield found


@pytest.fixture
def client(server: Server):
    with server.client() as found:
        yield found


@pytest.fixture
def gate(tmp_path):
    """A FIFO: who reads it waits until somebody writes."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path
