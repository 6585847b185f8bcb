from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from eval.figures.effective import PAIRS, expit, logit, read_baselines
from eval.figures.fit_testbed import main, standard_models

if TYPE_CHECKING:
    from pathlib import Path


def test_models_of_training_studies_are_not_standard() -> None:
    types = """
    'resnet50': ModelTypes.STANDARD,
    'resnet50_aws_baseline': ModelTypes.STANDARD,
    'resnet18_batch64': ModelTypes.STANDARD,
    'x_subsample_1_of_8' : ModelTypes.STANDARD,
    'resnet50_augmix': ModelTypes.ROBUST_INTV,
    """
    assert standard_models(types) == {"resnet50"}


def test_a_table_like_the_testbeds_gives_a_file_of_baselines(tmp_path: Path) -> None:
    names = [*(f"net{i}" for i in range(20)), "resnet50", "clip"]
    x = np.append(np.linspace(40, 90, 20), [65.0, 99.0])
    columns = sorted({name for pair in PAIRS for name in (pair.x, pair.y)})
    table = pl.DataFrame({"model": names, **dict.fromkeys(columns, x)})
    shifted = 100 * expit(0.5 * logit(x / 100) - 1)
    table = table.with_columns(pl.Series("imagenet-sketch", shifted))
    table.write_csv(tmp_path / "accuracies.csv")
    types = [
        f"'{name}': ModelTypes.{'MORE_DATA' if name == 'clip' else 'STANDARD'}," for name in names
    ]
    (tmp_path / "types.py").write_text("\n".join(types))
    main(tmp_path / "accuracies.csv", tmp_path / "types.py", tmp_path / "lines.json")
    found = {(item.x, item.y): item for item in read_baselines(tmp_path / "lines.json")}
    assert set(found) == {(pair.x, pair.y) for pair in PAIRS}
    line = found["val", "imagenet-sketch"].lines[0]
    assert (round(line.slope, 3), round(line.intercept, 3), line.n) == (0.5, -1.0, 21)
    assert "clip" not in found["val", "imagenet-sketch"].models
