"""Embedding at speed, and what decoding at a reduced size does to vectors and decisions."""

from typing import Any

from benchmarks.figures.markdown import table
from benchmarks.figures.results import Results


def embedding(results: Results) -> str:
    """Milliseconds by image of the forward pass, the run, a plain loop and a usual reader."""
    usual = results["embedding"]["usual_reader_ms"]
    rows = []
    for name, one in results["embedding"]["encoders"].items():
        runs, plain = [one["exact"], one["scaled"]], one["plain"]["run"]
        shown = [cell for run in runs for cell in _run(run)]
        faster = [f"{other / run['run']:.1f} x" for other in (plain, usual) for run in runs]
        rows.append([f"`{name}`", f"{one['forward']:.2f}", *shown, f"{plain:.2f}", *faster])
    head = ("encoder", "forward alone", "run, decoded whole", "of it forward", "run, scaled",
            "of it forward", "plain loop", "as fast as that, whole", "scaled",
            f"as fast as a usual reader ({usual:.2f}), whole", "scaled")  # fmt: skip
    return f"{table(head, rows)}\n\n{results.source('embedding')}"


def embedding_two_cores(results: Results) -> str:
    """Milliseconds of wall time by image where images are decoded beside the encoder."""
    rows = [
        [f"`{name}`", f"{one['forward']:.2f}", *_run(one["exact"]), *_run(one["scaled"])]
        for name, one in results["embedding-2-cores"]["encoders"].items()
    ]
    head = ("encoder", "forward alone, one core", "run, decoded whole", "of it forward",
            "run, scaled", "of it forward")  # fmt: skip
    return f"{table(head, rows)}\n\n{results.source('embedding-2-cores')}"


def _run(run: dict[str, float]) -> list[str]:
    return [f"{run['run']:.2f}", f"{100 * run['forward_share']:.1f} %"]


def scaled_decoding(results: Results) -> str:
    """Cosines to the exact path, and decisions by both."""
    rows = [
        [f"`{name}`", *_cosines(one["photos"]), *_cosines(one["copies"]),
         _decided(one["found"]), _decided(one["wrongly_flagged"])]
        for name, one in results["scaled-decoding"]["detectors"].items()
    ]  # fmt: skip
    head = ("detector", "photographs: least cosine", "1 % below", "mean", "edited: least cosine",
            "1 % below", "mean", "found, exact / scaled", "flagged wrongly")  # fmt: skip
    return f"{table(head, rows)}\n\n{results.source('scaled-decoding')}"


def _cosines(found: dict[str, float]) -> list[str]:
    return [f"{found[key]:.4f}" for key in ("q0", "q0.01", "mean")]


def _decided(found: dict[str, Any]) -> str:
    return f"{found['exact']:,} / {found['scaled']:,} of {found['of']:,}"


TABLES = (embedding, embedding_two_cores, scaled_decoding)
