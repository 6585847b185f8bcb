"""Published vectors behave like curate's own, wherever they are, and are not trusted."""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import polars as pl
import pytest
from made_up import ENCODER, embeddings, random_parts
from published_sets import laion_columns, publish, write_table
from servers import s3_server, web_server

from curate import artifacts, tables
from curate.errors import CurateError
from curate.files import read_json
from curate.index import build_index
from curate.matches import MatchSettings, match
from curate.parts import Embeddings
from curate.published import Published, open_vectors, write_reference
from curate.remote_matrix import RemoteMatrix

ARRAYS = random_parts(0, [5, 0, 3])
DETECTOR = "builtin:layout"


def opened(spec: str | Path | list[str], name: str | None = None) -> Published:
    side = open_vectors(spec, DETECTOR, name)
    assert isinstance(side, Published)
    return side


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("published") / "laion", ARRAYS, width=4)


@pytest.fixture(scope="module")
def web(root: Path) -> Iterator[str]:
    with web_server(root) as (address, _):
        yield f"{address}/img_emb/img_emb_{{0000..0002}}.npy"


@pytest.fixture(scope="module")
def bucket(root: Path) -> Iterator[str]:
    with s3_server("published") as url:
        fsspec.filesystem("s3").put(f"{root}/", f"{url}/laion/", recursive=True)
        yield f"{url}/laion/"


@pytest.fixture(scope="module")
def everywhere(root: Path, web: str, bucket: str) -> list[Published]:
    return [opened(root), opened(web, "laion"), opened(bucket)]


def test_every_place_gives_the_bits_and_rows_of_the_files(everywhere: list[Published]) -> None:
    whole = np.concatenate(ARRAYS)
    for side in everywhere:
        assert (side.name, side.count, side.dim, side.sizes) == ("laion", 8, 4, (5, 0, 3))
        for number, array in enumerate(ARRAYS):
            part = side.vectors(number)
            assert part.shape == array.shape
            assert part.dtype == array.dtype
            assert part[0 : len(array)].tobytes() == array.tobytes()
        assert side.view_parts()[2][np.array([2, 0])].tobytes() == ARRAYS[2][[2, 0]].tobytes()
        assert side.all_vectors().tobytes() == whole.tobytes()
        assert len(list(side.view_parts())) == 3
        assert side.all_metadata().equals(everywhere[0].all_metadata())
        assert side.all_status().schema == tables.STATUS
        assert set(side.all_status()["status"]) == {"success"}
        with pytest.raises(CurateError, match="no view 'mirror'"):
            side.vectors(0, "mirror")
    assert isinstance(everywhere[1].vectors(0), RemoteMatrix)
    assert isinstance(everywhere[0].vectors(0), np.memmap)


def test_a_worker_gets_a_set_that_reads_the_same(everywhere: list[Published]) -> None:
    for side in everywhere:
        side.vectors(0)[0:1]
        sent = pickle.loads(pickle.dumps(side))
        assert sent == side
        assert sent.vectors(2)[0:3].tobytes() == ARRAYS[2].tobytes()


def test_items_are_looked_up_by_their_number(everywhere: list[Published]) -> None:
    names = pl.Schema({"id": pl.String, "sha256": pl.String})
    for side in everywhere:
        found = side.lookup([6, 0, 4], names)
        expected = ["img_emb_0002:000000006", "img_emb_0000:000000000", "img_emb_0000:000000004"]
        assert found["id"].to_list() == expected
        digests = [laion_columns(n, 1)["sha256"][0] for n in (6, 0, 4)]
        assert found["sha256"].to_list() == digests


def test_ids_are_unique_in_the_set_though_keys_repeat_from_part_to_part(tmp_path: Path) -> None:
    columns = [{"key": ["a"] * len(array)} for array in ARRAYS]
    side = opened(publish(tmp_path / "set", ARRAYS, tables=columns))
    assert side.all_metadata()["id"].n_unique() == side.count


def test_a_run_knows_that_the_encoder_is_stated_and_how_parts_were_identified(
    everywhere: list[Published],
) -> None:
    local, web, bucket = (side.manifest.config for side in everywhere)
    for config in (local, web, bucket):
        assert config["encoder"] == {
            "name": DETECTOR, "dim": 4, "stated": "by the user; not verified",
        }  # fmt: skip
        assert config["ids"] == "part:key"
    assert local["identified_by"] == ["size; SHA-256 of the first, middle and last MiB"]
    assert "ETag" in web["identified_by"][0]
    assert "ETag" in bucket["identified_by"][0]
    assert "not verified" in everywhere[0].caution


def test_without_etags_the_manifest_says_how_little_was_known(root: Path) -> None:
    with web_server(root) as (address, faults):
        faults.tags = False
        side = opened(f"{address}/img_emb/img_emb_{{0000..0002}}.npy")
    assert "neither ETag nor time" in side.manifest.config["identified_by"][0]


