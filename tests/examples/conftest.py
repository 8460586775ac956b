import pytest
from tests.http.serving import ROOT, started

READY = r"Uvicorn running on (\S+)"


@pytest.fixture(autouse=True, scope="module")  # not longer: it reaches all that is started
def _importable():
    """Examples run in folders of their own, where they leave their stores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture(scope="module")
def running(request):
    """Starts the example, by the COMMAND of the test's module, in a folder."""
    return lambda folder: started(request.module.COMMAND, cwd=folder, ready=READY)


@pytest.fixture(scope="module")
def example(running, tmp_path_factory):
    """One that runs for all tests of the module."""
    with running(tmp_path_factory.mktemp("example")) as server:
        yield server


@pytest.fixture
def client(example):
    """Its own routes."""
    with example.client() as client:
        yield client


@pytest.fixture
def native(example):
    """Heavylift's routes below it."""
    with example.client("/api") as client:
        yield client
