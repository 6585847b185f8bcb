"""Embedding parts line up with their tables, and no bytes depend on how the work was done."""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encoded, picture, sample, tree, write_set, write_shard

from curate import artifacts
from curate.decode import decode_sample
from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed, source_of
from curate.encoders import EncoderSpec, TextEncoder, cached_encoder, load_encoder
from curate.errors import CurateError, PartialRunError
from curate.images import decode
from curate.parts import Embeddings
from curate.samples import Failure, image_member
from curate.shards import ShardReader
from curate.units import Outcome, run_in_process

LAYOUT = EncoderSpec("builtin:layout")
TWO_VIEWS = EmbedSettings(LAYOUT, ("identity", "mirror"))
SEEDS = ([1, 2, 3], [4], [5, 6, 7, 8])


def embedded(
    folder: Path, out: Path, settings: EmbedSettings = TWO_VIEWS, **more: Any
) -> Embeddings:
    return embed(open_dataset(str(folder), "set"), settings, out, **more)


def never(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
    assert not units, f"{len(units)} units were to be run"
    return iter(())


def test_every_vector_is_that_of_its_image(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS)
    found = embedded(root, tmp_path / "emb")
    encoder = load_encoder(LAYOUT)
    assert found.sizes == (3, 1, 4)
    rows = found.all_metadata()
    vectors = np.concatenate(list(found.view_parts()))
    assert vectors.dtype == np.float16
    images = {}
    dataset = source_of(found)
    for shard in dataset.shards:
        for item in ShardReader(dataset, shard):
            member = image_member(item)
            assert not isinstance(member, Failure)
            images[f"{shard.name}:{item.key}"] = decode(member.data or b"")
    assert list(images) == rows["id"].to_list()
    for id_, vector in zip(rows["id"], vectors, strict=True):
        alone = encoder.encode(encoder.preprocess(images[id_])[None])[0]
        assert np.array_equal(alone.astype(np.float16), vector)


def test_labels_captions_and_sizes_are_kept(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", [[4, 5]])
    row = embedded(root, tmp_path / "emb").all_metadata().row(1, named=True)
    assert row["id"] == "00000:000005"
    assert row["member"] == "000005.png"
    assert (row["label"], row["caption"]) == ("2", "picture 000005")
    assert (row["width"], row["height"]) == (48, 48)


def test_a_failure_is_a_status_row_and_no_vector(tmp_path: Path) -> None:
    rows = [
        sample("a", encoded(picture(1))),
        sample("b", b"no image"),
        sample("c", encoded(picture(2))),
    ]
    write_shard(tmp_path / "set" / "0.tar", rows)
    found = embedded(tmp_path / "set", tmp_path / "emb")
    status = found.all_status()
    assert status["status"].to_list() == ["success", "not_an_image", "success"]
    assert status["row"].to_list() == [0, None, 1]
    assert status["position"].to_list() == [0, 1, 2]
    assert found.all_metadata()["key"].to_list() == ["a", "c"]
    assert found.manifest.counts["status"] == {"success": 2, "not_an_image": 1}


def test_the_number_of_threads_and_the_order_of_units_change_no_byte(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS)

    def backwards(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        return run_in_process(function, units[::-1])

    embedded(root, tmp_path / "a")
    embedded(root, tmp_path / "b", threads=4, run_units=backwards)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_the_encoder_runs_while_the_next_batch_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch waits in the encoder until images of the second are decoded."""
    root = write_set(tmp_path / "set", [list(range(12))])
    spec = EncoderSpec("builtin:copy", batch_size=4)
    encoder = cached_encoder(spec)
    decoded: list[str] = []
    calls: list[int] = []

    def counted(*arguments: Any) -> Any:
        decoded.append(arguments[0].key)
        return decode_sample(*arguments)

    def encode(self: Any, batch: Any) -> Any:
        calls.append(len(batch))
        deadline = time.monotonic() + 30
        while len(calls) == 1 and len(decoded) < 8:
            assert time.monotonic() < deadline, "nothing was decoded meanwhile"
            time.sleep(0.005)
        return whole(self, batch)

    whole = type(encoder).encode
    monkeypatch.setattr(type(encoder), "encode", encode)
    monkeypatch.setattr("curate.decode.decode_sample", lambda *a, **k: counted(*a, *k.values()))
    found = embedded(root, tmp_path / "emb", EmbedSettings(spec), threads=2)
    assert calls == [4, 4, 4]
    assert found.sizes == (12,)


def test_an_error_of_the_encoder_in_its_thread_ends_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_set(tmp_path / "set", [[1, 2, 3]])
    encoder = cached_encoder(LAYOUT)

    def broken(_self: Any, _batch: Any) -> Any:
        raise CurateError("out of memory")

    monkeypatch.setattr(type(encoder), "encode", broken)
    with pytest.raises(PartialRunError, match="out of memory"):
        embedded(root, tmp_path / "emb", threads=2)
    assert not (tmp_path / "emb").exists()


def test_another_decoding_embeds_everything_anew_and_is_stated(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS)
    exact = embedded(root, tmp_path / "emb").manifest
    scaled = EmbedSettings(EncoderSpec("builtin:layout", decode="scaled"), TWO_VIEWS.views)
    found = embedded(root, tmp_path / "emb", scaled).manifest
    assert found.id != exact.id
    reduced = {"jpeg": {"decode": "scaled", "by": "DCT", "least_side": 64}}
    before = exact.config["encoder"]["preprocessing"]
    assert found.config["encoder"]["preprocessing"] == before | reduced
    assert embedded(root, tmp_path / "emb", scaled, run_units=never).manifest == found


def test_the_batch_size_changes_no_vector(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS)
    small = EmbedSettings(EncoderSpec("builtin:layout", batch_size=2), ("identity", "mirror"))
    one, two = embedded(root, tmp_path / "a"), embedded(root, tmp_path / "b", small)
    assert all(
        np.array_equal(a, b) for a, b in zip(one.view_parts(), two.view_parts(), strict=True)
    )


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS)
    embedded(root, tmp_path / "whole")
    ran: list[int] = []

    def dying(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        for unit in units:
            if len(ran) in (1, 2):
                ran.append(-1)
                raise KeyboardInterrupt
            ran.append(unit.part)
            yield from run_in_process(function, [unit])

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            embedded(root, tmp_path / "emb", run_units=dying)
        assert not (tmp_path / "emb").exists()
    embedded(root, tmp_path / "emb", run_units=dying)
    assert sorted(part for part in ran if part >= 0) == [0, 1, 2]
    assert tree(tmp_path / "emb") == tree(tmp_path / "whole")


def test_a_finished_set_is_reused_without_reading_it(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS)
    first = embedded(root, tmp_path / "emb")
    assert embedded(root, tmp_path / "emb", run_units=never).manifest == first.manifest


def test_only_changed_and_added_shards_are_embedded_again(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS)
    embedded(root, tmp_path / "emb")
    write_set(root, [SEEDS[0], [40], SEEDS[2], [9]])
    ran: list[int] = []

    def noting(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        ran.extend(unit.part for unit in units)
        return run_in_process(function, units)

    found = embedded(root, tmp_path / "emb", run_units=noting)
    assert {1, 3} <= set(ran)
    embedded(root, tmp_path / "fresh")
    assert tree(tmp_path / "emb") == tree(tmp_path / "fresh")
    assert artifacts.verify(tmp_path / "emb") == []
    assert found.sizes == (3, 1, 4, 1)


def test_an_untouched_shard_of_a_grown_set_is_not_read_again(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS[:2])
    embedded(root, tmp_path / "emb")
    write_set(tmp_path / "more", [[9], [10], [11]])
    (tmp_path / "more" / "00002.tar").rename(root / "00002.tar")
    ran: list[int] = []

    def noting(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        ran.extend(unit.part for unit in units)
        return run_in_process(function, units)

    assert embedded(root, tmp_path / "emb", run_units=noting).sizes == (3, 1, 1)
    assert ran == [2]
    (root / "00001.tar").unlink()
    assert embedded(root, tmp_path / "emb").sizes == (3, 1)
    assert artifacts.verify(tmp_path / "emb") == []


def test_other_settings_embed_everything_anew(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS)
    embedded(root, tmp_path / "emb")
    found = embedded(root, tmp_path / "emb", EmbedSettings(LAYOUT, dtype="float32"))
    assert found.vectors(0).dtype == np.float32
    assert not (tmp_path / "emb" / "img_emb_mirror").exists()


def test_a_shard_that_cannot_be_opened_leaves_the_others_done(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS)
    dataset = open_dataset(str(root), "set")
    (root / "00001.tar").rename(tmp_path / "away.tar")
    with pytest.raises(PartialRunError, match=r"00001\.tar"):
        embed(dataset, TWO_VIEWS, tmp_path / "emb")
    (tmp_path / "away.tar").rename(root / "00001.tar")
    ran: list[int] = []

    def noting(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        ran.extend(unit.part for unit in units)
        return run_in_process(function, units)

    embed(dataset, TWO_VIEWS, tmp_path / "emb", run_units=noting)
    assert ran == [1]


def test_a_cut_shard_keeps_its_good_samples_and_is_named(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS)
    path = root / "00002.tar"
    path.write_bytes(path.read_bytes()[:9_000])
    found = embedded(root, tmp_path / "emb")
    assert list(found.manifest.counts["damaged_shards"]) == ["00002"]
    assert 0 < found.sizes[2] < 4


def test_a_shard_without_any_image_has_an_empty_part(tmp_path: Path) -> None:
    write_shard(tmp_path / "set" / "0.tar", [sample("a", b"")])
    found = embedded(tmp_path / "set", tmp_path / "emb")
    assert found.vectors(0).shape == (0, found.dim)
    assert found.all_status().height == 1


def test_captions_need_an_encoder_that_reads(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", SEEDS)
    with pytest.raises(CurateError, match="reads no captions"):
        embedded(root, tmp_path / "emb", EmbedSettings(LAYOUT, captions=True))


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> EncoderSpec:
    """A real open_clip model, small and with random weights."""
    import open_clip

    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8, "head_width": 32}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    path = tmp_path_factory.mktemp("configs") / "tinytest-embed.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return EncoderSpec("open_clip:tinytest-embed/random")


def test_captions_are_embedded_beside_their_images(tmp_path: Path, tiny_clip: EncoderSpec) -> None:
    rows = [
        sample("a", encoded(picture(1))),
        sample("b", b"broken"),
        ("c", {"png": encoded(picture(2))}),
    ]
    write_shard(tmp_path / "set" / "0.tar", rows)
    settings = EmbedSettings(tiny_clip, dtype="float32", captions=True)
    found = embedded(tmp_path / "set", tmp_path / "emb", settings)
    texts = np.load(tmp_path / "emb" / "text_emb" / "text_emb_000000.npy")
    encoder = load_encoder(tiny_clip)
    assert isinstance(encoder, TextEncoder)
    assert found.all_metadata()["caption"].to_list() == ["picture a", None]
    assert np.array_equal(texts, encoder.encode_text(["picture a", ""]))
    assert texts.shape == found.vectors(0).shape


def test_embedding_reader_reads_what_is_written(tmp_path: Path) -> None:
    from embedding_reader import EmbeddingReader

    root = write_set(tmp_path / "set", SEEDS)
    found = embedded(root, tmp_path / "emb")
    folders = {"embeddings_folder": "img_emb", "metadata_folder": "metadata"}
    reader = EmbeddingReader(
        **{name: str(tmp_path / "emb" / folder) for name, folder in folders.items()},
        file_format="parquet_npy",
        meta_columns=["id", "caption"],
    )
    assert (reader.count, reader.dimension) == (8, found.dim)
    batches = list(reader(batch_size=3, start=0, end=8))
    vectors = np.concatenate([batch for batch, _ in batches])
    ids = [id_ for _, meta in batches for id_ in meta["id"]]
    assert np.array_equal(vectors, np.concatenate(list(found.view_parts())))
    assert ids == found.all_metadata()["id"].to_list()


@pytest.fixture
def silent_network(tmp_path: Path) -> EncoderSpec:
    """A network that gives a zero vector for dark images."""
    import torch

    class Dark(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3)).clamp(min=0)

    torch.jit.script(Dark()).save(str(tmp_path / "dark.pt"))
    return EncoderSpec(
        f"torchscript:{tmp_path / 'dark.pt'}?size=16&resize=square&mean=0.5,0.5,0.5&std=1,1,1"
    )


def test_a_vector_without_direction_is_a_failure_row(
    tmp_path: Path, silent_network: EncoderSpec
) -> None:
    from PIL import Image

    rows = [
        sample(name, encoded(Image.new("RGB", (20, 20), name)))
        for name in ("white", "black", "red")
    ]
    write_shard(tmp_path / "set" / "0.tar", rows)
    found = embedded(tmp_path / "set", tmp_path / "emb", EmbedSettings(silent_network))
    assert found.all_status()["status"].to_list() == ["success", "not_finite", "success"]
    assert np.isfinite(found.vectors(0)).all()


def test_random_interruptions_end_in_the_same_bytes(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", [[n] for n in range(12)])
    embedded(root, tmp_path / "whole")
    chance = random.Random(0)

    def flaky(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        for unit in units:
            if chance.random() < 0.3:
                raise KeyboardInterrupt
            yield from run_in_process(function, [unit])

    for _ in range(100):
        try:
            embedded(root, tmp_path / "emb", run_units=flaky)
            break
        except KeyboardInterrupt:
            continue
    assert tree(tmp_path / "emb") == tree(tmp_path / "whole")
