"""Parquet tables whose rows are lost and whose footer is whole: polars panics over them."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl


def write_hollow(path: Path, columns: Iterable[str]) -> Path:
    texts = [str(number) * 100 for number in range(100)]  # more than a footer takes
    pl.DataFrame(dict.fromkeys(columns, texts)).write_parquet(path, compression="uncompressed")
    whole = path.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    path.write_bytes(b"PAR1" + whole[-footer:])
    return path
