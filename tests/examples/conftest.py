import pytest
from tests.http.serving import ROOT


@pytest.fixture(autouse=True, scope="session")
def _importable():
    """Examples run in folders of their own, where they leave their stores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        yield
