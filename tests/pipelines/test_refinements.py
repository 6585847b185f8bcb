"""Views, whitening, normalised scores and hashes in the main job, from images to the split."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pictures import encoded, picture, sample, write_set, write_shard
from PIL import Image, ImageOps
from typer.testing import CliRunner

from curate.config import DedupConfig, make_config
from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed
from curate.encoders import EncoderSpec
from curate.errors import CurateError
from curate.splits import read_decisions
from curate.units import run_in_process
from pipelines.cli import app
from pipelines.dedup import DedupResult, run_dedup
from pipelines.execute import unit_runner

LETTERBOXED = ImageOps.expand(picture(11).resize((48, 32)), (0, 8), (0, 0, 0))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train pictures 10..19, one more squeezed; test: changed copies and pictures of their own."""
    root = tmp_path_factory.mktemp("sets")
    write_set(root / "train", [range(10, 15), range(15, 20)])
    write_shard(
        root / "train" / "more.tar", [sample("wide", encoded(picture(11).resize((48, 32))))]
    )
    write_shard(root / "test" / "0.tar", [
        sample("turned", encoded(picture(13).transpose(Image.Transpose.ROTATE_90))),
        sample("letterboxed", encoded(LETTERBOXED)),
        sample("repacked", encoded(picture(16), "BMP")),
        *(sample(f"new{n}", encoded(picture(n))) for n in range(40, 44)),
    ])  # fmt: skip
    write_set(root / "background", [range(200, 260)])
    return root


@pytest.fixture(scope="module")
def background(sets: Path) -> Path:
    spec = EncoderSpec("builtin:layout")
    embed(open_dataset(str(sets / "background")), EmbedSettings(spec), sets / "background-emb")
    return sets / "background-emb"


def run(sets: Path, out: Path, *, workers: int = 1, **more: Any) -> DedupResult:
    sides = {"test": (str(sets / "test"),), "train": (str(sets / "train"),), "out": out}
    config = make_config(DedupConfig, {"detector": "builtin:layout"} | sides | more, "here")
    if workers == 1:
        return run_dedup(config, run_in_process)
    with unit_runner(workers, None) as runner:
        return run_dedup(config, runner)


def found(result: DedupResult) -> dict[str, str]:
    """Key of each test item that is overlap, and the view that found it."""
    overlap = read_decisions(result.split).filter(decision="overlap")
    return dict(overlap.select("key", "view").rows())


def pairs(result: DedupResult) -> pl.DataFrame:
    return pl.read_parquet(result.matches / "pairs.parquet")


def test_views_that_are_asked_for_find_turned_and_letterboxed_copies(
    sets: Path, tmp_path: Path
) -> None:
    assert found(run(sets, tmp_path / "a")) == {"repacked": "identity"}
    more = run(sets, tmp_path / "b", views="identity,rot90,rot270,trim")
    assert found(more) == {"repacked": "identity", "turned": "rot270", "letterboxed": "trim"}
    assert more.summary["detector"]["views"] == ["identity", "rot90", "rot270", "trim"]


def test_a_file_that_was_repacked_has_the_same_pixels(sets: Path, tmp_path: Path) -> None:
    known = pairs(run(sets, tmp_path)).filter(pl.col("same").is_not_null())
    assert known.select("test_id", "same").rows() == [("0:repacked", "pixels")]


def test_hashes_are_detectors_like_any_other(sets: Path, tmp_path: Path) -> None:
    result = run(sets, tmp_path, detector="phash:phash", workers=2)
    assert found(result)["repacked"] == "identity"
    assert result.summary["threshold"] == 0.75
    scores = pairs(result)["score"].to_numpy()
    assert np.array_equal(scores, np.round(scores * 32) / 32)


