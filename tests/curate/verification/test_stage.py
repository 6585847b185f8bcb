"""A second look on real shards: what is refused stays with its reason, and nothing else changes."""

import random
import resource
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from archives import tar_bytes
from pictures import copies, encoded, picture, sample, tree, write_set, write_shard
from PIL import Image

from curate import artifacts
from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed
from curate.encoders import EncoderSpec, cached_encoder
from curate.errors import CurateError, PartialRunError
from curate.images import decode
from curate.matches import Matches, MatchSettings, match
from curate.parts import Embeddings
from curate.published import open_vectors
from curate.shards import Dataset, Shard
from curate.units import Outcome, run_in_process
from curate.verification.stage import Unit, _Queries, verify
from curate.verification.verifiers import VerifierSpec, cached_verifier

LAYOUT = EncoderSpec("builtin:layout")
HASH = VerifierSpec(EncoderSpec("phash:phash"), top=20)
PIXELS = VerifierSpec(EncoderSpec("pixels"), top=20)
FLOOR = -0.1
UNSEEN = "not among the 2 most similar, so it was not looked at"


def embedded(root: Path, out: Path) -> Embeddings:
    settings = EmbedSettings(LAYOUT, ("identity", "mirror"))
    return embed(open_dataset(str(root), root.name), settings, out / root.name)


class Sides:
    """Two sets on disk, embedded and matched."""

    def __init__(self, root: Path, settings: MatchSettings | None = None) -> None:
        self.root = root
        self.test, self.train = (embedded(root / name, root / "emb") for name in ("test", "train"))
        found = match(self.test, self.train, settings or MatchSettings(FLOOR), root / "matches")
        self.matches: Matches = found

    def verified(self, spec: VerifierSpec, out: Path, **more: Any) -> Matches:
        return verify(self.matches, self.test, self.train, spec, out, **more)

    def once(self, spec: VerifierSpec) -> Matches:
        """Looked at by the first test that asks."""
        return self.verified(spec, self.root / f"once-{spec.encoder.name}")


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    """Train pictures 10..21 in three shards; test: copies of 12, and others with odd keys."""
    root = tmp_path_factory.mktemp("sides")
    write_set(root / "train", [range(10, 14), range(14, 18), range(18, 22)])
    edited = copies(picture(12))
    repacked = encoded(picture(15), "BMP")
    write_shard(root / "test" / "a.tar", [
        *(sample(kind, edited[kind]) for kind in edited), sample("broken", b"no picture"),
    ])  # fmt: skip
    write_shard(root / "test" / "b.tar", [
        sample("a:b:c", encoded(picture(14).resize((40, 40)))), sample("zoë/ünï", repacked),
        sample("new", encoded(picture(60))),
    ])  # fmt: skip
    return Sides(root)


def pairs_of(found: Matches) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["test_id"], row["train_id"]): row for row in found.pairs().iter_rows(named=True)}