def test_nobody_guesses_the_encoder(root: Path) -> None:
    with pytest.raises(CurateError, match="state it with --detector"):
        open_vectors(root)


def test_the_id_is_that_of_the_content_wherever_it_is_copied(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "elsewhere")
    assert opened(root).manifest.id == opened(tmp_path / "elsewhere").manifest.id
    assert opened(root, "other").manifest.id == opened(root).manifest.id


def test_a_change_anywhere_in_a_small_file_is_another_set(root: Path, tmp_path: Path) -> None:
    ids = {opened(root).manifest.id}
    for name in ("img_emb/img_emb_0002.npy", "metadata/metadata_0000.parquet"):
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(root, copy)
        if name.endswith(".npy"):
            np.save(copy / name, ARRAYS[2] + np.float16(1))
        else:
            write_table(copy / name, laion_columns(100, 5))
        ids.add(opened(copy).manifest.id)
    assert len(ids) == 3


def test_a_replaced_object_is_another_set(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "set")
    with web_server(tmp_path / "set") as (address, _):
        spec = f"{address}/img_emb/img_emb_{{0000..0002}}.npy"
        before = opened(spec)
        assert opened(spec).manifest.id == before.manifest.id
        np.save(tmp_path / "set" / "img_emb" / "img_emb_0002.npy", ARRAYS[2] + np.float16(1))
        assert opened(spec).manifest.id != before.manifest.id
        with pytest.raises(CurateError, match=r"img_emb_0002\.npy: replaced since it was opened"):
            before.vectors(2)[0:1]


def spoil_count(root: Path) -> None:
    write_table(root / "metadata" / "metadata_0.parquet", laion_columns(0, 4))


def spoil_width(root: Path) -> None:
    np.save(root / "img_emb" / "img_emb_2.npy", np.ones((3, 5), np.float16))


def spoil_type(root: Path) -> None:
    np.save(root / "img_emb" / "img_emb_2.npy", np.ones((3, 4), np.float32))


def spoil_end(root: Path) -> None:
    path = root / "img_emb" / "img_emb_2.npy"
    path.write_bytes(path.read_bytes()[:-1])


def spoil_naming(root: Path) -> None:
    write_table(root / "metadata" / "metadata_2.parquet", {"caption": ["a", "b", "c"]})


def spoil_table(root: Path) -> None:
    (root / "metadata" / "metadata_2.parquet").write_bytes(b"PAR1 and no more")


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "rows": (spoil_count, r"metadata_0\.parquet: 4 rows, but .*img_emb_0\.npy holds 5 vectors"),
    "width": (spoil_width, r"img_emb_2\.npy: width 5 .*img_emb_0\.npy has width 4"),
    "type": (spoil_type, r"img_emb_2\.npy: width 4 of type <f4, but .* of type <f2"),
    "cut": (spoil_end, r"img_emb_2\.npy: 151 bytes, but 3 vectors of width 4 take 152"),
    "naming": (spoil_naming, r"metadata_2\.parquet: no column 'key', which names"),
    "table": (spoil_table, r"metadata_2\.parquet: not readable as Parquet"),
}


@pytest.mark.parametrize("name", SPOILT)
@pytest.mark.parametrize("remote", [False, True])
def test_an_odd_part_is_named_before_anything_is_searched(
    tmp_path: Path, name: str, remote: bool
) -> None:
    spoil, words = SPOILT[name]
    spoil(publish(tmp_path, ARRAYS))
    with web_server(tmp_path) as (address, _):
        spec = f"{address}/img_emb/img_emb_{{0..2}}.npy" if remote else str(tmp_path)
        with pytest.raises(CurateError, match=words):
            opened(spec)


def test_a_part_that_is_not_there_is_named(root: Path) -> None:
    missing = pytest.raises(CurateError, match=r"img_emb_0003\.npy: nothing is there")
    with web_server(root) as (address, _), missing:
        opened(f"{address}/img_emb/img_emb_{{0003..0003}}.npy")
    with pytest.raises(CurateError, match=r"img_emb_0003\.npy: nothing is there"):
        opened([f"{root}/img_emb/img_emb_0003.npy"])


# --- the reference of a run ----------------------------------------------------------------------


def test_a_reference_opens_as_the_same_set_without_asking_any_server(
    root: Path, tmp_path: Path
) -> None:
    with web_server(root) as (address, faults):
        side = opened(f"{address}/img_emb/img_emb_{{0000..0002}}.npy", "laion")
        kept = write_reference(side, tmp_path / "laion")
        faults.asked.clear()
        again = open_vectors(tmp_path / "laion")
        assert isinstance(again, Published)
        assert (again.manifest.id, again.name, again.sizes, again.place, again.naming) == (
            side.manifest.id, "laion", side.sizes, side.place, side.naming,
        )  # fmt: skip
        assert faults.asked == []
        assert again.root == kept.root == tmp_path / "laion"
        assert again.all_metadata().equals(side.all_metadata())
        assert again.vectors(0)[0:5].tobytes() == ARRAYS[0].tobytes()
    assert artifacts.verify(tmp_path / "laion") == []


