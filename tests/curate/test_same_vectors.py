"""An image has one vector, whatever the way on which it comes and the work is done."""

import gzip
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, picture, write_shard
from PIL import Image
from servers import web_server

from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed
from curate.encoders import EncoderSpec, least_side, load_encoder
from curate.encoders.base import DECODINGS
from curate.images import ImageLimits, read_picture
from curate.parts import Embeddings
from curate.samples import Member, image_member
from curate.shards import ShardReader
from curate.views import VIEWS

NAMES = ("builtin:layout", "builtin:copy", "builtin:tiny-clip")
VIEW_NAMES = ("identity", "mirror", "trim")
SIZES = ((33, 47), (128, 128), (300, 200), (517, 389), (260, 1030), (31, 900))
CODINGS: tuple[dict[str, object], ...] = (
    {}, {"progressive": True}, {"subsampling": 0, "quality": 95}, {"quality": 40},
)  # fmt: skip
Vectors = dict[str, tuple[bytes, ...]]


@cache
def jpegs() -> tuple[bytes, ...]:
    """Pictures with fine detail, of sizes that are divided by 1, 2, 4 and 8, coded in four ways."""
    found = []
    for number, size in enumerate(SIZES):
        grain = np.random.default_rng(number).integers(-20, 20, (size[1], size[0], 3))
        pixels = (np.asarray(picture(number).resize(size)) + grain).clip(0, 255)
        image = Image.fromarray(pixels.astype(np.uint8))
        found.append(encoded(image, "JPEG", **CODINGS[number % len(CODINGS)]))
    return tuple(found)


@cache
def one_by_one(spec: EncoderSpec, stored: tuple[bytes, ...]) -> Vectors:
    """The slow twin: each image decoded, looked at and encoded alone; float16 by sha256."""
    encoder = load_encoder(spec)
    found = {}
    for data in stored:
        image = read_picture(data, ImageLimits(), least_side(encoder)).image
        alone = [encoder.encode(encoder.preprocess(VIEWS[v](image))[None]) for v in VIEW_NAMES]
        vectors = tuple(vector.astype(np.float16).tobytes() for vector in alone)
        found[hashlib.sha256(data).hexdigest()] = vectors
    return found


def vectors_of(side: Embeddings) -> Vectors:
    views = [np.concatenate([part[0 : len(part)] for part in side.view_parts(v)])
             for v in VIEW_NAMES]  # fmt: skip
    digests = side.all_metadata()["sha256"].to_list()
    return {
        digest: tuple(view[row].tobytes() for view in views) for row, digest in enumerate(digests)
    }


def embedded(place: str, spec: EncoderSpec, out: Path, threads: int = 1) -> Vectors:
    settings_ = EmbedSettings(spec, VIEW_NAMES)
    return vectors_of(embed(open_dataset(place, "set"), settings_, out, threads=threads))


def as_tar(root: Path, stored: tuple[bytes, ...]) -> Path:
    rows = [(f"{number:03d}", {"jpg": data}) for number, data in enumerate(stored)]
    return write_shard(root / "0.tar", rows)


def as_gzip(root: Path, stored: tuple[bytes, ...]) -> Path:
    plain = as_tar(root / "plain", stored)
    path = root / "0.tar.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def as_folder(root: Path, stored: tuple[bytes, ...]) -> Path:
    for number, data in enumerate(stored):
        path = root / "folder" / f"class{number % 2}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root / "folder"


