"""Attacks and corruptions beside those of other libraries."""

from benchmarks.figures.markdown import table
from benchmarks.figures.results import Results

_LIBRARIES = ("torchattacks", "torchattack", "foolbox", "pyautoattack")
_SETS = {"cifar10": "cifar10", "photographs": "photographs"}
_WAYS = ("library", "apply", "plain", "made")


def attacks(results: Results) -> str:
    """Processor seconds of our loop, and how many times as long others take."""
    found = results["attacks"]
    rows = []
    for row in found["rows"]:
        ours = row["ours"]
        slower = [f"{row[name]['slower']:.2f} x" if name in row else "" for name in _LIBRARIES]
        theirs = [row[name]["robust"] for name in _LIBRARIES if name in row]
        span = " to ".join(dict.fromkeys(f"{one:.3f}" for one in (min(theirs), max(theirs))))
        own = [f"{ours['seconds']:.1f} s", f"{ours['robust']:.3f}", f"{ours['of_ideal']:.2f}"]
        rows.append([f"{row['attack']}, {row['eps']:g}/255", *own, *slower, span])
    named = [f"{name} {found['versions'][name]}" for name in _LIBRARIES]
    head = ("attack, radius", "ours", "robust", "ideal", *named, "their robust")
    return f"{table(head, rows)}\n\n{results.source('attacks')}"


def corruptions(results: Results) -> str:
    """Milliseconds for an image through all corruptions."""
    rows = []
    for name, text in _SETS.items():
        of = results["corruptions"]["sets"][name]
        rows.append([f"{text}, {of['images']}", *(f"{of['all'][way]:.0f}" for way in _WAYS)])
    usual, whole = "a usual script (decode, corrupt, store)", "ours, decoded, checked, stored"
    head = ("images", "library, image by image", "ours, pixels alone", usual, whole)
    return f"{table(head, rows)}\n\n{results.source('corruptions')}"


TABLES = (attacks, corruptions)
