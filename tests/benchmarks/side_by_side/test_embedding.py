"""Rates of embedding, and agreement with the vectors of another tool."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pictures import encoded, picture

from benchmarks.side_by_side import embedding
from benchmarks.side_by_side.costs import Cost
from benchmarks.side_by_side.inputs import Sample, write_tars
from benchmarks.side_by_side.session import Session
from curate.parts import open_embeddings


def test_what_starting_takes_is_no_part_of_the_rate() -> None:
    # 5 s to start, 10 ms an image; a wall clock of half of that
    few, many = Cost(4.0, 7.5, 0, 1, 1), Cost(8.0, 15.0, 0, 1, 1)
    found = embedding.rates(250, 1000, few, many)
    assert found == {
        "images": 1000, "images_per_cpu_s": 100.0, "images_per_wall_s": 187.5, "start_cpu_s": 5.0,
    }  # fmt: skip


def test_runs_too_short_to_tell_have_no_rate() -> None:
    few, many = Cost(4.0, 7.5, 0, 1, 1), Cost(4.5, 8.4, 0, 1, 1)
    assert embedding.rates(25, 100, few, many)["images_per_cpu_s"] is None


@pytest.fixture
def session(tmp_path: Path) -> Session:
    found: list[Sample] = [
        (f"{number:08d}", {"jpg": encoded(picture(number), "JPEG"), "json": b"{}"})
        for number in range(40)
    ]
    write_tars(found, tmp_path / "data" / "photos", 1)
    (tmp_path / "work").mkdir()
    return Session(tmp_path / "data", tmp_path / "work", tmp_path / "environments", None, None)


def test_the_first_run_has_a_quarter_of_the_images_of_each_kind(session: Session) -> None:
    quarter, whole = embedding.tars(session, "photos")
    assert (embedding.count(quarter), embedding.count(whole)) == (60, 240)
    assert len(list(whole.glob("*.tar"))) == embedding.SHARDS


def test_vectors_are_matched_by_key_and_not_by_row(session: Session) -> None:
    figures = embedding.curate(
        session, session.own_python, of="photos", encoder="builtin:layout", decode="exact"
    )
    assert figures.figures["images"] == 240
    ours = session.work / embedding.folder_of("builtin:layout", "photos")
    own = open_embeddings(ours)
    order = np.random.default_rng(0).permutation(own.count)
    theirs = session.work / "theirs"
    for name in ("img_emb", "metadata"):
        (theirs / name).mkdir(parents=True)
    np.save(theirs / "img_emb" / "img_emb_0.npy", 3 * np.asarray(own.all_vectors())[order])
    keys = own.all_metadata()["key"][order.tolist()]
    pl.DataFrame({"image_path": keys}).write_parquet(theirs / "metadata" / "metadata_0.parquet")
    assert embedding.agreement(ours, theirs) == {"mean": 1.0, "least": 1.0}
    swapped = keys.shuffle(seed=1)
    pl.DataFrame({"image_path": swapped}).write_parquet(theirs / "metadata" / "metadata_0.parquet")
    assert embedding.agreement(ours, theirs)["least"] < 0.9
