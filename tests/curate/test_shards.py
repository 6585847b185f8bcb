"""Every layout is read and written by one set of rules: byte for byte, in order, nothing unseen."""

import hashlib
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import polars as pl
import pytest
import webdataset
from archives import END, entry, keys, statuses, tar_bytes
from pictures import encoded, picture, tree

from curate import shards
from curate.discover import open_dataset
from curate.errors import CurateError
from curate.samples import Limits, Sample
from curate.shards import Dataset, ShardReader

IMAGES = [encoded(picture(seed, 16)) for seed in range(6)]
ROWS = [("a.png", IMAGES[0]), ("a.cls", b"1"), ("README", b"read me"), ("b.png", IMAGES[1]),
        ("b.cls", b"0"), ("c.png", IMAGES[2]), ("c.cls", b"7")]  # fmt: skip

# --- one data set of each layout; the keys that hold an "a" are kept -----------------------------


def keeps(key: str) -> bool:
    return "a" in key


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def put_webdataset(root: Path) -> None:
    put(root / "0.tar", tar_bytes(ROWS))
    put(root / "sub" / "1.tar.gz", _gzipped(tar_bytes(ROWS)))


def _gzipped(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data)


def put_img2dataset(root: Path) -> None:
    put(root / "00000.tar", tar_bytes(ROWS))
    put(root / "00000_stats.json", b"{}")
    status = ["success", "failed_to_download", "success", "success", "success"]
    rows = {
        "key": ["a", "n", "b", "c", "d"], "url": list("vwxyz"), "status": status,
        "error_message": [None, "HTTP 404", None, None, None],
    }  # fmt: skip
    pl.DataFrame(rows).write_parquet(root / "00000.parquet")


def put_clip_benchmark(root: Path) -> None:
    put(root / "test" / "0.tar", tar_bytes(ROWS[:3]))
    put(root / "test" / "1.tar", tar_bytes(ROWS[3:]))
    put(root / "test" / "nshards.txt", b"2")
    put(root / "classnames.txt", b"owl\nfox\n")
    put(root / "zeroshot_classification_templates.txt", b"a photo of {c}\n")


def put_folder(root: Path) -> None:
    for number, name in enumerate(("cat/a.png", "cat/b.png", "dog/a.v2.png", "top.png")):
        put(root / name, IMAGES[number])
    put(root / "dog" / "a.v2.txt", b"a dog")
    put(root / "cat" / "LICENSE", b"free")


def put_parquet(root: Path) -> None:
    root.mkdir(parents=True)
    table = pl.DataFrame({"id": ["a", "b", "ab"], "image": IMAGES[:3], "label": [0, 1, 2]})
    table.write_parquet(root / "x.parquet")


def put_paths(root: Path) -> None:
    for number, name in enumerate(("a", "b", "c")):
        put(root / "img" / f"{name}.png", IMAGES[number])
    table = pl.DataFrame({"key": ["a", "b", "c"], "path": [f"img/{name}.png" for name in "abc"]})
    table.write_parquet(root / "x.parquet")


LAYOUTS = {
    "webdataset": put_webdataset, "img2dataset": put_img2dataset, "folder": put_folder,
    "clip_benchmark": put_clip_benchmark, "parquet": put_parquet, "paths": put_paths,
}  # fmt: skip


