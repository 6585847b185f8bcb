"""Background vectors: from a file, a folder of ours or of others; only the right encoder's."""

from pathlib import Path

import numpy as np
import pytest
from made_up import ENCODER, embeddings, random_parts

from curate.background import read_background
from curate.errors import CurateError


def test_a_file_published_vectors_and_embeddings_give_the_same_vectors(tmp_path: Path) -> None:
    arrays = random_parts(0, [5, 4])
    whole = np.concatenate(arrays)
    np.save(tmp_path / "vectors.npy", whole)
    (tmp_path / "laion" / "img_emb").mkdir(parents=True)
    for number, array in enumerate(arrays):
        np.save(tmp_path / "laion" / "img_emb" / f"img_emb_{number}.npy", array)
    embeddings(tmp_path / "ours", arrays)
    found = [read_background(tmp_path / n, ENCODER) for n in ("vectors.npy", "laion", "ours")]
    for background in found:
        assert np.array_equal(background.vectors, whole)
    assert len({background.digest for background in found}) == 1
    assert found[0].place == str(tmp_path / "vectors.npy")


def test_the_digest_tells_other_vectors_and_types_apart(tmp_path: Path) -> None:
    whole = random_parts(0, [5])[0]
    other = whole.copy()
    other[2, 1] += np.float16(0.25)
    digests = set()
    for number, array in enumerate([whole, other, whole[::-1], whole.astype(np.float32)]):
        np.save(tmp_path / f"{number}.npy", array)
        digests.add(read_background(tmp_path / f"{number}.npy", ENCODER).digest)
    assert len(digests) == 4


def test_vectors_of_another_encoder_or_version_are_refused(tmp_path: Path) -> None:
    embeddings(tmp_path / "ours", random_parts(0, [5]))
    with pytest.raises(CurateError, match=r"ours: made by builtin:layout or another version"):
        read_background(tmp_path / "ours", {**ENCODER, "weights": "others"})
    with pytest.raises(CurateError, match="not by timm:x"):
        read_background(tmp_path / "ours", {**ENCODER, "name": "timm:x"})


@pytest.mark.parametrize(("array", "words"), [
    (np.ones((3, 5), np.float16), "vectors of width 5, but builtin:layout gives 4"),
    (np.ones((1, 4), np.float16), "holds 1 vectors"),
    (np.array([[1, 2, 3, 4], [0, 0, 0, 0]], np.float32), "zero or not finite"),
    (np.array([[1, 2, 3, 4], [0, np.nan, 0, 0]], np.float32), "zero or not finite"),
    (np.ones((3, 4), np.int64), "no matrix of floats"),
])  # fmt: skip
def test_unfit_vectors_are_named(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "b.npy", array)
    with pytest.raises(CurateError, match=rf"b\.npy.*{words}"):
        read_background(tmp_path / "b.npy", ENCODER)


def test_a_missing_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="nothing"):
        read_background(tmp_path / "nothing", ENCODER)