@pytest.mark.parametrize("more", [{}, {"fused": True}, {"search": "flat"}, {"workers": 2}])
def test_normalised_scores_are_the_same_however_they_are_found(
    sets: Path, background: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    refined = {"background": background, "beta": 1.0, "threshold": 0.3, "floor": -0.2}
    plain = run(sets, tmp_path / "plain", **refined)
    other = run(sets, tmp_path / "other", **refined, **more)
    for name in ("pairs.parquet", "nearest.parquet"):
        assert (plain.matches / name).read_bytes() == (other.matches / name).read_bytes()
    cosines = pairs(run(sets, tmp_path / "cosines", floor=-1))
    both = pairs(plain).join(cosines, on=["test_id", "train_id", "view"], suffix="_cosine")
    assert both.height > 10
    assert (both["score"] < both["score_cosine"]).all()
    assert other.summary["detector"]["normalisation"]["vectors"] == 60


@pytest.mark.parametrize("more", [{}, {"fused": True}, {"beta": 1.0}])
def test_whitened_vectors_are_compared_with_their_like(
    sets: Path, background: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    refined = {"background": background, "whiten": True, "threshold": 0.6, "floor": 0.0}
    result = run(sets, tmp_path / "a", **refined, **more)
    again = run(sets, tmp_path / "b", **refined, **more, workers=2)
    overlap = found(result)
    assert overlap["repacked"] == "identity"
    assert not [key for key in overlap if key.startswith("new")]
    assert result.summary["detector"]["name"] == "builtin:layout+white"
    assert pairs(result).equals(pairs(again))


def test_whitened_and_plain_embeddings_are_not_mixed(
    sets: Path, background: Path, tmp_path: Path
) -> None:
    refined = {"background": background, "whiten": True, "threshold": 0.6}
    result = run(sets, tmp_path / "a", **refined)
    folder = next((tmp_path / "a" / "embeddings" / "train").iterdir())
    same = run(sets, tmp_path / "b", **refined, train=(str(folder),))
    assert pairs(same).equals(pairs(result))
    with pytest.raises(CurateError, match="embedded with whitening; give --whiten"):
        run(sets, tmp_path / "c", train=(str(folder),))
    with pytest.raises(CurateError, match="embedded without whitening"):
        run(sets, tmp_path / "d", **refined, train=(str(background),))
    np.save(tmp_path / "other.npy", np.random.default_rng(0).normal(size=(9, 128)))
    test = next((tmp_path / "a" / "embeddings" / "test").iterdir())
    with pytest.raises(CurateError, match="whitened by another background"):
        run(sets, tmp_path / "e", **refined | {"background": tmp_path / "other.npy"}, beta=1.0,
            test=(str(test),), train=(str(folder),))  # fmt: skip


def test_published_vectors_are_not_whitened(sets: Path, background: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "img_emb_0.npy", np.ones((3, 128), np.float16))
    with pytest.raises(CurateError, match=r"--whiten: .*taken as they are"):
        run(sets, tmp_path / "run", train=(str(tmp_path / "img_emb_0.npy"),), whiten=True,
            background=background, threshold=0.5, detector="builtin:layout")  # fmt: skip


class Tiles(torch.nn.Module):
    """Mean colours of tiles about their mean, of the width of SSCD's vectors."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tiles = torch.nn.functional.adaptive_avg_pool2d(images, [16, 16])[:, :2].flatten(1)
        return tiles - tiles.mean(dim=1, keepdim=True)


def test_a_torchscript_detector_runs_by_its_published_name(sets: Path, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Tiles()), tmp_path / "sscd.pt")
    result = run(sets, tmp_path / "run", detector="sscd:disc_mixup", weights=tmp_path / "sscd.pt")
    assert found(result)["repacked"] == "identity"
    assert result.summary["threshold"] == 0.75


# --- the command line ----------------------------------------------------------------------------


def test_the_detectors_are_listed_for_people_and_machines() -> None:
    text = CliRunner().invoke(app, ["detectors"])
    assert text.exit_code == 0
    assert "isc:ft_v107" in text.stdout
    assert "precision 0.9 at recall 0.02 on DataComp's copy test" in text.stdout
    told = json.loads(CliRunner().invoke(app, ["detectors", "--json"]).stdout)
    by_name = {each["encoder"]: each for each in told["detectors"]}
    assert by_name["sscd:disc_mixup"]["threshold"] == 0.75
    assert "mirror-shift-left" in told["views"]


def test_flags_reach_the_run(sets: Path, background: Path, tmp_path: Path) -> None:
    words = [
        "dedup", "--test", sets / "test", "--train", sets / "train", "--out", tmp_path / "run",
        "--views", "identity,trim", "--background", background, "--beta", "0.5",
        "--neighbours", "2", "--threshold", "0.4", "--no-report", "--json",
        "--detector", "builtin:layout",
    ]  # fmt: skip
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    detector = json.loads(done.stdout)["detector"]
    assert detector["views"] == ["identity", "trim"]
    assert (detector["normalisation"]["beta"], detector["normalisation"]["neighbours"]) == (0.5, 2)
    again = CliRunner().invoke(app, [str(word) for word in words if word != "--json"])
    assert "at normalised score >= 0.4 (builtin:layout)" in again.output


def test_a_set_is_embedded_with_the_views_that_are_asked_for(sets: Path, tmp_path: Path) -> None:
    out = tmp_path / "emb"
    words = [
        "embed",
        str(sets / "test"),
        "--out",
        str(out),
        "--views",
        "identity,rot90,mirror-zoom",
        "--detector",
        "builtin:layout",
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    folders = {path.name for path in out.iterdir() if path.name.startswith("img_emb")}
    assert folders == {"img_emb", "img_emb_rot90", "img_emb_mirror-zoom"}
    (sets / "test" / "1.tar").write_bytes((sets / "test" / "0.tar").read_bytes())
    assert CliRunner().invoke(app, words).exit_code == 0
    (sets / "test" / "1.tar").unlink()
    assert CliRunner().invoke(app, words).exit_code == 0
    assert [path.name for path in (out / "img_emb_rot90").iterdir()] == ["img_emb_rot90_000000.npy"]