@pytest.fixture(params=LAYOUTS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    LAYOUTS[request.param](tmp_path / "set")
    return open_dataset(str(tmp_path / "set"))


def read(dataset: Dataset, number: int = 0) -> list[Sample]:
    return list(ShardReader(dataset, dataset.shards[number]))


def contents(dataset: Dataset) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Shard, key and the digest of every member, in order."""
    return [
        (
            shard.name,
            sample.key,
            [(m.name, hashlib.sha256(m.data or b"").hexdigest()) for m in sample.members],
        )
        for shard in dataset.shards
        for sample in ShardReader(dataset, shard)
    ]


def write(dataset: Dataset, out: Path, keep: Callable[[str], bool] = keeps) -> None:
    for shard in dataset.shards:
        shards.write_split(dataset, shard, out, keep)
    shards.write_side_files(dataset, out)


# --- splits --------------------------------------------------------------------------------------


def test_a_split_has_the_kept_samples_byte_for_byte_and_the_input_is_untouched(
    made: Dataset, tmp_path: Path
) -> None:
    before = tree(tmp_path / "set")
    write(made, tmp_path / "out")
    assert tree(tmp_path / "set") == before
    kept = [row for row in contents(made) if (not row[1] or keeps(row[1])) and row[2]]
    assert 0 < len(kept) < len(contents(made))
    assert contents(open_dataset(str(tmp_path / "out"))) == kept


def test_a_split_of_everything_and_of_nothing(made: Dataset, tmp_path: Path) -> None:
    whole = [(s, k, m) for s, k, m in contents(made) if m]
    sound = {key for _, key, _ in whole}
    write(made, tmp_path / "all", sound.__contains__)
    assert contents(open_dataset(str(tmp_path / "all"))) == whole
    write(made, tmp_path / "none", lambda _: False)
    images = [path for path in tree(tmp_path / "none") if path.endswith(".png")]
    assert images == []


def test_a_split_is_the_same_bytes_every_time(made: Dataset, tmp_path: Path) -> None:
    write(made, tmp_path / "one")
    write(made, tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_the_returned_reader_has_the_digest_of_the_first_reading(
    made: Dataset, tmp_path: Path
) -> None:
    for shard in made.shards:
        first = ShardReader(made, shard)
        assert list(first)
        again = shards.write_split(made, shard, tmp_path / "out", keeps)
        assert (again.sha256, again.size) == (first.sha256, first.size)
        assert again.error is None
        if shard.url.endswith("tar"):
            assert first.sha256 == hashlib.sha256(Path(shard.url).read_bytes()).hexdigest()


def test_a_split_of_clip_benchmark_is_one_again_and_webdataset_loads_it(tmp_path: Path) -> None:
    put_clip_benchmark(tmp_path / "set")
    dataset = open_dataset(str(tmp_path / "set"))
    assert [s.label for s in read(dataset) if not s.is_loose] == ["fox"]
    assert [s.label for s in read(dataset, 1)] == ["owl", "7"]
    write(dataset, tmp_path / "out")
    again = open_dataset(str(tmp_path / "out"))
    assert again.layout == "clip_benchmark"
    assert again.class_names == dataset.class_names
    assert (tmp_path / "out" / "test" / "nshards.txt").read_bytes() == b"2"
    assert (tmp_path / "out" / "zeroshot_classification_templates.txt").is_file()
    urls = [shard.url for shard in again.shards]
    rows = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert [(row["__key__"], row["png"]) for row in rows] == [("a", IMAGES[0])]


def test_failed_urls_are_rows_and_the_split_has_its_part_of_the_table(tmp_path: Path) -> None:
    put_img2dataset(tmp_path / "set")
    dataset = open_dataset(str(tmp_path / "set"))
    assert dataset.layout == "img2dataset"
    found = read(dataset)
    expected = {"n": "failed_to_download", "d": "missing", "a": None, "b": None, "c": None}
    assert {k: v for k, v in statuses(found).items() if k} == expected
    write(dataset, tmp_path / "out", lambda key: key == "b")
    table = pl.read_parquet(tmp_path / "out" / "00000.parquet")
    assert table.rows() == [("b", "x", "success", None)]


def test_a_sample_that_is_not_whole_is_never_kept(tmp_path: Path) -> None:
    data = entry(b"a.png", IMAGES[0]) + entry(b"a.txt", kind=b"2") + entry(b"b.png", b"1") + END
    put(tmp_path / "x.tar", data)
    dataset = open_dataset(str(tmp_path / "x.tar"))
    with pytest.raises(CurateError, match=r"x\.tar: sample a cannot be copied whole.*link"):
        write(dataset, tmp_path / "out")
    assert tree(tmp_path / "out") == {}
    write(dataset, tmp_path / "out", lambda key: key == "b")
    assert list(tree(tmp_path / "out")) == ["x.tar"]


# --- reading -----------------------------------------------------------------------------------


def test_keys_are_clean_and_unique_in_every_shard(tmp_path: Path) -> None:
    rows = [
        ("k.png", b"1"),
        ("l.png", b"2"),
        ("k.png", b"3"),
        ("a\nb.png", b"4"),
        ("\udcff.png", b""),
    ]
    put(tmp_path / "x.tar", tar_bytes(rows))
    assert keys(read(open_dataset(str(tmp_path / "x.tar")))) == ["k", "l", "k#2", r"a\nb", r"\xff"]


def test_damage_is_told_after_the_samples_before_it(tmp_path: Path) -> None:
    whole = tar_bytes(ROWS)
    put(tmp_path / "x.tar", whole[: whole.index(b"c.png") + 600])
    dataset = open_dataset(str(tmp_path / "x.tar"))
    reader = ShardReader(dataset, dataset.shards[0])
    assert statuses(reader) == {"a": None, "": None, "b": None, "c": "cut_short"}
    assert "beyond c.png" in str(reader.error)
    assert reader.sha256 == hashlib.sha256((tmp_path / "x.tar").read_bytes()).hexdigest()


def test_stored_images_are_found_by_id(made: Dataset) -> None:
    ids = [f"{shard}:{key}" for shard, key, members in contents(made) if key and members]
    found = shards.read_images(made, {*ids[::2], "none:x", "no colon", f"{made.shards[0].name}:?"})
    assert set(found) == set(ids[::2])
    assert all(data in IMAGES for data in found.values())


def test_a_missing_shard_is_a_clear_error(made: Dataset, tmp_path: Path) -> None:
    (tmp_path / "set").rename(tmp_path / "moved")
    for act in (read, lambda made: shards.signature(made, made.shards[0])):
        with pytest.raises(CurateError, match="set"):
            act(made)


def test_a_failing_disk_is_an_error_and_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def read(self, _size: int = -1) -> bytes:
            raise OSError(5, os.strerror(5))

        def close(self) -> None: ...

    put(tmp_path / "x.tar", tar_bytes(ROWS))
    monkeypatch.setattr(Path, "open", lambda *_args: Failing())
    with pytest.raises(CurateError, match=r"x\.tar: reading broke off.*Input/output error"):
        read(open_dataset(str(tmp_path / "x.tar")))


def test_numbers_become_class_names_only_where_there_are_some(tmp_path: Path) -> None:
    put_clip_benchmark(tmp_path / "set")
    put(tmp_path / "set" / "test" / "0.tar", tar_bytes([("a.png", b"1"), ("a.cls", b"9" * 5000)]))
    assert read(open_dataset(str(tmp_path / "set")))[0].label == "9" * 5000


# --- signatures ----------------------------------------------------------------------------------


def all_signatures(dataset: Dataset) -> list[str]:
    return [shards.signature(dataset, shard) for shard in dataset.shards]


def test_a_signature_changes_with_size_and_time_of_any_file_it_stands_for(
    made: Dataset, tmp_path: Path
) -> None:
    before = all_signatures(made)
    assert all_signatures(open_dataset(str(tmp_path / "set"))) == before
    watched = [Path(tmp_path / "set", name) for name in tree(tmp_path / "set")]
    owned = [
        p for p in watched if p.suffix in (".tar", ".gz", ".parquet", ".png") or p.stem == "a.v2"
    ]
    for path in owned:
        time = path.stat().st_mtime_ns
        os.utime(path, ns=(time, time + 1))
        assert all_signatures(made) != before
        os.utime(path, ns=(time, time))
        assert all_signatures(made) == before
        path.write_bytes(path.read_bytes() + b"\0")
        os.utime(path, ns=(time, time))
        if made.layout != "parquet" or path.suffix != ".parquet":  # it is not Parquet any more
            assert all_signatures(made) != before
        path.write_bytes(path.read_bytes()[:-1])
        os.utime(path, ns=(time, time))


def test_a_signature_changes_when_a_file_comes_or_goes(tmp_path: Path) -> None:
    put_folder(tmp_path / "set")
    dataset = open_dataset(str(tmp_path / "set"))
    before = all_signatures(dataset)
    put(tmp_path / "set" / "cat" / os.fsdecode(b"\xff.jpg"), b"1")
    assert [a == b for a, b in zip(before, all_signatures(dataset), strict=True)] == [
        True,
        False,
        True,
    ]


def test_sizes_for_plans_are_those_on_disk(made: Dataset) -> None:
    total = sum(shards.shard_bytes(made, shard) for shard in made.shards)
    assert total > 0


# --- URLs ----------------------------------------------------------------------------------------


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one tar under any name; `cut` of its bytes never come, whatever the header says."""

    body = tar_bytes([(f"{n:04d}.png", IMAGES[n % 6]) for n in range(400)])
    cut = 0
    stamp = "Mon, 01 Jan 2024 00:00:00 GMT"

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.send_header("Last-Modified", self.stamp)
        self.end_headers()

    def do_GET(self) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = self.body[int(first) : int(last or len(self.body)) + 1]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.body)}")
        self.end_headers()
        self.wfile.write(part[: max(0, len(part) - self.cut)])

    def log_message(self, *args: object) -> None: ...


