"""Small trees in the shapes in which test sets are published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pictures import encoded, picture, sample, write_shard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import polars as pl

PNG = encoded(picture(0, 8))


def write_files(root: Path, paths: Iterable[str], data: bytes = PNG) -> Path:
    """The same bytes in many places."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def write_texts(root: Path, texts: Mapping[str, str]) -> Path:
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def write_clip_benchmark_set(
    root: Path, names: Sequence[str], labels: Sequence[int], per_shard: int = 3
) -> Path:
    """CLIP_benchmark's layout; the picture of a sample is drawn from its place."""
    rows = [sample(f"s{n:04d}", encoded(picture(n)), label) for n, label in enumerate(labels)]
    shards = [rows[start : start + per_shard] for start in range(0, len(rows), per_shard)]
    for number, shard in enumerate(shards):
        write_shard(root / "test" / f"{number}.tar", shard)
    write_texts(
        root,
        {
            "test/nshards.txt": f"{len(shards)}\n",
            "classnames.txt": "".join(f"{name}\n" for name in names),
            "zeroshot_classification_templates.txt": "a {c}.\nthe {c}!\n",
        },
    )
    return root


def by_id(items: pl.DataFrame) -> dict[str, int]:
    """Labels by item id."""
    return dict(items.select("id", "label").iter_rows())
