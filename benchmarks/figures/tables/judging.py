"""Labels that a threshold needs, drawn look-alikes, and the page on which people judge."""

from benchmarks.figures.markdown import table
from benchmarks.figures.results import Results

_UNITS = 20_000
_ASKED = {
    "page": "the page",
    "pairs": "50 pairs",
    "next": "next pair",
    "label": "a label with its fsync",
    "pair": "a pair with all that its two images say",
    "image again": "an image seen before",
    "image, shard known": "an image of a known shard",
    "image, first look into its shard": "the first look into a shard",
}


def labels_needed(results: Results) -> str:
    """Labels until a precision is known to 2 points, by plan and by plain samples."""
    rows = [
        [row["truth"], *(f"{row[key]:,}" for key in (
            "plan", "plain_of_all_units", "plain_of_flagged_units"))]
        for row in results["calibration"]["labels_for_two_points"] if row["units"] == _UNITS
    ]  # fmt: skip
    head = ("truth", "`curate calibrate --plan`", "plain sample of all candidates",
            "plain sample of the flagged alone")  # fmt: skip
    return f"{table(head, rows)}\n\n{results.source('calibration')}"


def look_alikes(results: Results) -> str:
    """Planted copies and look-alikes of the painted pictures."""
    rows = [
        [f"`{row['detector']}`", f"{row['seed']}", f"{row['found']} of {row['planted']}",
         f"{row['wrongly_flagged']} of {row['others']}", f"{row['cpu_s']:.0f}",
         f"{row['peak_mb']:,}"]
        for row in results["look-alikes"]["runs"]
    ]  # fmt: skip
    head = ("detector", "seed", "copies found", "others flagged", "CPU s", "peak MB")
    return f"{table(head, rows)}\n\n{results.source('look-alikes')}"


def review_answers(results: Results) -> str:
    """Milliseconds of the answers of the page."""
    found = results["review-1m"]["milliseconds"]
    rows = [
        [text, *(f"{found[name][key]:.1f}" for key in ("p50", "p99", "max"))]
        for name, text in _ASKED.items()
    ]
    head = ("asked for", "median ms", "99 % within", "longest")
    return f"{table(head, rows)}\n\n{results.source('review-1m')}"


TABLES = (labels_needed, look_alikes, review_answers)