def as_parquet(root: Path, stored: tuple[bytes, ...]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "0.parquet"
    pl.DataFrame({"image": list(stored)}).write_parquet(path)
    return path


@pytest.mark.parametrize("decode", DECODINGS)
@pytest.mark.parametrize("write", [as_tar, as_gzip, as_folder, as_parquet])
def test_a_vector_does_not_depend_on_how_images_are_stored(
    tmp_path: Path, write: Callable[[Path, tuple[bytes, ...]], Path], decode: str
) -> None:
    spec = EncoderSpec("builtin:layout", decode=decode)
    place = str(write(tmp_path, jpegs()))
    assert embedded(place, spec, tmp_path / "emb") == one_by_one(spec, jpegs())


@pytest.mark.parametrize("decode", DECODINGS)
def test_a_vector_does_not_depend_on_whether_a_shard_is_near_or_far(
    tmp_path: Path, decode: str
) -> None:
    spec = EncoderSpec("builtin:layout", decode=decode)
    as_tar(tmp_path / "served", jpegs())
    with web_server(tmp_path / "served") as (url, _):
        found = embedded(f"{url}/0.tar", spec, tmp_path / "emb")
    assert found == one_by_one(spec, jpegs())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decode", DECODINGS)
def test_no_encoder_sees_how_the_work_is_done(tmp_path: Path, name: str, decode: str) -> None:
    expected = one_by_one(EncoderSpec(name, decode=decode), jpegs())
    for turn, (batch, threads) in enumerate(((None, 1), (1, 3), (4, 2))):
        spec = EncoderSpec(name, decode=decode, batch_size=batch)
        place = str(as_tar(tmp_path / str(turn), jpegs()))
        assert embedded(place, spec, tmp_path / f"emb{turn}", threads) == expected


@settings(max_examples=6)
@given(st.data(), st.integers(1, 4), st.integers(1, 7))
def test_neighbours_order_shards_threads_and_batches_change_no_bit(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, threads: int, batch: int
) -> None:
    spec = EncoderSpec("builtin:copy", decode=data.draw(st.sampled_from(DECODINGS)))
    expected = one_by_one(spec, jpegs())
    order = data.draw(st.permutations(range(len(jpegs()))))
    cut = data.draw(st.integers(0, len(order)))
    root = tmp_path_factory.mktemp("drawn")
    for name, chosen in (("0", order[:cut]), ("1", order[cut:])):
        write_shard(root / "set" / f"{name}.tar", [(f"{n}", {"jpg": jpegs()[n]}) for n in chosen])
    asked = EncoderSpec(spec.name, decode=spec.decode, batch_size=batch)
    assert embedded(str(root / "set"), asked, root / "emb", threads) == expected


@pytest.mark.parametrize("decode", DECODINGS)
def test_test_and_train_images_of_equal_bytes_have_equal_vectors(
    tmp_path: Path, decode: str
) -> None:
    spec = EncoderSpec("builtin:copy", decode=decode)
    train = embed(
        open_dataset(str(as_folder(tmp_path, jpegs())), "train"), EmbedSettings(spec),
        tmp_path / "train",
    )  # fmt: skip
    test = embedded(str(as_tar(tmp_path, jpegs()[::-1])), spec, tmp_path / "test", threads=2)
    rows = np.concatenate([part[0 : len(part)] for part in train.view_parts()])
    for digest, row in zip(train.all_metadata()["sha256"], rows, strict=True):
        assert row.tobytes() == test[digest][0]


@pytest.mark.parametrize("decode", DECODINGS)
def test_photographs_have_one_vector_each(shared_data: Path, tmp_path: Path, decode: str) -> None:
    dataset = open_dataset(str(shared_data / "photos"))
    stored = []
    for shard in dataset.shards:
        for sample, _ in zip(ShardReader(dataset, shard), range(5), strict=False):
            member = image_member(sample)
            assert isinstance(member, Member)
            stored.append(member.data or b"")
    photos = tuple(stored)
    spec = EncoderSpec("builtin:copy", decode=decode)
    expected = one_by_one(spec, photos)
    ways: list[tuple[Callable[[Path, tuple[bytes, ...]], Path], int, int | None]] = [
        (as_gzip, 1, 5), (as_folder, 3, None), (as_parquet, 2, 1)]  # fmt: skip
    for turn, (write, threads, batch) in enumerate(ways):
        asked = EncoderSpec(spec.name, decode=decode, batch_size=batch)
        place = str(write(tmp_path / str(turn), photos))
        assert embedded(place, asked, tmp_path / f"emb{turn}", threads) == expected
