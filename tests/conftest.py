"""What all tests share: the real data sets, where they are present."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Everyone tries the same examples, so that a red run can be repeated; HYPOTHESIS_PROFILE=exploring
# draws new ones each time.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("exploring", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the repository, or where CURATE_TEST_DATA says."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("CURATE_TEST_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"no real data sets at {path}")
    return path
