"""What all tests share: the real data sets, where they are present."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the repository, or where CURATE_TEST_DATA says."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("CURATE_TEST_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"no real data sets at {path}")
    return path
