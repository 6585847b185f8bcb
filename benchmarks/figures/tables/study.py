"""The study of CIFAR-10: what was flagged, and what each figure owes to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.figures.markdown import bold, table, wrapped

if TYPE_CHECKING:
    from benchmarks.figures.results import Results

NAME = "cifar10-study"
LEVEL = 0.05
MODELS = {
    "builtin:tiny-clip": "tiny CLIP",
    "tecoa": "TeCoA, on cleaned",
    "tecoa-leaky": "TeCoA, on all",
    "prompt": "pixel prompt, on cleaned",
}
_ARMS = {
    "all": "all 50,000",
    "without": "without the {stripped} that test images have copies of",
    "control": "without {stripped} others of the same classes",
}
_SPLITS = {"overlap": "test images with copies", "clean": "all other test images"}


def study_detection(results: Results) -> str:
    """What each threshold flags, against the list and against eyes."""
    found = results[NAME]["detection"]
    rows = [
        [_chosen(f"{row['threshold']:g}", is_chosen=row["threshold"] == found["threshold"]),
         f"{row['flagged']}", _interval(row["recall_near"]), _interval(row["recall"]),
         _interval(row["precision"]), f"{row['judged']}", f"{row['not_on_the_list']}"]
        for row in found["sweep"]
    ]  # fmt: skip
    recalls = (f"recall of the {found['near_duplicates']}", f"recall of all {found['listed']}")
    head = ("threshold", "flagged", *recalls, "precision", "judged", "copies not on the list")
    return f"{table(head, rows)}\n\n{_source(results)}"


def study_flagged(results: Results) -> str:
    """What the detector finds, in words."""
    found = results[NAME]["detection"]
    at = next(row for row in found["sweep"] if row["threshold"] == found["threshold"])
    whole, stripped = found["counts"]["copies"], found["counts"]["leaks"]["overlap"]
    lacked = found["lacked"]
    return wrapped(
        f"At its threshold of {found['threshold']:g} the built-in detector flags "
        f"{whole['overlap']} of {whole['in']:,} test images "
        f"({percent(whole['overlap'] / whole['in'])}); they have {stripped} copies or "
        f"near-duplicates among the training images. The list names {found['listed']} test images "
        f"({percent(found['listed'] / whole['in'])}), {at['recall']['hits']} of which are "
        f"flagged. Of the {at['precision']['total']} flagged images on which the list or an eye "
        f"could decide, {at['precision']['hits']} are copies, so precision is "
        f"{_interval(at['precision'])}. {lacked['images']} of these copies are of test images that "
        f"the list does not have, {lacked['mirrored']} of them mirrored, of which it has none."
    )


def study_lacked(results: Results) -> str:
    """The best-scored copies whose test image the list lacks."""
    rows = [
        [f"{row['test_index']}", f"{row['train_index']}", f"{row['score']:.3f}", row["view"]]
        for row in results[NAME]["detection"]["lacked"]["first"]
    ]
    return table(("test image", "training image", "score", "view of the test image"), rows)


def study_accuracy(results: Results) -> str:
    """The settings that were measured on all test images, on each split."""
    rows = [
        [MODELS[row["model"]], f"`{row['setting']}`",
         *(_interval(row[split]) for split in ("full", "clean", "overlap", "control")),
         points(row["change"]), removal(row), p_value(row["p_adjusted"])]
        for row in measured_whole(results)
    ]  # fmt: skip
    head = ("model", "setting", "all", "clean", "overlap", "control", "all - clean",
            "random removal", "p")  # fmt: skip
    return f"{table(head, rows)}\n\n{_source(results)}"


def study_memory(results: Results) -> str:
    """Accuracy of models from scratch with and without the leaked training images."""
    found = results[NAME]["memory"]
    stripped = results[NAME]["detection"]["counts"]["leaks"]["overlap"]
    rows = [
        [_ARMS[arm].format(stripped=stripped),
         *(f"{percent(by[arm]['mean'])} ({', '.join(f'{100 * s:.1f}' for s in by[arm]['seeds'])})"
           for by in (found["accuracy"][split] for split in _SPLITS))]
        for arm in _ARMS
    ]  # fmt: skip
    head = ("trained on", *(
        f"{text} ({found['accuracy'][split]['all']['images']:,})" for split, text in _SPLITS.items()
    ))  # fmt: skip
    return f"{table(head, rows)}\n\n{_source(results)}"


def study_memory_differences(results: Results) -> str:
    """The differences of the arms, with both intervals."""
    found = results[NAME]["memory"]["difference"]
    rows = [
        [name, _SPLITS[split], f"{signed(one['value'])}",
         f"{signed(one['images_low'])} to {signed(one['images_high'])}",
         f"{signed(one['seeds_low'])} to {signed(one['seeds_high'])}"]
        for name, by in found.items() for split, one in by.items()
    ]  # fmt: skip
    head = ("difference", "on", "points", "95 %, other images", "95 %, other seeds")
    return table(head, rows)


def study_memory_words(results: Results) -> str:
    """What memory adds, in words."""
    return wrapped(_memory_words(results))


def _memory_words(results: Results) -> str:
    found = results[NAME]["memory"]
    one = found["difference"]["all less without"]["overlap"]
    other = found["difference"]["all less control"]["overlap"]
    share = results[NAME]["detection"]["counts"]["copies"]
    part = share["overlap"] / share["in"]
    gap = _gap(results[NAME])
    whole = gap + one["value"]
    return (
        f"Having trained on their copies adds {signed(one['value'])} points to the accuracy on "
        f"the test images that have copies; this {_verdict(one)}. Having trained on as many other "
        f"images adds {signed(other['value'])} there; this {_verdict(other)}. Over all test "
        f"images, {percent(part)} of which have copies, the first is worth "
        f"{signed(part * one['value'])} points. Models that never saw a copy are "
        f"{number(abs(gap))} points {'better' if gap >= 0 else 'worse'} on these images than "
        f"on the others, so of the {number(whole)} points by which they seem easier, "
        f"{number(one['value'])} are memory "
        "and the rest is that such pictures differ from others. "
        f"{found['first']['seeds']} of the {found['seeds']} seeds came first; with them the "
        f"interval over seeds is {signed(found['first']['seeds_low'])} to "
        f"{signed(found['first']['seeds_high'])}, and the others were added for its width."
    )


def study_effective(results: Results) -> str:
    """Effective robustness of the adapted models, on all and on clean images."""
    found = results[NAME]["effective"]
    rows = [
        [MODELS[row["model"]], f"`{row['setting']}`", points(row["full"]),
         points(row["clean"]), points(row["change"])]
        for row in found["rows"]
    ]  # fmt: skip
    head = ("model", "setting", "on all images", "on clean images", "change")
    return f"{table(head, rows)}\n\n{_source(results)}"


def study_lines(results: Results) -> str:
    """The lines of ordinary training."""
    rows = [
        [f"`{line['setting']}`", f"{line['slope']:.2f}", f"{line['intercept']:.2f}",
         f"{line['r2']:.3f}", f"{line['n']}"]
        for line in results[NAME]["effective"]["lines"]
    ]  # fmt: skip
    return table(("shift", "slope", "intercept", "R^2", "models"), rows)


def study_effective_words(results: Results) -> str:
    """Whether effective robustness moves, in words."""
    rows = results[NAME]["effective"]["rows"]
    moved = [row for row in rows if not row["change"]["low"] <= 0 <= row["change"]["high"]]
    largest = max(rows, key=lambda row: abs(row["change"]["value"]))
    said = (
        "none of the changes is told from zero by its 95 % interval"
        if not moved
        else f"{len(moved)} of {len(rows)} changes are told from zero by their 95 % intervals, "
        "without adjustment for their number"
    )
    return wrapped(
        f"Once near-duplicates are gone, effective robustness moves by at most "
        f"{number(abs(largest['change']['value']))} points, and {said}."
    )


def study_finding(results: Results) -> str:
    """The result of the whole study in a paragraph."""
    return wrapped(_finding(results))


def study_short(results: Results) -> str:
    """The result for the README."""
    return wrapped(_finding(results))


def _finding(results: Results) -> str:
    found = results[NAME]
    counts = found["detection"]["counts"]["copies"]
    rows = [row for row in measured_whole(results) if row["model"] == "builtin:tiny-clip"]
    clean = next(row for row in rows if row["setting"] == "cifar10")
    robust = next(row for row in measured_whole(results)
                  if row["model"] == "tecoa" and "@" in row["setting"])  # fmt: skip
    one = found["memory"]["difference"]["all less without"]["overlap"]
    gap = _gap(found)
    return (
        f"CIFAR-10's test set has {counts['overlap']} images "
        f"({percent(counts['overlap'] / counts['in'])}) with a near-duplicate in its training "
        f"set, more than twice the {found['detection']['listed']} of the published list. Without "
        f"them the accuracy of a small CLIP goes from {percent(clean['full']['value'])} to "
        f"{percent(clean['clean']['value'])} ({_change_words(clean)}), the robust accuracy of its "
        f"TeCoA version at 4/255 from {percent(robust['full']['value'])} to "
        f"{percent(robust['clean']['value'])} ({_change_words(robust)}). Models that are trained "
        "from scratch without the leaked training images "
        f"{'lose' if one['value'] >= 0 else 'gain'} {number(abs(one['value']))} points on the "
        f"test images that have copies; this {_verdict(one)}. Models that never saw a copy are "
        f"{number(abs(gap))} points {'better' if gap >= 0 else 'worse'} on these images than on "
        "the others, so what overlapping and clean images differ by is not memory alone."
    )


def _gap(study: dict[str, Any]) -> float:
    """By how much models that saw no copy are better on images with copies than on others."""
    accuracy = study["memory"]["accuracy"]
    overlap, clean = (float(accuracy[split]["without"]["mean"]) for split in ("overlap", "clean"))
    return overlap - clean


def _change_words(row: dict[str, Any]) -> str:
    sure = "significant" if is_sure(row) else "not significant"
    random = row["random_removal"]["p"] <= LEVEL
    return f"{sure}, and random removal does {'not ' if random else ''}move it as much"


# --- parts of the results -------------------------------------------------------------------------


def measured_whole(results: Results) -> list[dict[str, Any]]:
    """Results of named models on all test images."""
    total = results[NAME]["detection"]["counts"]["copies"]["in"]
    rows = [row for row in results[NAME]["accuracy"] if row["model"] in MODELS]
    whole = [row for row in rows if row["full"]["total"] == total]
    order = list(MODELS)
    return sorted(whole, key=lambda row: order.index(row["model"]))


def is_sure(row: dict[str, Any]) -> bool:
    return row["p_adjusted"] is not None and row["p_adjusted"] <= LEVEL


def _verdict(one: dict[str, float]) -> str:
    """Whether a difference is told from none, by images and by seeds."""
    by_images = not one["images_low"] <= 0 <= one["images_high"]
    by_seeds = not one["seeds_low"] <= 0 <= one["seeds_high"]
    if by_images and by_seeds:
        return "is significant, with other images and with other seeds in mind"
    if by_images:
        return "is significant for these models, but not with other seeds in mind"
    return "is not significant"


# --- cells ----------------------------------------------------------------------------------------


def _source(results: Results) -> str:
    return results.source(NAME).replace("](../", "](../../")


def _chosen(text: str, *, is_chosen: bool) -> str:
    return bold(text) if is_chosen else text


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(rate: dict[str, float]) -> str:
    return f"{100 * rate['value']:.1f} ({100 * rate['low']:.1f} to {100 * rate['high']:.1f})"


def signed(share: float) -> str:
    return f"{100 * share:+.2f}"


def number(share: float) -> str:
    return f"{100 * share:.2f}"


def points(number: dict[str, float]) -> str:
    ends = (signed(number[key]) for key in ("low", "high"))
    return f"{signed(number['value'])} ({' to '.join(ends)})"


def removal(row: dict[str, Any]) -> str:
    random = row["random_removal"]
    return f"{signed(random['low'])} to {signed(random['high'])}"


def p_value(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


TABLES = (
    study_detection,
    study_flagged,
    study_lacked,
    study_accuracy,
    study_memory,
    study_memory_differences,
    study_memory_words,
    study_effective,
    study_lines,
    study_effective_words,
    study_finding,
    study_short,
)
