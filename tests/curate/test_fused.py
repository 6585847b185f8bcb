"""A set joined while it is embedded gives the very tables of one that was stored first."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import embeddings, random_parts
from pictures import copies, encoded, picture, sample, tree, write_set, write_shard

from curate import fused, parts, tables
from curate.artifacts import verify
from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed, embed_unit
from curate.encoders import EncoderSpec, cached_encoder, fingerprint
from curate.errors import CurateError, PartialRunError
from curate.index import build_index
from curate.matches import Matches, MatchSettings, Resources, match
from curate.parts import Embeddings
from curate.units import Outcome, run_in_process
from indices import exact
from indices.sketch import Sketcher, directions

LAYOUT = EncoderSpec("builtin:layout")
PLAIN = EmbedSettings(LAYOUT)
TWO_VIEWS = EmbedSettings(LAYOUT, ("identity", "mirror"))
FLOOR = 0.6
ENCODER = fingerprint(cached_encoder(LAYOUT))
DIM = cached_encoder(LAYOUT).dim


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of one picture, and others; as train that picture often, others, broken files."""
    root = tmp_path_factory.mktemp("sets")
    known = [sample(kind, data) for kind, data in copies(picture(3)).items()]
    known += [sample("again", encoded(picture(3))), sample("broken", b"no picture")]
    write_shard(root / "test" / "0.tar", known)
    write_shard(root / "test" / "1.tar", [sample(f"n{n}", encoded(picture(n))) for n in range(9)])
    placeholder = [sample(f"p{n}", encoded(picture(3))) for n in range(6)]
    others = [sample(f"o{n}", encoded(picture(n))) for n in range(2, 12)]
    write_shard(root / "train" / "0.tar", [*placeholder, sample("cut", encoded(picture(1))[:60])])
    write_shard(root / "train" / "1.tar", [sample("zero", b"")])
    write_shard(root / "train" / "2.tar", [*others, sample("none", b"GIF89a")])
    write_shard(root / "train" / "3.tar", placeholder)
    return root