@contextmanager
def serving(**settings: object) -> Iterator[str]:
    handler = type("Handler", (Server,), settings)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_shards_are_read_and_split_over_http(tmp_path: Path) -> None:
    with serving() as address:
        dataset = open_dataset(f"{address}/{{00000..00001}}.tar?token=x", "web")
        for number in range(2):
            assert len(read(dataset, number)) == 400
        write(dataset, tmp_path / "out", lambda key: key < "0010")
    assert contents(open_dataset(str(tmp_path / "out" / "00001.tar")))[9][1] == "0009"


def test_urls_of_every_file_system_give_the_same_samples(tmp_path: Path) -> None:
    path = put(tmp_path / "x.tar", tar_bytes(ROWS))
    fsspec.filesystem("memory").pipe("/shards/x.tar", path.read_bytes())
    local = open_dataset(str(path))
    for url in (f"file://{path}", "memory://shards/x.tar"):
        remote = open_dataset(url)
        assert contents(remote) == contents(local)
        assert all_signatures(remote) == all_signatures(remote)
        assert shards.shard_bytes(remote, remote.shards[0]) == 0
    fsspec.filesystem("memory").rm("/shards", recursive=True)


def test_a_server_that_stops_early_is_an_error(tmp_path: Path) -> None:
    for cut in (1, 5000, len(Server.body)):
        with serving(cut=cut) as address:
            dataset = open_dataset(f"{address}/x.tar")
            with pytest.raises(CurateError, match=r"x\.tar: .*(broke off|missing at its end)"):
                read(dataset)
            with pytest.raises(CurateError, match=r"x\.tar"):
                write(dataset, tmp_path / "out")
    assert tree(tmp_path / "out") == {}


def test_a_server_that_is_not_there_is_an_error() -> None:
    dataset = open_dataset("http://127.0.0.1:9/x.tar")
    with pytest.raises(CurateError, match=r"x\.tar: cannot be opened"):
        read(dataset)
    with pytest.raises(CurateError, match=r"x\.tar: cannot be reached"):
        all_signatures(dataset)


def test_a_remote_signature_changes_with_size_and_time() -> None:
    def state(**settings: object) -> str:
        with serving(**settings) as address:
            dataset = open_dataset(f"{address}/x.tar")
            one, two = all_signatures(dataset) + all_signatures(dataset)
            assert one == two
            return one

    newer = {"stamp": "Tue, 02 Jan 2024 00:00:00 GMT"}
    assert len({state(), state(**newer), state(body=b"x")}) == 3


def test_limits_hold_for_every_layout(made: Dataset) -> None:
    reader = ShardReader(made, made.shards[0], Limits(max_member_bytes=10))
    found = list(reader)
    assert "too_large" in statuses(found).values()
    assert all(len(member.data or b"") <= 10 for sample in found for member in sample.members)
