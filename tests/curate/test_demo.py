"""The demonstration set: reproducible, varied, and with an answer that is true."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from curate.demo import (
    CLASS_NAMES,
    SCENES,
    TRANSFORMATIONS,
    DemoSet,
    Stored,
    copy_of,
    drawn,
    item_id,
    paint,
    score_demo,
    write_demo,
)
from curate.errors import CurateError

Samples = dict[str, dict[str, bytes]]


def read_set(shards: tuple[Path, ...]) -> Samples:
    samples: Samples = {}
    for path in shards:
        with tarfile.open(path) as tar:
            for member in tar:
                key, extension = member.name.split(".", 1)
                stream = tar.extractfile(member)
                assert stream is not None
                samples.setdefault(f"{path.stem}:{key}", {})[extension] = stream.read()
    return samples


def image_bytes(sample: dict[str, bytes]) -> bytes:
    (name,) = set(sample) - {"txt", "cls", "json"}
    return sample[name]


def opened(sample: dict[str, bytes]) -> Image.Image:
    return Image.open(io.BytesIO(image_bytes(sample))).convert("RGB")


def layout(image: Image.Image) -> np.ndarray:
    """A centred unit vector of the 16 x 16 thumbnail."""
    small = np.asarray(image.resize((16, 16), Image.Resampling.BOX), np.float64).ravel()
    small -= small.mean()
    return small / np.linalg.norm(small)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    return write_demo(
        tmp_path_factory.mktemp("demo") / "set", seed=3, train=260, test=100, shift=40
    )


@pytest.fixture(scope="module")
def train(demo: DemoSet) -> Samples:
    return read_set(demo.shards["train"])


@pytest.fixture(scope="module")
def test(demo: DemoSet) -> Samples:
    return read_set(demo.shards["test"])


@pytest.fixture(scope="module")
def shift(demo: DemoSet) -> Samples:
    return read_set(demo.shards["shift"])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_demo(tmp_path / name, seed=seed, train=25, test=20, shift=20)
    first, again, other = (digests(tmp_path / name) for name in "abc")
    assert first == again
    changed = {path for path in first if first[path] != other[path]}
    assert changed == set(first) - {"classnames.txt"}


def test_counts_are_those_asked_for(
    demo: DemoSet, train: Samples, test: Samples, shift: Samples
) -> None:
    assert demo.counts == {"train": 260, "test": 100, "shift": 40}
    assert [len(samples) for samples in (train, test, shift)] == [260, 100, 40]
    assert [path.name for path in demo.shards["train"]] == ["00000.tar", "00001.tar"]
    assert (demo.planted_count, demo.lookalike_count) == (15, 10)
    assert demo.broken == {"train": 0, "test": 3, "shift": 3}
    assert tuple((demo.folder / "classnames.txt").read_text().splitlines()) == CLASS_NAMES
    assert list(train) == [item_id(position) for position in range(260)]


def test_every_sample_has_caption_class_and_class_name(test: Samples, shift: Samples) -> None:
    captions = {caption for scene in SCENES for caption in scene.captions}
    for samples in (test, shift):
        for name, sample in samples.items():
            facts = json.loads(sample["json"])
            label = int(sample["cls"])
            assert facts == {"classname": CLASS_NAMES[label], "key": name.split(":")[1]}
            assert sample["txt"].decode() in captions


def test_every_class_is_in_every_set_of_the_usual_size() -> None:
    assert len(set(CLASS_NAMES)) == len(CLASS_NAMES) == sum(len(one.kinds) for one in SCENES)
    drawings = [paint(0, scene, 4_000_000 + series, 0).label
                for scene in range(len(SCENES)) for series in range(15)]  # fmt: skip
    assert set(drawings) == set(range(len(CLASS_NAMES)))


def test_what_a_picture_is_called_is_seen_in_it() -> None:
    few = next(p for p in (paint(0, 7, series, 0) for series in range(99)) if p.label == 16)
    assert (CLASS_NAMES[few.label], SCENES[7].kinds) == ("bowls", ("bowls", "snooker"))
    assert paint(0, 7, 0, 0).label == paint(0, 7, 0, 1).label, "balls are counted in the plan"


def test_every_planted_copy_is_recorded_with_its_original(
    demo: DemoSet, train: Samples, test: Samples
) -> None:
    answer = pl.read_parquet(demo.answer)
    assert answer.columns == ["test_id", "train_id", "transformation", "parameters"]
    assert answer["test_id"].n_unique() == answer["train_id"].n_unique() == demo.planted_count
    assert set(answer["transformation"]) == set(TRANSFORMATIONS)
    for row in answer.iter_rows(named=True):
        copy, original = test[row["test_id"]], train[row["train_id"]]
        assert copy["cls"] == original["cls"]
        same = image_bytes(copy) == image_bytes(original)
        assert same == (row["transformation"] == "exact")
        image = opened(copy)
        if row["transformation"] == "mirror":
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        gray = layout(image.convert("L").convert("RGB"))
        least = 0.5 if row["transformation"] == "crop" else 0.9
        assert gray @ layout(opened(original).convert("L").convert("RGB")) > least, row


def test_pictures_that_were_not_copied_are_no_copies(
    demo: DemoSet, train: Samples, test: Samples
) -> None:
    answer = pl.read_parquet(demo.answer)
    originals = {hashlib.sha256(image_bytes(sample)).digest() for sample in train.values()}
    vectors = np.stack([layout(opened(s)) for s in train.values() if is_whole(s)])
    for name, sample in test.items():
        if name in set(answer["test_id"]) or not is_whole(sample):
            continue
        assert hashlib.sha256(image_bytes(sample)).digest() not in originals
        assert (vectors @ layout(opened(sample))).max() < 0.97


def test_lookalikes_resemble_their_train_picture_more_than_others_do(
    demo: DemoSet, train: Samples, test: Samples
) -> None:
    pairs = pl.read_parquet(demo.lookalikes)
    assert pairs.join(pl.read_parquet(demo.answer), on="test_id", how="semi").height == 0
    close = [layout(opened(test[a])) @ layout(opened(train[b])) for a, b in pairs.iter_rows()]
    whole = [sample for sample in train.values() if is_whole(sample)][:50]
    far = [layout(opened(test[a])) @ layout(opened(s)) for a in pairs["test_id"] for s in whole]
    assert np.mean(close) > np.mean(far) + 0.3


def is_whole(sample: dict[str, bytes]) -> bool:
    try:
        opened(sample)
    except OSError:
        return False
    return True


def test_broken_samples_cannot_be_decoded_and_all_others_can(
    demo: DemoSet, train: Samples, test: Samples, shift: Samples
) -> None:
    for name, samples in (("train", train), ("test", test), ("shift", shift)):
        broken = [sample["jpg"] for sample in samples.values() if not is_whole(sample)]
        assert len(broken) == demo.broken[name]
        assert sorted(data[:2] for data in broken) == ([b"", b"<!", b"\xff\xd8"] if broken else [])


@pytest.mark.parametrize("scene", range(len(SCENES)))
def test_pictures_are_varied_and_distinct(scene: int) -> None:
    pictures = [paint(0, scene, series, take).image for series in range(6) for take in range(2)]
    vectors = np.stack([layout(picture) for picture in pictures])
    similar = vectors @ vectors.T
    assert similar[np.triu_indices(12, 1)].max() < 0.97
    same_series = np.mean([similar[at, at + 1] for at in range(0, 12, 2)])
    others = np.mean([similar[at, at + 2] for at in range(10)])
    assert same_series > others
    for picture in pictures:
        assert picture.mode == "RGB"
        assert 160 <= min(picture.size) <= max(picture.size) <= 256
        assert np.asarray(picture, np.float64).std() > 12
        assert len(picture.resize((48, 48)).getcolors(48 * 48) or ()) > 150


@pytest.mark.parametrize("scene", range(len(SCENES)))
def test_a_drawing_is_ink_on_paper_of_the_same_scene(scene: int) -> None:
    picture = paint(0, scene, 0, 0).image
    drawing = drawn(picture, np.random.default_rng(0))
    assert (drawing.mode, drawing.size) == ("RGB", picture.size)
    assert drawing.tobytes() == drawn(picture, np.random.default_rng(0)).tobytes()
    assert drawing.tobytes() != drawn(picture, np.random.default_rng(1)).tobytes()
    pixels = np.asarray(drawing, np.float64)
    border = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3)])
    assert border.mean() > 190, "the sheet stays empty along its borders"
    flat = pixels.reshape(-1, 3) - pixels.reshape(-1, 3).mean(axis=0)
    strength = np.linalg.svd(flat, compute_uv=False) ** 2
    assert strength[0] / strength.sum() > 0.98, "between paper and one ink there is one line"
    assert layout(picture) @ layout(drawing) < 0.9


def test_no_drawing_is_of_a_scene_of_the_other_sets(
    train: Samples, test: Samples, shift: Samples
) -> None:
    others = np.stack([
        layout(opened(sample).convert("L").convert("RGB"))
        for samples in (train, test) for sample in samples.values() if is_whole(sample)
    ])  # fmt: skip
    drawings = [layout(opened(sample)) for sample in shift.values() if is_whole(sample)]
    assert (others @ np.stack(drawings).T).max() < 0.95


def test_the_formats_are_mixed(train: Samples) -> None:
    found = [next(iter(set(sample) - {"txt", "cls", "json"})) for sample in train.values()]
    assert min(found.count(extension) for extension in ("jpg", "png", "webp")) > 15


def test_a_planted_crop_keeps_nine_tenths_of_each_side() -> None:
    image = paint(0, 0, 0, 0).image
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    copy = copy_of(Stored(buffer.getvalue(), "png", ""), "crop", np.random.default_rng(0))
    size = Image.open(io.BytesIO(copy.data)).size
    assert size == tuple(round(0.9 * side) for side in image.size)
    assert copy.parameters == "90 % of each side kept"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 10, "test": 20}, "20 or more"),
        ({"train": 40, "test": 200}, "100 or more"),
        ({"shift": 19}, "19 shift images; give 20"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_demands_are_refused(
    tmp_path: Path, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(CurateError, match=message):
        write_demo(tmp_path / "set", **arguments)


def test_a_folder_in_use_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(CurateError, match="is there already"):
        write_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


ANSWER = pl.DataFrame(
    [
        ("0:a", "9:x", "exact"),
        ("0:b", "9:y", "jpeg"),
        ("0:c", "9:z", "jpeg"),
        ("0:d", "9:w", "crop"),
    ],
    schema=["test_id", "train_id", "transformation"],
    orient="row",
)
DECISIONS = pl.DataFrame(
    [
        ("0:a", "overlap", "9:x"),
        ("0:b", "overlap", "9:q"),
        ("0:c", "clean", None),
        ("0:d", "unknown", None),
        ("0:e", "overlap", "9:x"),
        ("0:f", "clean", "9:x"),
    ],
    schema=["id", "decision", "train_id"],
    orient="row",
)


def test_the_score_counts_found_missed_and_wrongly_flagged() -> None:
    score = score_demo(ANSWER, DECISIONS)
    assert (score.planted, score.found, score.found_original) == (4, 2, 1)
    assert score.missed == ("0:c", "0:d")
    assert score.wrongly_flagged == ("0:e",)
    assert (score.recall, score.precision) == (0.5, 2 / 3)
    kinds = {
        s.transformation: (s.planted, s.found, s.found_original) for s in score.by_transformation
    }
    assert kinds == {"crop": (1, 0, 0), "exact": (1, 1, 1), "jpeg": (2, 1, 0)}


def test_the_score_of_nothing_is_perfect() -> None:
    score = score_demo(ANSWER.clear(), DECISIONS.filter(pl.col("decision") == "clean"))
    assert (score.recall, score.precision, score.by_transformation) == (1.0, 1.0, ())


@pytest.mark.parametrize(
    ("answer", "decisions", "message"),
    [
        (ANSWER.drop("train_id"), DECISIONS, "answer lack"),
        (ANSWER, DECISIONS.drop("decision"), "decisions lack"),
        (ANSWER, DECISIONS.tail(4), "2 planted items have no decision"),
        (ANSWER, pl.concat([DECISIONS, DECISIONS]), "twice"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(
    answer: pl.DataFrame, decisions: pl.DataFrame, message: str
) -> None:
    with pytest.raises(CurateError, match=message):
        score_demo(answer, decisions)