@pytest.fixture(scope="module")
def test_side(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    return embed(open_dataset(str(sets / "test")), TWO_VIEWS, tmp_path_factory.mktemp("e") / "test")


def settings_of(cap: int = 1000, floor: float = FLOOR) -> MatchSettings:
    return MatchSettings(floor, cap)


def joined(
    test: Embeddings, train: Path, out: Path, settings: MatchSettings | None = None, **more: Any
) -> Embeddings:
    join = fused.join_with(test, PLAIN, settings or settings_of(), Resources())
    return embed(open_dataset(str(train), "train"), PLAIN, out / "emb", sink=join, **more)


def matched(
    test: Embeddings, train: Path, out: Path, settings: MatchSettings | None = None
) -> Matches:
    side = joined(test, train, out, settings)
    return fused.merge(test, side, settings or settings_of(), out / "matches")


def stored_first(
    test: Embeddings, train: Path, out: Path, settings: MatchSettings | None = None
) -> Matches:
    side = embed(open_dataset(str(train), "train"), PLAIN, out / "kept")
    return match(test, side, settings or settings_of(), out / "matches")


def assert_same_tables(one: Matches, other: Matches) -> None:
    for name in ("pairs.parquet", "nearest.parquet"):
        assert (one.root / name).read_bytes() == (other.root / name).read_bytes(), name


def never(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
    assert not units, f"{len(units)} units were to be run"
    return iter(())


@pytest.mark.parametrize("cap", [1, 4, 7, 1000])
def test_the_tables_are_those_of_stored_vectors(
    sets: Path, test_side: Embeddings, tmp_path: Path, cap: int
) -> None:
    settings = settings_of(cap)
    expected = stored_first(test_side, sets / "train", tmp_path / "a", settings)
    found = matched(test_side, sets / "train", tmp_path / "b", settings)
    assert_same_tables(found, expected)
    assert found.manifest.config == expected.manifest.config
    assert found.manifest.counts == expected.manifest.counts
    assert set(found.pairs()["view"]) == {"identity", "mirror"}
    assert found.nearest()["pairs"].max() == 13
    assert found.nearest()["overflow"].any() == (cap < 13)


def test_no_vector_is_stored_and_all_else_is(
    sets: Path, test_side: Embeddings, tmp_path: Path
) -> None:
    kept = embed(open_dataset(str(sets / "train"), "train"), PLAIN, tmp_path / "kept")
    side = joined(test_side, sets / "train", tmp_path)
    assert side.sizes == kept.sizes == (6, 0, 10, 6)
    assert not list(side.root.rglob("*.npy"))
    whole, bare = tree(kept.root), tree(side.root)
    same = [name for name in whole if name.startswith(("metadata", "status"))]
    assert len(same) == 8
    assert all(whole[name] == bare[name] for name in same)
    assert set(bare) - set(same) == {
        "manifest.json", *(f"pairs/pairs_{n:06d}.parquet" for n in range(4)),
    }  # fmt: skip
    assert verify(side.root) == []
    assert side.manifest.counts == kept.manifest.counts


def test_a_second_run_embeds_and_joins_nothing(
    sets: Path, test_side: Embeddings, tmp_path: Path
) -> None:
    first = matched(test_side, sets / "train", tmp_path)
    side = joined(test_side, sets / "train", tmp_path, run_units=never)
    seen: list[int] = []
    again = fused.merge(test_side, side, settings_of(), tmp_path / "matches", on_part=seen.append)
    assert again.manifest == first.manifest
    assert seen == []


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    sets: Path, test_side: Embeddings, tmp_path: Path
) -> None:
    whole = joined(test_side, sets / "train", tmp_path / "whole")
    ran: list[int] = []

    def dying(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        for unit in units[::-1]:
            if len(ran) in (1, 3):
                ran.append(-1)
                raise KeyboardInterrupt
            ran.append(unit.part)
            yield from run_in_process(function, [unit])

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            joined(test_side, sets / "train", tmp_path, run_units=dying)
    side = joined(test_side, sets / "train", tmp_path, run_units=dying)
    assert sorted(part for part in ran if part >= 0) == [0, 1, 2, 3]
    assert tree(side.root) == tree(whole.root)


def test_pairs_that_were_lost_before_the_facts_were_written_are_found_again(
    sets: Path, test_side: Embeddings, tmp_path: Path
) -> None:
    expected = tree(joined(test_side, sets / "train", tmp_path).root)
    for gone in ("facts/part_000002.json", "pairs/pairs_000003.parquet"):
        (tmp_path / "emb" / gone).unlink()
    ran: list[int] = []

    def noting(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        ran.extend(unit.part for unit in units)
        return run_in_process(function, units)

    assert tree(joined(test_side, sets / "train", tmp_path, run_units=noting).root) == expected
    assert ran == [2, 3]


def test_only_changed_and_added_shards_are_joined_again(
    test_side: Embeddings, tmp_path: Path
) -> None:
    train = write_set(tmp_path / "train", [[1, 2, 3], [4], [5, 6]])
    matched(test_side, train, tmp_path)
    write_shard(train / "00001.tar", [sample("new", encoded(picture(8)))])
    write_shard(train / "00003.tar", [sample("added", encoded(picture(3)))])
    ran: list[int] = []

    def noting(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        ran.extend(unit.part for unit in units)
        return run_in_process(function, units)

    side = joined(test_side, train, tmp_path, run_units=noting)
    assert ran == [1, 3]
    found = fused.merge(test_side, side, settings_of(), tmp_path / "matches")
    assert_same_tables(found, stored_first(test_side, train, tmp_path / "fresh"))


def test_what_makes_the_shards_be_read_again_is_said(
    sets: Path, test_side: Embeddings, tmp_path: Path
) -> None:
    out = tmp_path / "emb"
    join = fused.join_with(test_side, PLAIN, settings_of(), Resources())
    assert fused.what_changed(out, join) is None
    joined(test_side, sets / "train", tmp_path)
    assert fused.what_changed(out, replace(join, memory=1)) is None
    assert fused.what_changed(out, replace(join, floor=0.5)) == "again, as the floor changed"
    other = replace(join, cap=3, test="other")
    words = "again, as the cap and the test set or its embeddings changed"
    assert fused.what_changed(out, other) == words
    again = settings_of(floor=0.5)
    expected = stored_first(test_side, sets / "train", tmp_path / "a", again)
    assert_same_tables(matched(test_side, sets / "train", tmp_path, again), expected)


# --- the join of one part ------------------------------------------------------------------------


def random_test(root: Path, sizes: Sequence[int]) -> Embeddings:
    views = {"arrays": random_parts(0, sizes, DIM), "mirrors": random_parts(1, sizes, DIM)}
    return embeddings(root, encoder=ENCODER, **views)


@pytest.mark.parametrize("memory", [1, exact.MEMORY])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_neither_memory_nor_plan_shows_in_the_pairs(
    tmp_path: Path, memory: int, precision: Any
) -> None:
    test = random_test(tmp_path / "test", [700, 0, 900])
    items = random_parts(2, [3000], DIM)[0]
    items[5:40] = test.vectors(2)[7]
    items[40:70] = -2 * test.vectors(0, "mirror")[9]
    join = fused.join_with(test, PLAIN, settings_of(20, 0.1), Resources(memory=memory))
    basis = Sketcher.of_width(16, directions(items), precision).basis
    plan = replace(join.plan, sketcher=Sketcher(DIM, basis, precision))
    found = replace(join, plan=plan, plan_digest=f"{precision} {memory}").find(items)
    assert list(found) == ["identity", "mirror"]
    for view, pairs in found.items():
        expected = exact.join(test.all_vectors(view), [items], 0.1, cap=20)
        assert len(pairs.query) > 1000
        for name, column in vars(expected).items():
            assert np.array_equal(getattr(pairs, name), column), name
    assert found["identity"].count.max() >= 35


def test_a_worker_without_the_device_of_the_plan_joins_on_its_own(tmp_path: Path) -> None:
    test = random_test(tmp_path / "test", [30])
    join = fused.join_with(test, PLAIN, settings_of(floor=0.1), Resources())
    far = replace(join, plan=replace(join.plan, device="cuda"), plan_digest="far")
    items = random_parts(2, [200], DIM)[0]
    here, there = (each.find(items)["mirror"] for each in (join, far))
    assert len(here.item) > 100
    assert np.array_equal(here.item, there.item)


def test_the_test_vectors_are_prepared_once_if_they_fit(tmp_path: Path) -> None:
    test = random_test(tmp_path / "test", [600])
    join = fused.join_with(test, PLAIN, settings_of(), Resources())
    assert join._queries() is join._queries()
    assert replace(join, cap=9)._queries() is not join._queries()
    small = replace(join, memory=1)
    assert small._queries() is not small._queries()
    assert [view for view, _ in small._queries()] == ["identity"] * 2 + ["mirror"] * 2


def test_sets_without_vectors_have_no_matches(
    sets: Path, test_side: Embeddings, tmp_path: Path
) -> None:
    nothing = random_test(tmp_path / "nothing", [0])
    found = matched(nothing, sets / "train", tmp_path / "a")
    assert found.nearest().height == found.pairs().height == 0
    write_shard(tmp_path / "empty" / "0.tar", [sample("a", b"")])
    found = matched(test_side, tmp_path / "empty", tmp_path / "b")
    assert found.pairs().height == 0
    assert found.nearest()["train_id"].is_null().all()
    assert_same_tables(found, stored_first(test_side, tmp_path / "empty", tmp_path / "c"))


# --- what is refused -----------------------------------------------------------------------------


def test_what_needs_the_vectors_is_told_how_to_get_them(
    sets: Path, test_side: Embeddings, tmp_path: Path
) -> None:
    side = parts.open_embeddings(joined(test_side, sets / "train", tmp_path).root)
    asking: list[Callable[[], object]] = [
        lambda: side.vectors(0),
        side.all_vectors,
        lambda: match(test_side, side, settings_of(), tmp_path / "m"),
        lambda: match(side, test_side, settings_of(), tmp_path / "m"),
        lambda: build_index(side, tmp_path / "index", kind="flat"),
        lambda: build_index(side, tmp_path / "index", kind="ivf"),
    ]
    for ask in asking:
        with pytest.raises(CurateError, match=r"emb: has no vectors.* run `curate embed` on its"):
            ask()


def test_a_test_set_of_another_encoder_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    others = {**ENCODER, "weights": "others"}
    test = embeddings(tmp_path / "test", random_parts(0, [3], DIM), encoder=others)
    with pytest.raises(CurateError, match="another version of builtin:layout"):
        fused.join_with(test, PLAIN, settings_of(), Resources())


def test_a_test_vector_without_direction_is_refused_before_any_image_is_read(
    tmp_path: Path,
) -> None:
    arrays = [np.zeros((2, DIM), np.float16)]
    test = embeddings(tmp_path / "test", arrays, encoder=ENCODER)
    with pytest.raises(CurateError, match="is zero or not finite"):
        fused.join_with(test, PLAIN, settings_of(), Resources())


def test_a_test_set_that_changes_during_the_run_fails_its_units(sets: Path, tmp_path: Path) -> None:
    test = random_test(tmp_path / "test", [3])
    join = fused.join_with(test, PLAIN, settings_of(), Resources())
    with pytest.raises(PartialRunError, match=r"4 of 4 units failed.*\n.*changed since the run"):
        embed(
            open_dataset(str(sets / "train")), PLAIN, tmp_path / "emb",
            sink=replace(join, test="another"),
        )  # fmt: skip


def test_a_damaged_file_of_pairs_is_named(
    sets: Path, test_side: Embeddings, tmp_path: Path
) -> None:
    side = joined(test_side, sets / "train", tmp_path)
    path = fused.pairs_path(side.root, 2)
    for column in ("query", "row"):
        table = tables.read_table(path, tables.FOUND)
        tables.write_table(path, table.with_columns(**{column: 10**6}), tables.FOUND)
        with pytest.raises(CurateError, match=r"pairs_000002\.parquet: names vectors"):
            fused.merge(test_side, side, settings_of(), tmp_path / "m")
        tables.write_table(path, table, tables.FOUND)
    path.write_bytes(b"PAR1")
    with pytest.raises(CurateError, match=r"pairs_000002\.parquet: not readable"):
        fused.merge(test_side, side, settings_of(), tmp_path / "m")


def test_units_can_be_sent_to_other_processes(
    sets: Path, test_side: Embeddings, tmp_path: Path
) -> None:
    import pickle

    sent: list[bytes] = []

    def sending(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        assert function is embed_unit
        sent.extend(pickle.dumps(unit) for unit in units)
        return run_in_process(function, [pickle.loads(unit) for unit in sent])

    joined(test_side, sets / "train", tmp_path, run_units=sending)
    assert len(sent) == 4
