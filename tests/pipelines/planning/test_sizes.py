from pathlib import Path
from typing import Any

import pytest
from deduping import write_sets
from pictures import encoded, picture, sample, write_shard

from curate.errors import CurateError
from pipelines.flow.config import FlowConfig
from pipelines.planning.sizes import SetSize, sizes_of


def flow(run: Path, **sets: dict[str, Any]) -> FlowConfig:
    return FlowConfig.model_validate({"name": "study", "out": str(run), "sets": sets})


def size(tmp_path: Path, **source: Any) -> SetSize:
    return sizes_of(flow(tmp_path / "run", photos=source), tmp_path / "run")["photos"]


def test_a_stated_size_is_believed_and_nothing_is_opened(tmp_path: Path) -> None:
    stated = {"samples": 10, "shards": 4, "bytes": 400}
    found = size(tmp_path, shards="s3://nowhere/{0..3}.tar", size=stated)
    assert found == SetSize(10, (100,) * 4, "stated")


def test_shards_are_weighed_and_the_first_is_counted(tmp_path: Path) -> None:
    root = write_sets(tmp_path)
    found = size(tmp_path, shards=str(root / "train"))
    assert found.shards == tuple(p.stat().st_size for p in sorted((root / "train").glob("*.tar")))
    assert abs(found.samples - 20) <= 1
    assert found.how == "estimated by the first shard"


def test_a_single_small_shard_is_counted(tmp_path: Path) -> None:
    root = write_sets(tmp_path)
    found = size(tmp_path, shards=str(root / "test" / "a.tar"))
    assert (found.samples, found.how) == (10, "counted")


def test_of_a_large_shard_some_samples_tell_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.planning.sizes._WHOLE", 1000)
    monkeypatch.setattr("pipelines.planning.sizes._COUNTED", 5)
    rows = [sample(f"{n:04}", encoded(picture(n)), n) for n in range(40)]
    write_shard(tmp_path / "large.tar", rows)
    found = size(tmp_path, shards=str(tmp_path / "large.tar"))
    assert found.how == "estimated by 5 samples"
    assert found.samples == pytest.approx(40, rel=0.25)


def test_demo_sets_are_known_before_they_are_drawn(tmp_path: Path) -> None:
    assert size(tmp_path, demo="train").samples == 1500
    assert len(size(tmp_path, demo="test").shards) == 2


@pytest.mark.parametrize(
    "source",
    [
        {"shards": "/nowhere/a.tar"},
        {"shards": "http://127.0.0.1:9/{0..3}.tar"},
        {"embeddings": "/nowhere"},
        {"download": {"urls": "list.parquet"}},
    ],
)
def test_a_set_that_cannot_be_seen_has_to_state_its_size(
    tmp_path: Path, source: dict[str, Any]
) -> None:
    with pytest.raises(CurateError, match=r"set photos: .*sets.photos.size: \{samples"):
        size(tmp_path, **source)


def test_samples_lie_in_shards_by_their_bytes() -> None:
    assert SetSize(100, (10, 30), "").parts() == [(25, 10, 1), (75, 30, 1)]
    assert SetSize(100, (0, 0), "").parts() == [(50, 0, 1), (50, 0, 1)]


def test_many_shards_are_put_together() -> None:
    parts = SetSize(500_000, (10,) * 50_000, "").parts()
    assert len(parts) == 10_000
    assert parts[0] == (pytest.approx(50), 50, 5)
    assert sum(part.shards for part in parts) == 50_000