def never(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
    raise AssertionError("nothing was to be done")


def image_of(root: Path, id_: str) -> Image.Image:
    shard, _, key = id_.partition(":")
    name = f"{key}.png"
    with tarfile.open(root / f"{shard}.tar") as archive:
        stream = archive.extractfile(name)
        assert stream is not None
        return decode(stream.read())


# --- what it says --------------------------------------------------------------------------------


def test_a_detector_refuses_by_its_own_cosine_and_the_first_score_stays(sides: Sides) -> None:
    found = sides.once(HASH)
    before, after = pairs_of(sides.matches), pairs_of(found)
    assert before.keys() == after.keys()
    encoder = cached_encoder(HASH.encoder)
    reasons = set()
    for key, row in after.items():
        assert row["score"] == row["cosine"] == before[key]["score"]
        assert {n: row[n] for n in ("view", "same")} == {
            n: before[key][n] for n in ("view", "same")
        }
        image = image_of(sides.root / "test", key[0])
        if row["view"] == "mirror":
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        both = [
            encoder.preprocess(each) for each in (image, image_of(sides.root / "train", key[1]))
        ]
        one, two = encoder.encode(np.stack(both)).astype(np.float64)
        second = float(np.float32(one @ two))
        refused = second < 0.75 and row["same"] is None
        assert row["rejected"] == (f"phash:phash: {second:.3f} < 0.75" if refused else None)
        reasons.add(refused)
    assert reasons == {True, False}
    assert len(after) > 30


def test_pixels_give_scores_of_their_own_and_the_first_is_the_cosine(sides: Sides) -> None:
    found = sides.once(PIXELS)
    before, after = pairs_of(sides.matches), pairs_of(found)
    floor = cached_verifier(PIXELS).floor
    assert floor is not None
    for key, row in after.items():
        assert row["cosine"] == before[key]["score"]
        assert 0 <= row["score"] <= 1
        assert (row["rejected"] is None) == (row["score"] >= np.float32(floor))
    assert found.manifest.config["floor"] == floor
    assert found.manifest.config["first_floor"] == FLOOR
    for kind in ("same", "smaller", "mirrored"):
        assert after[f"a:{kind}", "00000:000012"]["score"] == 1


@pytest.mark.parametrize("spec", [HASH, PIXELS])
def test_the_nearest_is_the_best_pair_that_was_confirmed(sides: Sides, spec: VerifierSpec) -> None:
    found = sides.once(spec)
    pairs, nearest = found.pairs(), found.nearest()
    assert nearest["test_id"].to_list() == sides.test.all_metadata()["id"].to_list()
    for row in nearest.iter_rows(named=True):
        own = pairs.filter(pl.col("test_id") == row["test_id"], pl.col("rejected").is_null())
        best = (
            own.row(0, named=True) if own.height else dict.fromkeys(("train_id", "score", "view"))
        )
        assert {n: row[n] for n in ("train_id", "score", "view")} == {n: best[n] for n in
                ("train_id", "score", "view")}  # fmt: skip
        assert (row["pairs"], row["overflow"]) == (own.height, False)
        assert own.height == 0 or own["score"].max() == row["score"]


@pytest.mark.parametrize("spec", [HASH, PIXELS])
def test_pairs_stand_in_test_order_confirmed_before_refused_and_by_score(
    sides: Sides, spec: VerifierSpec
) -> None:
    pairs = sides.once(spec).pairs()
    order = {id_: n for n, id_ in enumerate(sides.test.all_metadata()["id"])}
    rows = pairs.select("test_id", pl.col("rejected").is_not_null(), "score").rows()
    keys = [(order[test], refused, -score) for test, refused, score in rows]
    assert keys == sorted(keys)
    ranks = [sum(key[0] == other[0] for other in keys[: n + 1]) for n, key in enumerate(keys)]
    assert pairs["rank"].to_list() == ranks


def test_the_manifest_counts_and_keeps_the_law(sides: Sides) -> None:
    found = sides.once(HASH)
    counts, pairs = found.manifest.counts, found.pairs()
    assert counts["confirmed"] + counts["rejected"] == counts["pairs"] == pairs.height
    assert counts["rejected"] == pairs["rejected"].is_not_null().sum()
    kept = pairs.filter(pl.col("rejected").is_null())
    assert counts["test_items_with_pairs"] == kept["test_id"].n_unique()
    assert found.manifest.config["verify"]["name"] == "phash:phash"
    assert found.manifest.config["encoder"] == sides.matches.manifest.config["encoder"]
    assert artifacts.verify(found.root) == []
    assert sorted(path.name for path in found.root.iterdir()) == [
        "manifest.json", "nearest.parquet", "pairs.parquet", "unusable.parquet",
    ]  # fmt: skip


def test_candidates_beyond_the_top_are_refused_unseen(sides: Sides, tmp_path: Path) -> None:
    found = sides.verified(VerifierSpec(HASH.encoder, top=2), tmp_path / "v")
    whole = pairs_of(sides.once(HASH))
    before = pairs_of(sides.matches)
    for key, row in pairs_of(found).items():
        expected = whole[key]["rejected"] if before[key]["rank"] <= 2 else UNSEEN
        assert row["rejected"] == (None if row["same"] else expected)
        assert row["score"] == row["cosine"] == before[key]["score"]
    assert max(row["rank"] for row in before.values()) > 2


def test_odd_keys_are_found_again(sides: Sides) -> None:
    after = pairs_of(sides.once(PIXELS))
    assert after["b:a:b:c", "00001:000014"]["score"] == 1
    assert after["b:zoë/ünï", "00001:000015"]["same"] == "pixels"


# --- equal images --------------------------------------------------------------------------------


def test_equal_images_are_never_refused_whoever_looks(tmp_path: Path) -> None:
    """One picture many times, with top 1, before a verifier that refuses everything."""
    again = [sample(f"k{n}", encoded(picture(1))) for n in range(3)]
    write_shard(tmp_path / "test" / "0.tar", [sample("it", encoded(picture(1)))])
    write_shard(tmp_path / "train" / "0.tar", [
        *again, sample("bmp", encoded(picture(1), "BMP")), sample("other", encoded(picture(2))),
    ])  # fmt: skip
    sides = Sides(tmp_path, MatchSettings(-1))
    rows = pairs_of(sides.verified(VerifierSpec(HASH.encoder, top=1), tmp_path / "v"))
    words = {train: (row["same"], row["rejected"] is None) for (_, train), row in rows.items()}
    assert words == {
        **{f"0:k{n}": ("bytes", True) for n in range(3)},
        "0:bmp": ("pixels", True), "0:other": (None, False),
    }  # fmt: skip
    by_pixels = pairs_of(sides.verified(VerifierSpec(PIXELS.encoder, top=1), tmp_path / "p"))
    assert [row["score"] for row in by_pixels.values()][:4] == [1.0] * 4


def test_what_was_not_stored_overflows_only_where_all_stored_are_confirmed(tmp_path: Path) -> None:
    many = [sample(f"k{n}", encoded(picture(1))) for n in range(4)]
    write_shard(tmp_path / "train" / "0.tar", [*many, sample("x", encoded(picture(5)))])
    write_shard(tmp_path / "test" / "0.tar", [
        sample("copy", encoded(picture(1))), sample("new", encoded(picture(7))),
    ])  # fmt: skip
    sides = Sides(tmp_path, MatchSettings(-1, cap=3))
    assert sides.matches.nearest()["overflow"].to_list() == [True, True]
    found = sides.verified(HASH, tmp_path / "v")
    assert found.nearest().select("overflow", "pairs").rows() == [(True, 3), (False, 0)]
    assert found.manifest.counts["overflow"] == 1


def test_candidates_in_thousands_of_shards_need_few_open_files(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    for part in range(80):
        with (tmp_path / "test" / f"queries_{part:06d}").open("wb") as stream:
            np.save(stream, np.full((2, 4), part, np.float32))
    train = Dataset("train", "webdataset", "", ())
    unit = Unit(train, Shard("0", "0.tar", "0.tar"), 0, str(tmp_path / "train"), HASH)
    wanted = pl.DataFrame({"part": range(80), "query": [0, 1] * 40})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(list(Path("/proc/self/fd").iterdir())) + 30  # other tests may have left some open
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        queries = _Queries(unit, wanted)
        assert [float(queries[at][0]) for at in range(80)] == list(range(80))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- one set with itself -------------------------------------------------------------------------


def test_within_a_set_each_side_is_read(sides: Sides, tmp_path: Path) -> None:
    side = sides.test
    found = match(side, side, MatchSettings(FLOOR, within=True), tmp_path / "m")
    after = pairs_of(verify(found, side, side, HASH, tmp_path / "v"))
    assert after.keys() == pairs_of(found).keys()
    assert after["a:jpeg", "a:same"]["rejected"] is None
    assert after["a:mirrored", "a:same"]["rejected"] is None
    assert after["b:new", "a:same"]["rejected"] is not None


def test_without_candidates_nothing_is_read(tmp_path: Path, sides: Sides) -> None:
    none = match(sides.test, sides.train, MatchSettings(1.0), tmp_path / "m")
    same = none.pairs().filter(pl.col("same").is_null()).height

    def counting(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        assert bool(units) == bool(same)
        return run_in_process(function, units)

    found = verify(none, sides.test, sides.train, HASH, tmp_path / "v", run_units=counting)
    assert found.pairs().height == none.pairs().height
    assert found.nearest().height == sides.test.count


# --- the same bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [HASH, PIXELS])
def test_the_order_of_units_changes_no_byte(
    sides: Sides, tmp_path: Path, spec: VerifierSpec
) -> None:
    def backwards(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        return run_in_process(function, units[::-1])

    found = sides.verified(spec, tmp_path, run_units=backwards)
    assert tree(found.root) == tree(sides.once(spec).root)


def test_random_interruptions_end_in_the_same_bytes(sides: Sides, tmp_path: Path) -> None:
    whole = sides.once(HASH)
    chance = random.Random(0)
    ran: list[tuple[str, str]] = []

    def flaky(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        for unit in units:
            if chance.random() < 0.6:
                raise KeyboardInterrupt
            ran.append((function.__name__, unit.shard.name))
            yield from run_in_process(function, [unit])

    deaths = 0
    for _ in range(100):
        try:
            sides.verified(HASH, tmp_path / "v", run_units=flaky)
            break
        except KeyboardInterrupt:
            deaths += 1
            assert not (tmp_path / "v").exists()
    assert deaths > 1
    assert len(ran) == len(set(ran)) == 5
    assert tree(tmp_path / "v") == tree(whole.root)


def test_a_finished_look_is_not_repeated_until_something_changes(
    sides: Sides, tmp_path: Path
) -> None:
    first = sides.verified(HASH, tmp_path / "v")
    again = sides.verified(HASH, tmp_path / "v", run_units=never)
    assert again.manifest == first.manifest
    for other in (VerifierSpec(HASH.encoder, top=3), VerifierSpec(EncoderSpec("phash:dhash"))):
        changed = sides.verified(other, tmp_path / "v")
        assert changed.manifest.key != first.manifest.key


# --- what is no more as it was -------------------------------------------------------------------


@pytest.fixture
def moved(sides: Sides, tmp_path: Path) -> Sides:
    """The same sets in a place of their own, where they can be changed."""
    for name in ("test", "train"):
        shutil.copytree(sides.root / name, tmp_path / name)
    return Sides(tmp_path)


@pytest.mark.parametrize("side", ["test", "train"])
@pytest.mark.parametrize("image", [encoded(picture(99)), b"broken", None])
def test_an_image_that_changed_since_it_was_embedded_is_named(
    moved: Sides, tmp_path: Path, side: str, image: bytes | None
) -> None:
    shard, key = {"test": ("b", "a:b:c"), "train": ("00001", "000014")}[side]
    path = tmp_path / side / f"{shard}.tar"
    seeds = {
        "test": (("zoë/ünï", 15), ("new", 60)),
        "train": [(f"{n:06d}", n) for n in (15, 16, 17)],
    }
    rows = [(f"{name}.png", encoded(picture(seed))) for name, seed in seeds[side]]
    path.write_bytes(tar_bytes([*([(f"{key}.png", image)] if image else []), *rows]))
    with pytest.raises(PartialRunError) as caught:
        moved.verified(HASH, tmp_path / "v")
    assert f"{path}: the image of " in str(caught.value)
    assert "is not the one that was embedded" in str(caught.value)
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("side", ["test", "train"])
def test_a_shard_that_has_gone_is_named(moved: Sides, tmp_path: Path, side: str) -> None:
    name = {"test": "b", "train": "00001"}[side]
    (tmp_path / side / f"{name}.tar").unlink()
    with pytest.raises(CurateError, match=rf"shard {name} was embedded, but has gone"):
        moved.verified(HASH, tmp_path / "v")


def test_published_vectors_cannot_be_looked_at(sides: Sides, tmp_path: Path) -> None:
    np.save(tmp_path / "img_emb_0.npy", np.concatenate(list(sides.train.view_parts())))
    train = open_vectors((str(tmp_path / "img_emb_0.npy"),), "builtin:layout", "vectors")
    with pytest.raises(CurateError, match=r"of which curate has no images.*--verify none"):
        verify(sides.matches, sides.test, train, HASH, tmp_path / "v")