def test_a_reference_is_written_again_for_another_set(root: Path, tmp_path: Path) -> None:
    write_reference(opened(root), tmp_path / "ref")
    other = opened(publish(tmp_path / "laion", ARRAYS[:1]))
    write_reference(other, tmp_path / "ref")
    assert open_vectors(tmp_path / "ref").manifest.id == other.manifest.id


def test_a_local_file_that_was_written_again_is_not_taken_for_the_same(tmp_path: Path) -> None:
    root = publish(tmp_path / "laion", ARRAYS)
    write_reference(opened(root), tmp_path / "ref")
    write_reference(opened(root), tmp_path / "ref")
    os.utime(root / "img_emb" / "img_emb_0.npy", ns=(1, 1))
    with pytest.raises(CurateError, match=r"img_emb_0\.npy: .*give another --out"):
        write_reference(opened(root), tmp_path / "ref")
    kept = open_vectors(tmp_path / "ref")
    with pytest.raises(CurateError, match=r"img_emb_0\.npy: written again since the run"):
        kept.vectors(0)
    os.utime(root / "metadata" / "metadata_2.parquet", ns=(1, 1))
    with pytest.raises(CurateError, match=r"metadata_2\.parquet: written again"):
        kept.metadata(2)


def test_a_reference_that_was_altered_is_no_traceback(root: Path, tmp_path: Path) -> None:
    write_reference(opened(root), tmp_path / "ref")
    path = tmp_path / "ref" / "facts" / "published.json"
    path.write_text(path.read_text().replace('"rows"', '"lines"'))
    with pytest.raises(CurateError, match=r"published\.json: altered by hand"):
        open_vectors(tmp_path / "ref")


def test_curates_own_folders_open_as_before(tmp_path: Path) -> None:
    own = embeddings(tmp_path / "own", ARRAYS)
    assert open_vectors(own.root).manifest == own.manifest
    with pytest.raises(CurateError, match="not an embeddings folder"):
        open_vectors(tmp_path)
    with pytest.raises(CurateError, match=r"http://h/x: no vectors are there"):
        open_vectors("http://h/x")


# --- searched ------------------------------------------------------------------------------------


@pytest.fixture
def test_side(tmp_path: Path) -> Embeddings:
    return embeddings(tmp_path / "test", [ARRAYS[0][[3, 1]], ARRAYS[2][[2]]])


def test_the_same_pairs_are_found_as_in_curates_own_embeddings(
    test_side: Embeddings, everywhere: list[Published], tmp_path: Path
) -> None:
    own = match(
        test_side, embeddings(tmp_path / "own", ARRAYS), MatchSettings(0.2), tmp_path / "m"
    ).pairs()
    for number, side in enumerate(everywhere):
        train = side.attributed_to(test_side)
        assert train.manifest.id == side.manifest.id
        found = match(test_side, train, MatchSettings(0.2), tmp_path / f"{number}").pairs()
        columns = ["test_id", "score", "view", "rank"]
        assert found.select(columns).equals(own.select(columns))
        best = found.filter(pl.col("rank") == 1)["train_id"].to_list()
        assert best == [f"img_emb_{part:04d}:{n:09d}" for part, n in [(0, 3), (0, 1), (2, 7)]]


def test_only_the_encoder_that_was_stated_is_searched_with(tmp_path: Path, root: Path) -> None:
    side = opened(root)
    other = embeddings(tmp_path / "a", ARRAYS, encoder={**ENCODER, "name": "timm:other"})
    with pytest.raises(CurateError, match=r"different encoders \(timm:other, builtin:layout\)"):
        side.attributed_to(other)
    wide = embeddings(tmp_path / "b", random_parts(1, [2], dim=6))
    with pytest.raises(CurateError, match=r"vectors of width 6, but those of .*laion have 4"):
        side.attributed_to(wide)


def test_an_index_of_a_folder_serves_the_run_that_names_the_set_otherwise(
    root: Path, tmp_path: Path, test_side: Embeddings
) -> None:
    index = build_index(opened(root), tmp_path / "index")
    train = replace(opened(root, "other"), root=tmp_path).attributed_to(test_side)
    found = match(test_side, train, MatchSettings(0.2), tmp_path / "m", index=index)
    exact = match(test_side, train, MatchSettings(0.2), tmp_path / "e")
    assert found.pairs().equals(exact.pairs())


def test_manifests_state_no_place_and_no_time(root: Path, tmp_path: Path) -> None:
    write_reference(opened(root), tmp_path / "ref")
    text = (tmp_path / "ref" / "manifest.json").read_text()
    assert str(root) not in text
    stamps = [part["stamp"] for part in read_json(tmp_path / "ref/facts/published.json")["parts"]]
    assert all(stamp["tag"] not in text for stamp in stamps)
