"""The review of a run: its pairs and images, found from its artifacts."""

from pathlib import Path

from curate import dedup
from curate.calibration.artifact import last_plan
from curate.embed import source_of
from curate.errors import CurateError
from curate.files import read_json
from curate.matches import PAIRS_FILE
from curate.parts import Embeddings
from curate.review import ReviewInputs
from curate.shards import Dataset
from curate.splits import SPLIT_FILE
from pipelines.runs import open_run


def review_inputs(run: Path, reviewer: str, threshold: float | None = None) -> ReviewInputs:
    """What `curate review` shows of a run.

    Args:
        run: a finished run of `curate dedup`.
        reviewer: whose labels are written.
        threshold: about which doubts are biggest; None: that of the run's last split.

    Raises:
        CurateError: the run is not finished, or the threshold lies below its floor.
    """
    found = open_run(run)
    floor = found.matches.manifest.config["floor"]
    if threshold is None:
        threshold = read_json(found.split / SPLIT_FILE)["threshold"]
    dedup.check_threshold(threshold, floor)
    return ReviewInputs(
        run=run,
        pairs=found.matches.root / PAIRS_FILE,
        test=_images_of(found.test),
        train=_images_of(found.train),
        names={"test": found.test.name, "train": found.train.name},
        threshold=threshold,
        floor=floor,
        reviewer=reviewer,
        plan=last_plan(run, found.matches.manifest.id),
    )


def _images_of(side: Embeddings) -> Dataset | str:
    """The images of a set, or why there are none: its labels can still be looked at."""
    try:
        return source_of(side)
    except CurateError:
        return "not where they were embedded" if side.manifest.kind == "embeddings" else "no images"
