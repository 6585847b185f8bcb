"""How the baselines that ship were made: from the ImageNet testbed's table of accuracies.

    python -m eval.figures.fit_testbed robustness_top1s.csv model_types.py testbed.json

Both files are from github.com/modestyachts/imagenet-testbed. Fitted are the models that it types as
STANDARD, without those trained on part of the data or in steps of a training study (names with
aws, batch64 or subsample), as its authors do.
"""

import re
import sys
from pathlib import Path

import polars as pl

from eval.figures.effective import PAIRS, fit, write_baselines

SOURCE = (
    "github.com/modestyachts/imagenet-testbed, robustness_top1s.csv (R. Taori et al., NeurIPS 2020)"
    ": top-1 accuracies in percent of its models of standard training"
)
_LEFT_OUT = ("aws", "batch64", "subsample")


def standard_models(types: str) -> set[str]:
    """Names of the models that the text of model_types.py types as STANDARD, less some studies."""
    found = re.findall(r"'([^']+)'\s*:\s*ModelTypes\.STANDARD\s*,", types)
    return {name for name in found if not any(word in name for word in _LEFT_OUT)}


def main(accuracies: Path, types: Path, out: Path) -> None:
    """Fit and write the baselines."""
    models = standard_models(types.read_text(encoding="utf-8"))
    columns = sorted({name for pair in PAIRS for name in (pair.x, pair.y)})
    table = pl.read_csv(accuracies).filter(pl.col("model").is_in(models))
    # as many decimals as are stored, so that the lines are those of the stored accuracies
    rounded = table.select("model", pl.col(columns).cast(pl.Float64).round(3)).sort("model")
    write_baselines(out, fit(rounded), SOURCE, "MIT")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
