from pathlib import Path

import pytest
from pictures import write_set

from curate.calibration.planted import Planting, choose
from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed
from curate.encoders import EncoderSpec
from curate.parts import EmbeddingsFolder


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingsFolder:
    """40 shards with one picture each, and one with none."""
    root = tmp_path_factory.mktemp("train")
    write_set(root / "train", [[], *([number] for number in range(40))])
    settings = EmbedSettings(EncoderSpec("builtin:layout"))
    found = embed(open_dataset(str(root / "train")), settings, root / "embeddings")
    assert isinstance(found, EmbeddingsFolder)
    return found


def ids(train: EmbeddingsFolder, images: int, seed: int = 0) -> set[str]:
    chosen = choose(train, Planting(images, ("jpeg",), seed))
    return {row[0] for rows in chosen.values() for row in rows}


def test_the_same_seed_chooses_the_same_images_and_another_others(train: EmbeddingsFolder) -> None:
    assert ids(train, 8) == ids(train, 8)
    assert len(ids(train, 8)) == 8
    assert ids(train, 8) != ids(train, 8, seed=1)


def test_few_shards_are_read_unless_they_hold_too_few_images(train: EmbeddingsFolder) -> None:
    assert len(choose(train, Planting(3, ("jpeg",)))) == 3
    assert len(ids(train, 16)) in (15, 16)  # of 16 shards, one may be the empty one
    assert len(ids(train, 30)) == 30
    assert len(ids(train, 1000)) == 40


def test_fewer_images_are_among_more(train: EmbeddingsFolder) -> None:
    assert ids(train, 4) < ids(train, 10)


def test_a_choice_names_image_and_digest_by_part(train: EmbeddingsFolder) -> None:
    for part, rows in choose(train, Planting(5, ("jpeg",))).items():
        table = train.metadata(part)
        assert rows == tuple(table.select("id", "key", "sha256").rows())


def test_a_folder_of_embeddings_is_all_that_is_read(
    train: EmbeddingsFolder, tmp_path: Path
) -> None:
    assert choose(train, Planting(0, ("jpeg",))) == {}
