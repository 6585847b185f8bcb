"""A store that fails when told to, S3, and a cache of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from failing_store import FailingStore, failing_store
from servers import s3_server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CURATE_CACHE", str(folder))
    monkeypatch.delenv("CURATE_WORK", raising=False)
    return folder


@pytest.fixture
def store() -> Iterator[type[FailingStore]]:
    with failing_store() as found:
        yield found


@pytest.fixture(scope="module")
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.module.__name__.rpartition(".")[2].replace("_", "-")
    with s3_server(f"storage-{name}") as url:
        yield url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """s3fs tries nothing again by itself."""
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
