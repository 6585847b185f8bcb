"""Tasks that have a benchmark of their own, which compares all methods in one process."""

from collections.abc import Sequence
from pathlib import Path

from curate.files import read_json

from .session import ROOT, Contestant, Finding, Session

ABOUT = ("command", "date", "machine")
"""What those benchmarks state of themselves and the row states already."""


def contestants() -> dict[str, Contestant]:
    """The rows of these tasks by name."""
    return {
        "faiss join": Contestant("join", None, join),
        "attack libraries": Contestant("attacks", "attacks", attacks),
        "plain TeCoA step": Contestant("train step", None, train_step),
    }


def join(session: Session, python: Path) -> Finding:
    """`benchmarks/join.py` on vectors like CLIP's: the join, full products, FAISS Flat and IVF."""
    few = session.images
    sizes = ("--queries", str(few), "--items", str(100 * few)) if few else ()
    return reused(session, python, "join.py", ("--kind", "clip", *sizes))


def attacks(session: Session, python: Path) -> Finding:
    """`benchmarks/attacks.py`: PGD and APGD of four libraries."""
    few = session.images or 512
    sizes = ("--images", str(few), "--batch", str(min(few, 128)))
    data = str((session.data / "cifar10" / "test").absolute())
    return reused(session, python, "attacks.py", ("--data", data, *sizes))


def train_step(session: Session, python: Path) -> Finding:
    """`benchmarks/train_step.py`: an adversarial update, ours and a straightforward one."""
    some = ("--models", "builtin:tiny-clip") if session.images else ()
    return reused(session, python, "train_step.py", some)


def reused(session: Session, python: Path, script: str, options: Sequence[str]) -> Finding:
    """Run another benchmark and take its figures over."""
    out = session.work / f"{script}.json"
    words = [str(ROOT / "benchmarks" / script), *options, "--out", str(out)]
    cost = session.run(python, words, offline=False)
    found = {key: value for key, value in read_json(out).items() if key not in ABOUT}
    return Finding(found, cost, session.shown(python, words), f"see {script}")
