"""A server whose jobs go wrong, for all tests of this folder that want one."""

import shutil
import socket
import sys
from pathlib import Path

import pytest
from tests.http.serving import serving

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def metrics_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="session")
def server(tmp_path_factory, metrics_port):
    folder = tmp_path_factory.mktemp("faults")
    shutil.copy(Path(__file__).with_name("faults_app.py"), folder)
    with serving(cwd=folder, app="faults_app:lift", variables={"HEAVYLIFT_METRICS_PORT": str(metrics_port)}) as running:
        running.folder = folder
        yield running


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client
