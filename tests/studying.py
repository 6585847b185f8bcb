"""Made-up results of the study of CIFAR-10."""

import json
from pathlib import Path
from typing import Any

from benchmarks.figures.results import Results


def rate(value: float, total: int) -> dict[str, Any]:
    return {"hits": round(value * total), "total": total, "value": value,
            "low": value - 0.01, "high": value + 0.01}  # fmt: skip


def row(model: str, setting: str, change: float, p: float, total: int = 1_000) -> dict[str, Any]:
    return {
        "model": model, "setting": setting, "full": rate(0.9, total),
        "clean": rate(0.9 - change, total - 60), "overlap": rate(0.95, 60),
        "control": rate(0.9, total - 60),
        "change": {"value": change, "low": change - 0.001, "high": change + 0.001},
        "p": p, "p_adjusted": p, "visible": 0.004,
        "random_removal": {"mean": 0.0, "low": -0.002, "high": 0.002, "p": p, "draws": 100},
    }  # fmt: skip


def difference(value: float, by_images: float, by_seeds: float) -> dict[str, float]:
    return {
        "value": value, "images_low": value - by_images, "images_high": value + by_images,
        "seeds_low": value - by_seeds, "seeds_high": value + by_seeds, "seeds_p": 0.5,
    }  # fmt: skip


def results(folder: Path, **changes: Any) -> Results:
    """A study with made-up figures."""
    change, p = changes.get("change", 0.006), changes.get("p", 0.001)
    apart = changes.get("apart", difference(0.03, 0.01, 0.02))
    accuracy = [
        row("builtin:tiny-clip", "cifar10", change, p),
        row("tecoa", "cifar10@pgd-20.eps4.native", change, p),
        row("builtin:tiny-clip", "cifar10.fog.5", 2 * change, p, total=100),
        row("all-seed-0", "cifar10", change, p),
    ]
    arms = {arm: {"images": 60, "seeds": [0.9, 0.91, 0.92], "mean": 0.91}
            for arm in ("all", "without", "control")}  # fmt: skip
    moved = {"value": 0.001, "low": -0.002, "high": changes.get("high", 0.002)}
    whole = {
        "command": "c", "machine": "m", "date": "d", "accuracy": accuracy,
        "detection": {
            "counts": {"copies": {"in": 1_000, "overlap": 60}, "leaks": {"overlap": 80}},
            "listed": 20,
        },
        "memory": {
            "seeds": 5,
            "first": {"seeds": 3, **difference(0.03, 0.01, 0.05)},
            "accuracy": {"overlap": arms, "clean": arms},
            "difference": {
                name: {"overlap": apart, "clean": difference(0, 0.1, 0.1)}
                for name in ("all less without", "all less control")
            },
        },
        "effective": {"rows": [{"model": "tecoa", "setting": "cifar10.fog.3", "change": moved}]},
    }  # fmt: skip
    (folder / "cifar10-study.json").write_text(json.dumps(whole), "utf-8")
    return Results(folder)


def in_one_line(text: str) -> str:
    return " ".join(text.split())
